"""A load whose documents are split, embedded and written by workers: `citewell ingest --distributed`.

The reader compares documents with the ledger, sends what is new or changed in batches, and gives back one outcome a
document in the order of the source, whatever the order in which batches end. At most `window` batches are under way.
Workers write documents without their revision; the reader adds it when everything before has arrived. So what is below
the greatest revision of the ledger is loaded, whoever is killed (docs/decisions/0012-loads-across-machines.md).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from citewell.errors import IndexUnavailable, InvalidDocument, from_json
from citewell.ingest.compare import Status, moved, status_of
from citewell.ingest.distributed_queue import IngestQueue
from citewell.ingest.distributed_sender import Note, Sender, Sending
from citewell.ingest.distributed_store import RedisBatches, Run
from citewell.ingest.pipeline import batches
from citewell.ingest.sources import Item, failed
from citewell.ingest.telling import Repeats
from citewell.ingest.telling import flush as flush_index
from citewell.library import Library
from citewell.ports import Index
from citewell.records import BatchResult, Document, LedgerEntry, Outcome

log = structlog.get_logger("citewell.ingest")

# A batch ends with the document that fills it. One that takes a worker half a minute is lost with it, at the worst.
BATCH_DOCUMENTS = 128
BATCH_BYTES = 256_000


@dataclass
class _Step:
    """Items that follow each other, with what the ledger had of them.

    `sent` are those that a worker writes, by id, and `status` what a load makes of these.
    """

    items: list[Item]
    known: Mapping[str, LedgerEntry]
    sent: dict[str, Document] = field(default_factory=dict)
    status: dict[str, Status] = field(default_factory=dict)
    number: int = 0
    result: BatchResult | None = None

    @property
    def done(self) -> bool:
        return not self.sent or self.result is not None


class DistributedShelf:
    """What a load needs of a library, with the work done by others."""

    def __init__(
        self, library: Library, store: RedisBatches, queue: IngestQueue, run: Run, sending: Sending, note: Note
    ) -> None:
        self._library = library
        self._store = store
        self._queue = queue
        self._run = run
        self._sending = sending
        self._note = note
        # The index did not take everything: what comes after must not look as if all before it were there.
        self._refused = False

    def index(self) -> Index:
        return self._library.index()

    def delete(self, doc_ids: Sequence[str]) -> list[Outcome]:
        return self._library.delete(doc_ids)

    def put(self, items: Iterable[Item], source: str) -> Iterator[Outcome]:
        """One outcome an item, in their order; afterwards every write is visible to searches.

        Raises `QueueUnavailable` without workers or Redis, and what workers raised of index or embedder. Closing it
        takes back what no worker has begun.
        """
        sender = Sender(self._store, self._queue, self._run, self._sending, self._note)
        repeats = Repeats()
        try:
            sender.start()
            for step in self._through(sender, items, source):
                for outcome in self._settled(step, source):
                    yield repeats.told(outcome)
        finally:
            sender.close()
            flush_index(self._library.index(), quiet=self._refused or sys.exc_info()[0] is not None)

    def _through(self, sender: Sender, items: Iterable[Item], source: str) -> Iterator[_Step]:
        """Steps that are done, in order, while later ones are read and sent."""
        steps: deque[_Step] = deque()
        try:
            for group in batches(items):
                ids = {item.id for item in group if isinstance(item, Document)}
                # An id that is on its way has to arrive before the ledger is asked for it.
                while any(not ids.isdisjoint(step.sent) for step in steps):
                    yield _oldest(sender, steps)
                for step in self._compared(group):
                    while sum(1 for other in steps if other.sent) >= self._sending.window:
                        yield _oldest(sender, steps)
                    if step.sent:
                        step.number = sender.send(map(_without_revision, step.sent.values()), source)
                    steps.append(step)
                    _fill(steps, sender.collect())
                    while steps and steps[0].done:
                        yield steps.popleft()
        except Exception:  # of the source or the ledger: what was read before is loaded all the same
            while steps:
                yield _oldest(sender, steps)
            raise
        while steps:
            yield _oldest(sender, steps)

    def _compared(self, items: Sequence[Item]) -> Iterator[_Step]:
        """The items with what the ledger says of them, each step as much as one batch may hold.

        While another version of the index is written to, workers look at everything: it may lack what this one has.
        """
        known = self._library.index().ledger([item.id for item in items if isinstance(item, Document)])
        everything = self._library.followed()
        step, size = _Step([], known), 0
        for item in items:
            if len(step.sent) >= BATCH_DOCUMENTS or size >= BATCH_BYTES:
                yield step
                step, size = _Step([], known), 0
            if isinstance(item, Document):
                status = status_of(known.get(item.id), item.content_hash())
                if everything or status != "unchanged":
                    try:
                        size += len(item.to_json())
                    except ValueError:  # half of a surrogate pair, which UTF-8 cannot spell
                        step.items.append(_unspeakable(item))
                        continue
                    step.sent[item.id], step.status[item.id] = item, status
            step.items.append(item)
        yield step

    def _settled(self, step: _Step, source: str) -> list[Outcome]:
        """The outcomes of a step, everything before which has arrived; writes revisions to the ledger."""
        result = step.result or BatchResult()
        if result.error:
            raise from_json({"error": result.error.get("error", result.error)}, 500)
        told = {outcome.doc_id: outcome for outcome in result.outcomes}
        entries = moved(step.items, step.known, step.sent, source)
        outcomes = []
        for item in step.items:
            if isinstance(item, Outcome):
                outcomes.append(item)
                continue
            origin = item.source or source
            if item.id not in step.sent:
                passages = step.known[item.id].passages
                outcomes.append(Outcome(doc_id=item.id, status="unchanged", passages=passages, source=origin))
                continue
            outcome = told.get(item.id) or _untold(item.id, origin)
            if outcome.status != "failed":
                # What an attempt wrote whose worker died then is unchanged to the next one.
                outcome = outcome.model_copy(update={"status": step.status[item.id]})
                if item.revision:
                    entries.append(LedgerEntry(doc_id=item.id, content_hash="", source=origin, revision=item.revision))
            self._refused = self._refused or outcome.code == IndexUnavailable.code
            outcomes.append(outcome)
        if self._refused:
            entries = [entry.model_copy(update={"revision": ""}) for entry in entries]
        if entries:
            self._library.index().amend(entries)
        return outcomes


def _oldest(sender: Sender, steps: deque[_Step]) -> _Step:
    while not steps[0].done:
        _fill(steps, sender.wait())
    return steps.popleft()


def _fill(steps: Iterable[_Step], results: Mapping[int, BatchResult]) -> None:
    for step in steps:
        if step.number in results:
            step.result = results[step.number]


def _without_revision(document: Document) -> Document:
    return document.model_copy(update={"revision": ""}) if document.revision else document


def _unspeakable(document: Document) -> Outcome:
    error = InvalidDocument("the document holds characters that are no Unicode text", remedy="Mend or remove them.")
    return failed(document.id, document.source, error, exact=True)


def _untold(doc_id: str, source: str) -> Outcome:
    error = InvalidDocument("its worker did not say what became of it", remedy="Load it again.")
    return failed(doc_id, source, error, exact=True)
