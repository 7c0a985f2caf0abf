"""Documents to passages in the index: a generator pipeline, in constant memory, with one outcome a document.

Batches of documents are compared with the ledger by content hash; what is unchanged is skipped before its language is
told, before it is split or embedded. Ids are deterministic, so that running a load again resumes it. Reading and
splitting (in the caller's thread), embedding and writing (in a thread each) go on at the same time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import structlog

from citewell import language
from citewell.embed import passage_input
from citewell.errors import CitewellError, IndexUnavailable, InvalidDocument
from citewell.ingest.compare import moved
from citewell.ingest.line import Line
from citewell.ingest.sources import Item, failed
from citewell.ingest.telling import Repeats
from citewell.ingest.telling import flush as flush_index
from citewell.memory import give_back
from citewell.ports import DocumentWrite, Embedder, Index, KeepsVectors, Vectors
from citewell.quoting import Quoting
from citewell.records import Document, LedgerEntry, Outcome, Passage
from citewell.split import Splitter

log = structlog.get_logger(__name__)

# Documents that are looked up in the ledger at once, and those of them that are embedded and written at once.
LOOKED_UP = 1000
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 2_000_000
# A source that is slower than this is loaded in smaller batches, so that embedding does not wait for it.
BATCH_SECONDS = 2.0
# One batch is written, one waits to be, one is embedded, one waits to be.
_INSIDE = 4
# Batches between two times that freed memory goes back to the system.
_BATCHES_BETWEEN_TRIMS = 4
# Passages embedded between two looks at whether the load was interrupted.
_EMBEDDED_AT_ONCE = 512
_NO_WORDS = "the document has no words"


@dataclass
class _Batch:
    """Items on their way: `passages` and `vectors` are of the documents that are new or changed, by id."""

    items: list[Item]
    known: Mapping[str, LedgerEntry]
    hashes: dict[str, str] = field(default_factory=dict)
    passages: dict[str, tuple[Passage, ...]] = field(default_factory=dict)
    vectors: dict[str, Vectors] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def changed(self) -> Iterator[Document]:
        return (item for item in self.items if isinstance(item, Document) and item.id in self.hashes)


class Pipeline:
    """Splits, embeds and writes; holds no state between loads."""

    def __init__(
        self,
        index: Index,
        embedder: Embedder,
        splitter: Splitter,
        quoting: Quoting | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.index = index
        self._embedder = embedder
        self._splitter = splitter
        self._clock = clock
        self._quoting = quoting

    def run(
        self,
        items: Iterable[Item],
        source: str,
        followers: Callable[[], Sequence[Pipeline]] = tuple,
        *,
        flush: bool = True,
    ) -> Iterator[Outcome]:
        """Outcomes in the order of the items, batch by batch; after the last, every write is visible to searches.

        An id that comes twice is written twice, so that the last one wins; the later outcome says so. `followers`
        are asked for before each batch is written and load what this one has loaded; what they cannot load is logged.
        Closing the generator waits for the batch that is being written and begins no other.
        """
        repeats = Repeats()
        stopped = threading.Event()
        write = partial(self._write_all, source=source, followers=followers, gap=threading.Event())
        line: Line[_Batch] = Line((partial(self._embed, stopped=stopped), write), stopped)
        try:
            for number, batch in enumerate(self._through(line, items)):
                if number % _BATCHES_BETWEEN_TRIMS == 0:
                    give_back()
                for outcome in batch.outcomes:
                    yield repeats.told(outcome)
        finally:
            line.close()
            if flush:
                flush_index(self.index, quiet=sys.exc_info()[0] is not None)

    def copy(self, entries: Sequence[LedgerEntry]) -> dict[str, str]:
        """Load documents as another index version has them, hash and time included; reasons by id for what failed."""
        documents: list[Item] = [entry.document for entry in entries if entry.document is not None]
        errors = {entry.doc_id: "its text is not in the ledger" for entry in entries if entry.document is None}
        theirs = {entry.doc_id: entry for entry in entries}
        batch = _Batch(documents, theirs, {entry.doc_id: entry.content_hash for entry in entries})
        for document in batch.changed():
            batch.passages[document.id] = self._split(document, theirs[document.id].lang)
        self._embed(batch)
        writes = []
        for doc_id, passages in batch.passages.items():
            entry = theirs[doc_id].model_copy(update={"passages": len(passages)})
            writes.append(DocumentWrite(entry, passages, batch.vectors[doc_id]))
        errors |= {result.doc_id: result.error for result in self.index.put(writes) if result.error}
        return errors

    def keeps_vectors(self) -> bool:
        return isinstance(self._embedder, KeepsVectors) and self._embedder.forget([]) is not None

    def forget(self, entry: LedgerEntry) -> int:
        """Drop the vectors that are kept of a document's passages; how many there are then."""
        if entry.document is None or not isinstance(self._embedder, KeepsVectors):
            return 0
        texts = [passage_input(passage) for passage in self._split(entry.document, entry.lang)]
        return self._embedder.forget(texts) or 0

    # Steps

    def _through(self, line: Line[_Batch], items: Iterable[Item]) -> Iterator[_Batch]:
        """Batches that have been written, in order, while later ones are read, split and embedded."""
        try:
            for looked_up in batches(items):
                ids = {item.id for item in looked_up if isinstance(item, Document)}
                # An id that is on its way has to arrive before the ledger is asked for it.
                while any(not ids.isdisjoint(batch.hashes) for batch in line):
                    yield line.get()
                for batch in self._compared(looked_up):
                    while len(line) >= _INSIDE:
                        yield line.get()
                    self._split_all(batch)
                    line.put(batch)
                    while line.ready():
                        yield line.get()
        except Exception:  # of the source or the ledger: what was read before is loaded all the same
            while len(line):
                yield line.get()
            raise
        while len(line):
            yield line.get()

    def _compared(self, items: Sequence[Item]) -> Iterator[_Batch]:
        """The items with what the ledger says of them, in batches of few changed documents."""
        known = self.index.ledger([item.id for item in items if isinstance(item, Document)])
        batch = _Batch([], known)
        for item in items:
            if len(batch.hashes) >= BATCH_DOCUMENTS:
                yield batch
                batch = _Batch([], known)
            batch.items.append(item)
            if isinstance(item, Document):
                digest = item.content_hash()
                if item.id not in known or known[item.id].content_hash != digest:
                    batch.hashes[item.id] = digest
        yield batch

    def _split_all(self, batch: _Batch) -> None:
        for document in batch.changed():
            lang = language.normalize(document.lang) or language.detect(document.text)
            batch.passages[document.id] = self._split(document, lang)

    def _split(self, document: Document, lang: str) -> tuple[Passage, ...]:
        return tuple(self._splitter.split(document.model_copy(update={"lang": lang})))

    def _embed(self, batch: _Batch, stopped: threading.Event | None = None) -> None:
        """All passages of the batch together; ends early, with the batch unfit to be written, once `stopped` is set."""
        texts = [passage_input(passage) for group in batch.passages.values() for passage in group]
        found = [self._embedder.embed_passages([])] if not texts else []
        for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
            if stopped is not None and stopped.is_set():
                return
            found.append(self._embedder.embed_passages(texts[start : start + _EMBEDDED_AT_ONCE]))
        vectors = np.concatenate(found)
        end = 0
        for doc_id, group in batch.passages.items():
            start, end = end, end + len(group)
            batch.vectors[doc_id] = vectors[start:end]

    def _write_all(
        self, batch: _Batch, *, source: str, followers: Callable[[], Sequence[Pipeline]], gap: threading.Event
    ) -> None:
        """`gap` is set once the index did not take a document: what comes behind it then has no revision in the ledger.

        A source that asks for what is new would take the greatest one for the place up to which everything is there.
        """
        others = followers()
        if gap.is_set():
            batch.items = [
                item.model_copy(update={"revision": ""}) if isinstance(item, Document) else item for item in batch.items
            ]
        self._write(batch, source)
        if not gap.is_set() and any(outcome.code == IndexUnavailable.code for outcome in batch.outcomes):
            gap.set()
            self._without_revisions(batch)
        for other in others:
            other._follow(batch, source)

    def _without_revisions(self, batch: _Batch) -> None:
        written = [outcome for outcome in batch.outcomes if outcome.status != "failed" and outcome.source]
        try:
            self.index.amend(
                [LedgerEntry(doc_id=outcome.doc_id, content_hash="", source=outcome.source) for outcome in written]
            )
        except IndexUnavailable as error:
            log.warning("revisions_stay", reason=error.message, remedy="Load the source once without `--since`.")

    def _write(self, batch: _Batch, source: str) -> None:
        errors = self._written_with_answers(batch, source)
        for item in batch.items:
            if isinstance(item, Outcome):
                batch.outcomes.append(item)
                continue
            origin = item.source or source
            if error := errors.get(item.id):
                batch.outcomes.append(failed(item.id, origin, error))
            elif item.id not in batch.hashes:
                passages = batch.known[item.id].passages
                batch.outcomes.append(Outcome(doc_id=item.id, status="unchanged", passages=passages, source=origin))
            else:
                status: Literal["changed", "added"] = "changed" if item.id in batch.known else "added"
                count = len(batch.passages[item.id])
                batch.outcomes.append(Outcome(doc_id=item.id, status=status, passages=count, source=origin))

    def _written_with_answers(self, batch: _Batch, source: str) -> dict[str, CitewellError]:
        """Write the batch, and remove the answers that quote what it changes; announced first, so that a kill between
        the two is made good by the next who opens the index.
        """
        changed = [doc_id for doc_id in batch.hashes if doc_id in batch.known]
        if not changed or self._quoting is None:
            return self._written(batch, source)
        self._quoting.begin(changed)
        errors = self._written(batch, source)
        try:
            self.index.flush()
            self._quoting.end(self.index, changed)
        except IndexUnavailable as error:  # the outcomes have told; what was announced is settled later
            log.warning("answers_not_compared", reason=error.message, remedy=error.remedy)
        return errors

    def _written(self, batch: _Batch, source: str) -> dict[str, CitewellError]:
        """Write the batch; what went wrong by document. An index that takes nothing fails each of them by name."""
        errors: dict[str, CitewellError] = {}
        elsewhere = moved(batch.items, batch.known, batch.hashes, source)
        try:
            self.index.amend(elsewhere)
        except IndexUnavailable as error:
            errors |= {entry.doc_id: error for entry in elsewhere}
        writes = self._writes(batch, source)
        empty = batch.hashes.keys() - {write.entry.doc_id for write in writes}
        errors |= dict.fromkeys(empty, InvalidDocument(_NO_WORDS, remedy="Remove it, or give it text."))
        try:
            results = self.index.put(writes) if writes else []
        except IndexUnavailable as error:
            return errors | {write.entry.doc_id: error for write in writes}
        for result in results:
            if result.error and result.later:
                errors[result.doc_id] = IndexUnavailable(result.error, remedy="Load it again in a while.")
            elif result.error:
                errors[result.doc_id] = InvalidDocument(
                    result.error, remedy="Mend what the index refused, then load it again."
                )
        return errors

    def _writes(self, batch: _Batch, source: str) -> list[DocumentWrite]:
        """What the index is to hold; documents without words are left out."""
        now = self._clock()
        writes = []
        for document in batch.changed():
            if passages := batch.passages[document.id]:
                entry = LedgerEntry(
                    doc_id=document.id,
                    content_hash=batch.hashes[document.id],
                    passages=len(passages),
                    lang=passages[0].lang,
                    source=document.source or source,
                    revision=document.revision,
                    indexed_at=now,
                    document=document,
                )
                writes.append(DocumentWrite(entry, passages, batch.vectors[document.id]))
        return writes

    def _follow(self, leader: _Batch, source: str) -> None:
        """Load what another pipeline loaded. That one's outcomes stand; what this one lacks its ledger shows."""
        failed_ids = {outcome.doc_id for outcome in leader.outcomes if outcome.status == "failed"}
        documents = [item for item in leader.items if isinstance(item, Document) and item.id not in failed_ids]
        mine: list[Outcome] = []
        try:
            for batch in self._compared(documents):
                self._split_all(batch)
                self._embed(batch)
                self._write(batch, source)
                mine += batch.outcomes
            self.index.flush()
        except CitewellError as error:
            log.warning("version_left_behind", version=self.index.version, reason=error.message, remedy=error.remedy)
            return
        for outcome in mine:
            if outcome.status == "failed":
                log.warning("document_left_behind", doc_id=outcome.doc_id, reason=outcome.reason)


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Batches bounded in documents, characters and the time that reading them takes; no id stands twice in one.

    What the items raise comes after the batch of those before.
    """
    batch: list[Item] = []
    ids: set[str] = set()
    characters = 0
    begun = time.monotonic()
    try:
        for item in items:
            repeated = isinstance(item, Document) and item.id in ids
            full = len(batch) >= LOOKED_UP or characters >= BATCH_CHARACTERS or time.monotonic() - begun > BATCH_SECONDS
            if batch and (repeated or full):
                yield batch
                batch, ids, characters, begun = [], set(), 0, time.monotonic()
            batch.append(item)
            if isinstance(item, Document):
                ids.add(item.id)
                characters += len(item.text)
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
