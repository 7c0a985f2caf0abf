"""One run of a distributed load: batches on their way to workers, kept alive and looked after until they are done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from citewell.errors import CitewellError, QueueUnavailable
from citewell.ingest.distributed_queue import IngestQueue
from citewell.ingest.distributed_store import RedisBatches, Run
from citewell.leasing import patiently
from citewell.records import Batch, BatchMessage, BatchResult, Document

log = structlog.get_logger("citewell.ingest")

Note = Callable[[str], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Waits:
    """Seconds of patience: with no worker at all, with workers that are still loading, and with Redis away."""

    workers: float = 60.0
    loading: float = 600.0
    redis: float = 60.0


@dataclass(frozen=True)
class Sending:
    """How a load is sent: batches that may be under way, attempts at each, and patience."""

    window: int
    max_attempts: int
    waits: Waits = Waits()


@dataclass
class _Sent:
    batch: Batch
    at: float


class Sender:
    """One run: batches on their way, kept alive and looked after by a thread of its own."""

    def __init__(self, store: RedisBatches, queue: IngestQueue, run: Run, sending: Sending, note: Note) -> None:
        self._store = store
        self._queue = queue
        self._run = run
        self._sending = sending
        self._note = note
        self._sent: dict[int, _Sent] = {}
        self._count = 0
        self._documents = 0
        self._cursor = ""
        self._found_done: set[int] = set()
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._broken: Exception | None = None
        self._trusted_at = 0.0
        self._thread = threading.Thread(target=self._look_after, name=f"load-{run.id}")

    # Life

    def start(self) -> None:
        """Raises `QueueUnavailable` when no worker comes, or Redis cannot be reached."""
        self._await_former()
        self._await_workers()
        self._beat()
        self._thread.start()

    def close(self) -> None:
        """Take back what is under way: a worker that has begun writes what it is writing, and no more."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        try:
            self._store.forget(self._run.id, list(self._sent), whole=True)
        except QueueUnavailable as error:  # without its reader's signs of life the run is over in moments
            log.warning("load_not_cleared", load=self._run.id, reason=error.message)
        self._queue.close()
        self._store.close()

    # Steps

    def send(self, documents: Iterable[Document], source: str) -> int:
        """Give documents to the workers; the number of their batch."""
        self._count += 1
        batch = Batch(
            run=self._run.id,
            number=self._count,
            source=source,
            documents=tuple(documents),
            max_attempts=self._sending.max_attempts,
        )
        with self._guard:
            self._sent[batch.number] = _Sent(batch, time.monotonic())
        self._patiently(lambda: self._deliver(batch))
        return batch.number

    def collect(self, wait_s: float = 0.0) -> dict[int, BatchResult]:
        """What became of batches since the last call, by number; waits up to about a second for the first."""
        if self._broken is not None:
            raise self._broken
        with self._guard:
            numbers, self._found_done = set(self._found_done), set()
            wait_s = 0.0 if numbers or not self._sent else wait_s
        ended, self._cursor = self._patiently(lambda: self._store.ended(self._run.id, self._cursor, wait_s))
        results = {number: self._taken(number) for number in sorted(numbers.union(ended))}
        return {number: result for number, result in results.items() if result is not None}

    def wait(self) -> dict[int, BatchResult]:
        """`collect` until there is something. Raises `QueueUnavailable` when all workers have gone and none comes."""
        looked = time.monotonic()
        while not (results := self.collect(wait_s=1.0)):
            if time.monotonic() - looked > self._store.lease_seconds:
                self._await_workers()
                looked = time.monotonic()
        return results

    def _taken(self, number: int) -> BatchResult | None:
        """A batch's result, which is then forgotten; None when it has been taken, or was lost with its Redis."""
        with self._guard:
            if number not in self._sent:
                return None
        result = self._patiently(lambda: self._store.result(self._run.id, number))
        if result is not None:
            with self._guard:
                self._documents += len(self._sent.pop(number).batch.documents)
            self._patiently(lambda: self._store.forget(self._run.id, [number]))
        return result

    # Beside the reading

    def _look_after(self) -> None:
        while not self._over.wait(self._store.lease_seconds / 4):
            try:
                self._beat()
                self._sweep()
            except CitewellError as error:
                log.warning("load_not_kept_alive", load=self._run.id, reason=error.message)
                # Workers could not renew their leases either; they do so first.
                self._trusted_at = time.monotonic() + self._store.lease_seconds / 2
            except Exception as error:  # noqa: BLE001 - the reader has to learn of it: nobody else would
                self._broken = error
                return

    def _beat(self) -> None:
        with self._guard:
            numbers, facts = list(self._sent), {"sent": self._count, "documents": self._documents}
        self._store.beat(self._run, numbers, facts)

    def _sweep(self) -> None:
        """Send again what has no worker: its worker died or left, its message or all of it was lost."""
        with self._guard:
            sent = dict(self._sent)
        lease, now = self._store.lease_seconds, time.monotonic()
        states = self._store.states(self._run.id, list(sent))
        idle = any(is_.state == "queued" for is_ in states.values()) and self._queue.depth() == 0
        for number, is_ in states.items():
            if is_.state == "done":
                with self._guard:
                    self._found_done.add(number)
                continue
            waited = now - sent[number].at >= lease
            late = is_.late and now >= self._trusted_at
            lost = late or (idle and is_.state == "queued")
            if is_.state != "gone" and not is_.returned and not (waited and lost):
                continue
            with self._guard:
                if number not in self._sent:  # its result was taken meanwhile
                    continue
            log.info("batch_sent_again", load=self._run.id, batch=number, state=is_.state, late=is_.late)
            self._deliver(sent[number].batch, again=True)
            sent[number].at = now

    def _deliver(self, batch: Batch, *, again: bool = False) -> None:
        self._store.put(batch)
        self._queue.send(BatchMessage(run=batch.run, number=batch.number), again=again)

    # Waiting

    def _await_workers(self) -> None:
        """Returns once a worker is ready; says so when it has to wait, and gives up in the end."""
        waits, begun, said = self._sending.waits, time.monotonic(), False
        while True:
            workers = self._patiently(self._queue.workers)
            if any(worker.get("state") == "ready" for worker in workers):
                return
            patience = waits.loading if workers else waits.workers
            if time.monotonic() - begun > patience:
                raise QueueUnavailable(
                    f"no ingest worker is ready after {patience:.0f} s"
                    + (f": {len(workers)} are loading" if workers else ": none has given a sign of life"),
                    remedy="Start one with the same settings, `citewell worker --ingest`, then run this again. Or "
                    "leave out --distributed.",
                )
            if not said:
                self._note("waiting for an ingest worker; start one with the same settings: citewell worker --ingest")
                said = True
            time.sleep(0.5)

    def _await_former(self) -> None:
        """A load of the same source whose reader is gone ends before this one begins: nothing old is written after."""
        others = self._of_same_source()
        deadline = time.monotonic() + self._store.lease_seconds
        while others:
            now = self._of_same_source()
            for run in [run for run, at in others.items() if now.get(run, at + 1) > at]:
                del others[run]
                if run in now:
                    self._note(f"{run.reader} is loading the same source at this moment")
            if not others or time.monotonic() > deadline:
                break
            time.sleep(self._store.lease_seconds / 10)
        for run in others:
            log.info("former_load_ended", load=run.id, reader=run.reader)
            self._patiently(lambda run=run: self._store.forget(run.id, [], whole=True))  # type: ignore[misc]

    def _of_same_source(self) -> dict[Run, float]:
        found = self._patiently(self._store.runs)
        return {run: at for run, at in found.items() if set(run.sources) & set(self._run.sources)}

    def _patiently(self, call: Callable[[], Result]) -> Result:
        return patiently(call, QueueUnavailable, self._sending.waits.redis, pauses=(0.1, 2.0))
