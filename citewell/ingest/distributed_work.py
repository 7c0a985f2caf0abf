"""What an ingest worker does with one batch: lease it, load it, say what became of each document.

A batch that ended its workers is loaded document by document at its last attempt, and what is done is written down
before the next one is begun. So the document that does the harm is known by name, and fails alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import structlog

from citewell.errors import CitewellError, InvalidDocument, LeaseLost, QueueUnavailable, Unavailable
from citewell.ingest.distributed_store import BatchLease, RedisBatches
from citewell.ingest.sources import failed
from citewell.leasing import Renewal, patiently
from citewell.records import BatchMessage, BatchResult, Document, Outcome

log = structlog.get_logger("citewell.ingest")

# Redis or an index that is away for longer than this is given up: the batch goes to another worker, or the load ends.
_PATIENCE_S = 30.0
# Workers that one batch may end, in attempts of one document; then what is left of it fails.
_MOST_DEATHS = 3
_LONGEST_REASON = 500

Worked = Literal["done", "busy", "gone", "lost"]
Result = TypeVar("Result")


# Loads a part: documents, the source of those that do not say it, and what is called ahead of every write.
Load = Callable[[Sequence[Document], str, Callable[[], None]], Iterator[Outcome]]


class BatchWorker:
    """Works on messages, one a call, from any number of threads."""

    def __init__(self, store: RedisBatches, load: Load, *, owner: str, patience_s: float = _PATIENCE_S) -> None:
        self._store = store
        self._load = load
        self._owner = owner
        self._patience = patience_s
        self._leaving = threading.Event()
        self._running: set[_Holding] = set()
        self._idle = threading.Condition()

    def run(self, message: BatchMessage) -> Worked:
        """Bring a batch to its end, or find out why not; raises `QueueUnavailable` when it cannot be leased."""
        if self._leaving.is_set():
            return "busy"
        grant = self._patiently(lambda: self._store.lease(message.run, message.number, self._owner))
        if isinstance(grant, str):
            log.info("batch_set_aside", load=message.run, batch=message.number, status=grant)
            return grant
        logged = log.bind(load=message.run, batch=message.number, attempt=grant.attempt)
        logged.info("batch_leased", documents=len(grant.batch.documents))
        holding = _Holding(self._store, grant)
        try:
            with self._counted(holding), holding.renewal.going():
                result = self._result(holding)
                self._patiently(lambda: self._store.finish(grant, result))
        except LeaseLost as error:
            logged.info("lease_lost", reason=error.message)
            return "lost"
        except QueueUnavailable as error:
            logged.error("batch_not_reported", reason=error.message)
            return "lost"
        logged.info("batch_done", error=str(result.error.get("message", "")))
        return "done"

    def stop(self, grace_s: float = 0.0) -> bool:
        """Let batches end for `grace_s` seconds and give the rest back; whether all have ended."""
        with self._idle:
            done = self._idle.wait_for(lambda: not self._running, grace_s)
            left = list(self._running)
        self._leaving.set()
        for holding in left:
            holding.give_back()
        return done

    def _result(self, holding: _Holding) -> BatchResult:
        lease, batch = holding.lease, holding.lease.batch
        try:
            if lease.spent > 1 and lease.spent >= batch.max_attempts:
                return BatchResult(outcomes=self._one_by_one(holding, _Trail(lease)))
            try:
                return BatchResult(outcomes=self._put(holding, batch.documents))
            except CitewellError:
                raise
            except Exception:  # of one document, most likely: which one is found out
                log.exception("batch_raised", load=batch.run, batch=batch.number)
                return BatchResult(outcomes=self._one_by_one(holding, _Trail(lease, raised=True)))
        except (LeaseLost, QueueUnavailable):
            raise
        except CitewellError as error:  # of the index or the embedder: the load ends, as it does in one process
            return BatchResult(error=error.to_json())

    def _one_by_one(self, holding: _Holding, trail: _Trail) -> tuple[Outcome, ...]:
        lease = holding.lease
        for index, document in enumerate(lease.batch.documents):
            while index not in trail.outcomes:
                if lease.spent > _MOST_DEATHS * lease.batch.max_attempts:
                    reason = f"its batch ended {lease.spent - 1} workers"
                    trail.settle(index, self._given_up(document, reason))
                elif trail.tries.get(index, trail.least) >= max(lease.batch.max_attempts, 2):
                    reason = f"loading it failed {trail.tries[index]} times: {trail.why[index]}"
                    trail.settle(index, self._given_up(document, reason))
                else:
                    self._alone(holding, trail, index, document)
        return tuple(trail.outcomes[index] for index in range(len(lease.batch.documents)))

    def _alone(self, holding: _Holding, trail: _Trail, index: int, document: Document) -> None:
        noted = trail.begin(index)
        self._patiently(lambda: self._store.renew(holding.lease, noted))
        try:
            (outcome,) = self._put(holding, (document,))
            trail.settle(index, outcome)
        except CitewellError:
            raise
        except Exception as error:  # of this document, by now
            log.exception("document_raised", doc_id=document.id)
            trail.blame(index, _told(error))

    def _put(self, holding: _Holding, documents: Sequence[Document]) -> tuple[Outcome, ...]:
        """The documents' outcomes; an index that is away is waited for."""

        def load() -> tuple[Outcome, ...]:
            return tuple(self._load(documents, holding.lease.batch.source, holding.check))

        return self._patiently(load)

    def _given_up(self, document: Document, reason: str) -> Outcome:
        error = InvalidDocument(
            reason, remedy="See the log of the ingest workers. Mend the document or leave it out, then load it again."
        )
        log.error("document_given_up", doc_id=document.id, reason=reason)
        return failed(document.id, document.source, error, exact=True)

    def _patiently(self, call: Callable[[], Result]) -> Result:
        return patiently(call, Unavailable, self._patience, pauses=(0.1, 5.0), stop=self._leaving)

    @contextmanager
    def _counted(self, holding: _Holding) -> Iterator[None]:
        with self._idle:
            self._running.add(holding)
        try:
            yield
        finally:
            with self._idle:
                self._running.discard(holding)
                self._idle.notify_all()


class _Trail:
    """What is known of a batch's documents one by one, from earlier attempts and this one.

    `least` counts the attempts at all documents together, which each of them had.
    """

    def __init__(self, lease: BatchLease, *, raised: bool = False) -> None:
        self.least = lease.spent if raised else max(1, min(lease.spent - 1, lease.batch.max_attempts - 1))
        self.tries: dict[int, int] = {}
        self.why: dict[int, str] = {}
        self.outcomes: dict[int, Outcome] = {}
        self._new: dict[str, str] = {}
        for name, value in lease.trail.items():
            kind, _, index = name.partition(":")
            if kind == "out":
                self.outcomes[int(index)] = Outcome.from_json(value)
            elif kind == "tries":
                self.tries[int(index)] = int(value)
            elif kind == "why":
                self.why[int(index)] = value
        if (at := lease.trail.get("at", "")) and int(at) not in self.outcomes:
            self.blame(int(at), "its worker died of it, was killed, or lost its lease")

    def begin(self, index: int) -> dict[str, str]:
        """What has to be written down before the next document is begun: so far, and which one that is."""
        noted, self._new = {**self._new, "at": str(index)}, {}
        return noted

    def settle(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self._new[f"out:{index}"] = outcome.to_json()

    def blame(self, index: int, reason: str) -> None:
        self.tries[index] = self.tries.get(index, self.least) + 1
        self.why[index] = reason
        self._new |= {f"tries:{index}": str(self.tries[index]), f"why:{index}": reason}


class _Holding:
    """A lease, renewed beside the work until it is let go or lost."""

    def __init__(self, store: RedisBatches, lease: BatchLease) -> None:
        self.lease = lease
        self.renewal = Renewal(
            lambda: store.renew(lease),
            store.lease_seconds,
            f"batch-{lease.batch.number}",
            load=lease.batch.run,
            batch=lease.batch.number,
        )
        self._store = store

    def check(self) -> None:
        """Ahead of a write: raises `LeaseLost` when somebody else has the batch, or nobody waits for it any more."""
        if self.renewal.lost.is_set():
            raise LeaseLost(f"batch {self.lease.batch.number} was taken over or given back before it was written")
        self._store.renew(self.lease)

    def give_back(self) -> None:
        self.renewal.lost.set()
        try:
            self._store.release(self.lease)
            log.info("batch_given_back", load=self.lease.batch.run, batch=self.lease.batch.number)
        except CitewellError as error:
            log.warning("batch_not_given_back", batch=self.lease.batch.number, reason=error.message)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
