"""Queue, store and leases of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from citewell.ports.backend import Backend
from citewell.ports.cache import Caching
from citewell.ports.feedback import Judged
from citewell.ports.inspection import Inspected
from citewell.ports.quotes import Quoted
from citewell.records import Answer, Draft, Event, Failure, Job, JobMessage, Lease, Priority


class JobQueue(Backend, Protocol):
    """Brings job messages to workers, at least once. `submit` returns when the message is safe."""

    def submit(self, message: JobMessage) -> None: ...

    def depth(self, generator: str = "") -> int:
        """Messages that wait for a worker: for one generator's, or all."""
        ...

    def slots(self, generator: str) -> int:
        """How many of this generator's answers the workers that live write at a time."""
        ...


class AnswerStore(Backend, Protocol):
    """Answers as their askers see them. Times to live run from the last write."""

    def create(self, job: Job) -> Answer:
        """Store the job as `queued`; an id that exists keeps its record, which is returned.

        Raises `KeyReused` when another request made that id.
        """
        ...

    def get(self, answer_id: str) -> Answer:
        """Raises `UnknownAnswer`."""
        ...

    def events(self, answer_id: str, after: str = "", wait_s: float = 0.0) -> list[Event]:
        """Events later than id `after`; waits up to `wait_s` seconds for the first. Raises `UnknownAnswer`."""
        ...

    def cancel(self, answer_id: str) -> Answer:
        """Move to `cancelled` unless final already; returns the record either way. Raises `UnknownAnswer`."""
        ...

    def due(self, *, queued: bool) -> list[JobMessage]:
        """Messages of answers that need a worker and seem to have none.

        These are `running` under a lease that has run out, given back by `release` and, with `queued`, those `queued`
        for longer than a lease without being leased. Each is reported once a lease period, so that two sweepers do not
        double the work. What nobody waits for any more is moved to `expired` here, and before it is read or leased.
        """
        ...


class Leases(Protocol):
    """Answers as workers see them. Every write is fenced by the lease's attempt, and refused with `LeaseLost`."""

    def lease(self, answer_id: str, owner: str, seconds: float) -> LeaseGrant: ...

    def renew(self, lease: Lease, seconds: float) -> Lease: ...

    def emit(self, lease: Lease, text: str) -> None:
        """Append a `delta` event."""
        ...

    def finish(self, lease: Lease, result: Draft | Failure, timings_ms: dict[str, float]) -> Answer:
        """Move to `done` (a draft) or `failed` (a failure) and append the `final` event."""
        ...

    def release(self, lease: Lease) -> None:
        """Give an unfinished answer back as `queued` (the worker is stopping); this attempt does not count."""
        ...


@dataclass(frozen=True)
class Line:
    """Who is before a question: `ahead` are queued and go first, `running` are being written; `seconds` is what an
    answer took lately, 0 where none has been finished yet."""

    ahead: int
    running: int
    seconds: float


class Lines(Protocol):
    def line(self, generator: str, priority: Priority, answer_id: str = "") -> Line:
        """The line before a queued answer, or before a new one of that priority."""
        ...


# A callback that was given out is given out again after this time, unless its end has been noted: longer than it takes.
POST_S = 30.0


class Outbox(Protocol):
    """Callbacks that are owed: those of answers that became final and have not been posted."""

    def letters(self, limit: int) -> list[Answer]:
        """Final records to be posted now, at most so many; nobody else is given them for `POST_S` seconds."""
        ...

    def posted(self, answer_id: str, reason: str) -> Answer | None:
        """Note an attempt: `reason` says why it failed, "" that it did not. After the last one it is given up.

        Returns the record; None when nothing was owed any more.
        """
        ...


@dataclass(frozen=True)
class LeaseGrant:
    """What `Leases.lease` answers.

    `granted` with a lease; `busy`: another lease is alive for `retry_after_s` more seconds; `final`: nothing is
    left to do (also when the id is unknown, or when this very call found `max_attempts` used up and failed it).
    """

    status: Literal["granted", "busy", "final"]
    lease: Lease | None = None
    retry_after_s: float = 0.0


class Answers(AnswerStore, Leases, Lines, Outbox, Quoted, Caching, Judged, Inspected, Protocol):
    """All sides of one store."""
