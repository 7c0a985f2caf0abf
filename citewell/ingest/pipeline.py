"""Documents to passages in the index: a generator pipeline, in constant memory, with one outcome a document.

Batches of documents are compared with the ledger by content hash; what is unchanged is skipped before it is split or
embedded. Ids are deterministic, so that running a load again resumes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import structlog

from citewell import language
from citewell.embed import passage_input
from citewell.errors import CitewellError, InvalidDocument
from citewell.ingest.sources import Item, failed
from citewell.ports import DocumentWrite, Embedder, Index
from citewell.records import Document, LedgerEntry, Outcome, Passage
from citewell.split import Splitter

log = structlog.get_logger(__name__)

BATCH_DOCUMENTS = 128
BATCH_CHARACTERS = 2_000_000


class Pipeline:
    """Splits, embeds and writes; holds no state between loads."""

    def __init__(
        self, index: Index, embedder: Embedder, splitter: Splitter, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.index = index
        self._embedder = embedder
        self._splitter = splitter
        self._clock = clock

    def run(
        self, items: Iterable[Item], source: str, followers: Callable[[], Sequence[Pipeline]] = tuple
    ) -> Iterator[Outcome]:
        """Outcomes in the order of the items, batch by batch; after the last, every write is visible to searches.

        An id that comes twice is written twice, so that the last one wins; the later outcome says so. `followers`
        are asked for before each batch and load what this one has loaded; what they cannot load is logged.
        """
        seen: set[int] = set()
        try:
            for batch in _batches(items):
                others = followers()
                outcomes = list(self._load(batch, source))
                for other in others:
                    other._follow(batch, outcomes, source)
                for outcome in outcomes:
                    key = hash(outcome.doc_id)  # 64 bits a document instead of its id
                    if key in seen and outcome.status != "failed":
                        note = "this id came before in the same load; the last one wins"
                        outcome = outcome.model_copy(update={"reason": note})  # noqa: PLW2901
                    seen.add(key)
                    yield outcome
        finally:
            self.index.flush()

    def copy(self, entries: Sequence[LedgerEntry]) -> dict[str, str]:
        """Load documents as another index version has them, hash and time included; reasons by id for what failed."""
        documents = [entry.document for entry in entries if entry.document is not None]
        errors = {entry.doc_id: "its text is not in the ledger" for entry in entries if entry.document is None}
        theirs = {entry.doc_id: entry for entry in entries}
        writes = self._prepare(documents, {doc_id: entry.content_hash for doc_id, entry in theirs.items()}, "")
        kept = [
            replace(write, entry=theirs[doc_id].model_copy(update={"passages": len(write.passages)}))
            for doc_id, write in writes.items()
        ]
        errors |= {result.doc_id: result.error for result in self.index.put(kept) if result.error}
        return errors

    def _follow(self, batch: Sequence[Item], outcomes: Sequence[Outcome], source: str) -> None:
        """Load what another pipeline loaded. That one's outcomes stand; what this one lacks its ledger shows."""
        failed_ids = {outcome.doc_id for outcome in outcomes if outcome.status == "failed"}
        documents = [item for item in batch if isinstance(item, Document) and item.id not in failed_ids]
        try:
            mine = list(self._load(documents, source))
            self.index.flush()
        except CitewellError as error:
            log.warning("version_left_behind", version=self.index.version, reason=error.message, remedy=error.remedy)
            return
        for outcome in mine:
            if outcome.status == "failed":
                log.warning("document_left_behind", doc_id=outcome.doc_id, reason=outcome.reason)

    def _load(self, batch: Sequence[Item], source: str) -> Iterator[Outcome]:
        documents = [self._with_language(item) for item in batch if isinstance(item, Document)]
        known = self.index.ledger([d.id for d in documents])
        hashes = {d.id: d.content_hash() for d in documents}
        changed = [d for d in documents if d.id not in known or known[d.id].content_hash != hashes[d.id]]
        writes = self._prepare(changed, hashes, source)
        results = {result.doc_id: result for result in self.index.put([w for w in writes.values() if w.passages])}
        for item in batch:
            if isinstance(item, Outcome):
                yield item
            elif item.id not in writes:
                yield Outcome(doc_id=item.id, status="unchanged", passages=known[item.id].passages, source=source)
            elif not writes[item.id].passages:
                error = InvalidDocument("the document has no words", remedy="Remove it, or give it text.")
                yield failed(item.id, source, error)
            elif results[item.id].error:
                error = InvalidDocument(
                    results[item.id].error, remedy="Mend what the index refused, then load it again."
                )
                yield failed(item.id, source, error)
            else:
                count = len(writes[item.id].passages)
                yield Outcome(
                    doc_id=item.id, status="changed" if item.id in known else "added", passages=count, source=source
                )

    @staticmethod
    def _with_language(document: Document) -> Document:
        lang = language.normalize(document.lang) or language.detect(document.text)
        return document.model_copy(update={"lang": lang})

    def _prepare(
        self, documents: Sequence[Document], hashes: Mapping[str, str], source: str
    ) -> dict[str, DocumentWrite]:
        """Split and embed; all passages of the batch go through the embedder together."""
        passages: dict[str, tuple[Passage, ...]] = {d.id: tuple(self._splitter.split(d)) for d in documents}
        flat = [passage for group in passages.values() for passage in group]
        vectors = self._embedder.embed_passages([passage_input(p) for p in flat])
        ends = np.cumsum([len(group) for group in passages.values()]).tolist()
        writes = {}
        for document, end in zip(documents, ends, strict=True):
            group = passages[document.id]
            entry = LedgerEntry(
                doc_id=document.id,
                content_hash=hashes[document.id],
                passages=len(group),
                lang=document.lang,
                source=source,
                revision=document.revision,
                indexed_at=self._clock(),
                document=document,
            )
            writes[document.id] = DocumentWrite(entry=entry, passages=group, vectors=vectors[end - len(group) : end])
        return writes


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Batches bounded in documents and in characters; no id stands twice in one batch."""
    batch: list[Item] = []
    ids: set[str] = set()
    characters = 0
    for item in items:
        repeated = isinstance(item, Document) and item.id in ids
        if batch and (repeated or len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS):
            yield batch
            batch, ids, characters = [], set(), 0
        batch.append(item)
        if isinstance(item, Document):
            ids.add(item.id)
            characters += len(item.text)
    if batch:
        yield batch
