"""The states of an answer and the moves between them. Pure: records in, records out.

    queued ── lease ──> running ── finish ──> done | failed
      ^                    │ └──── cancel ──> cancelled        (from queued as well)
      └───── release ──────┘ └──── expire ──> expired          (from queued as well)
    running, lease run out ── lease ──> running, next attempt, or failed when the attempts are used up

Both stores ask these functions what a move makes of an entry, and then write the result only if the entry is still
the one that was asked about. The attempt is the fencing token: it grows with every lease and never goes back, so a
writer of an older attempt is refused. `spent` counts the attempts that a crash or a lapse has used up; a released
attempt is taken off it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from citewell.errors import BadInput, KeyReused, LeaseLost, UnknownAnswer
from citewell.ports import LeaseGrant
from citewell.records import Answer, AnswerState, Draft, Failure, Job, Lease

_LONGEST_PAUSE_S = 600.0
EventKind = Literal["state", "delta", "final"]


@dataclass(frozen=True)
class Entry:
    """An answer as a store keeps it: the record and what only workers need.

    `lease_until` is in seconds since the epoch, 0 without a lease. `returned` marks an answer that its worker gave
    back: it is queued, and no message for it is under way.
    """

    answer: Answer
    spent: int = 0
    lease_until: float = 0.0
    returned: bool = False


@dataclass(frozen=True)
class Move:
    """The entry after a move, and the event that tells of it; a move within a final state has none."""

    entry: Entry
    kind: EventKind | None
    data: dict[str, Any]


def created(job: Job, now: float) -> tuple[Job, Move]:
    """The job, stamped with a time of creation when it has none, and its entry as `queued`."""
    job = job if job.created_at else job.model_copy(update={"created_at": now})
    answer = Answer.queued(job)
    if job.expires_in:
        answer = answer.model_copy(update={"expires_at": now + job.expires_in})
    return job, _state_move(Entry(answer=answer))


def known(answer: Answer, request: str) -> Answer:
    """The record that an id has already; raises `KeyReused` when another request made it."""
    if answer.request != request:
        raise KeyReused(f"this idempotency key came with another request before, which made answer {answer.id}")
    return answer


def leased(entry: Entry, job: Job, seconds: float, now: float) -> Move | LeaseGrant:
    """What a worker's request for a lease comes to: a move, or the grant that refuses it.

    A move into a final state means that the attempts are used up, or that nobody waits for it any more.
    """
    answer = entry.answer
    if answer.state.final:
        return LeaseGrant("final")
    if move := expired(entry, now):
        return move
    if answer.state is AnswerState.RUNNING:
        if entry.lease_until > now:
            return LeaseGrant("busy", retry_after_s=entry.lease_until - now)
        if entry.spent >= job.max_attempts:
            return _final_move(entry, now, state=AnswerState.FAILED, error=_used_up(entry.spent))
    update: dict[str, Any] = {"state": AnswerState.RUNNING, "attempt": answer.attempt + 1}
    if not answer.started_at:
        update["started_at"] = now
        update["timings_ms"] = answer.timings_ms | {"queue": _ms(now - answer.created_at)}
    moved = answer.model_copy(update=update)
    return _state_move(Entry(answer=moved, spent=entry.spent + 1, lease_until=now + seconds))


def granted(entry: Entry, job: Job, owner: str) -> LeaseGrant:
    """The grant for an entry that `leased` has moved and the store has written."""
    if entry.answer.state.final:
        return LeaseGrant("final")
    return LeaseGrant(
        "granted",
        lease=Lease(
            answer_id=entry.answer.id,
            owner=owner,
            attempt=entry.answer.attempt,
            expires_at=entry.lease_until,
            job=job,
        ),
    )


def held(entry: Entry | None, lease: Lease) -> Entry:
    """The entry, when the lease still has the right to write it; raises `LeaseLost`.

    A lease that has run out keeps that right until somebody takes the answer over.
    """
    if entry is None:
        raise lost(lease, "it has expired or was never created")
    if entry.answer.state is not AnswerState.RUNNING:
        raise lost(lease, f"it is {entry.answer.state}")
    if entry.answer.attempt != lease.attempt:
        raise lost(lease, f"attempt {entry.answer.attempt} holds it")
    return entry


def lost(lease: Lease, reason: str) -> LeaseLost:
    return LeaseLost(f"attempt {lease.attempt} of {lease.owner} may not write answer {lease.answer_id}: {reason}")


def finished(
    entry: Entry | None, lease: Lease, result: Draft | Failure, timings_ms: dict[str, float], now: float
) -> Move:
    """`running` to `done` or `failed`; raises `LeaseLost`."""
    entry = held(entry, lease)
    if isinstance(result, Failure):
        return _final_move(entry, now, timings_ms, state=AnswerState.FAILED, error=result)
    return _final_move(
        entry,
        now,
        timings_ms,
        state=AnswerState.DONE,
        answer=result.text,
        citations=result.citations,
        sentences=result.sentences,
        exact=result.exact,
        abstained=result.abstained,
        provenance=result.provenance or entry.answer.provenance,
        cached_from=result.cached_from,
        tokens=result.tokens,
    )


def cancelled(entry: Entry, now: float) -> Move | None:
    """`queued` or `running` to `cancelled`; None when the answer is final already."""
    return None if entry.answer.state.final else _final_move(entry, now, state=AnswerState.CANCELLED)


def overdue(answer: Answer, now: float) -> bool:
    """Whether nobody waits for it any more, and it is not final."""
    return not answer.state.final and 0 < answer.expires_at <= now


def expired(entry: Entry, now: float) -> Move | None:
    """`queued` or `running` to `expired` once nobody waits for it any more; else None."""
    return _final_move(entry, now, state=AnswerState.EXPIRED) if overdue(entry.answer, now) else None


def owed(answer: Answer) -> bool:
    """Whether the answer is final and its callback is still to be posted."""
    return answer.state.final and answer.callback is not None and answer.callback.state == "pending"


def posted(entry: Entry, reason: str, attempts: int, now: float) -> Move | None:
    """An attempt at the callback was made: `delivered` without a reason, `given_up` after so many attempts.

    None when nothing was owed any more: another process has posted it, too.
    """
    callback = entry.answer.callback
    if callback is None or not owed(entry.answer):
        return None
    made = callback.attempts + 1
    state = "delivered" if not reason else "given_up" if made >= attempts else "pending"
    told = callback.model_copy(update={"state": state, "attempts": made, "reason": reason, "at": now})
    return Move(replace(entry, answer=entry.answer.model_copy(update={"callback": told})), None, {})


def next_post(entry: Entry) -> float:
    """When a callback that is owed is to be tried again, after pauses of 1, 2, 4 and at last 600 seconds; 0 is now."""
    callback = entry.answer.callback
    if callback is None or not callback.attempts:
        return 0.0
    return callback.at + min(_LONGEST_PAUSE_S, 2.0 ** (callback.attempts - 1))


def released(entry: Entry | None, lease: Lease) -> Move:
    """`running` back to `queued`, with this attempt not counted; raises `LeaseLost`."""
    entry = held(entry, lease)
    answer = entry.answer.model_copy(update={"state": AnswerState.QUEUED})
    return _state_move(Entry(answer=answer, spent=entry.spent - 1, returned=True))


def requeued(entry: Entry, job: Job, now: float) -> Move | None:
    """`running` without a living lease back to `queued`, or `failed` when the attempts are used up; else None. What
    nobody waits for any more is `expired`.

    The next worker that leases it does the same; this is for an answer that no worker would come to.
    """
    if move := expired(entry, now):
        return move
    if entry.answer.state is not AnswerState.RUNNING or entry.lease_until > now:
        return None
    if entry.spent >= job.max_attempts:
        return _final_move(entry, now, state=AnswerState.FAILED, error=_used_up(entry.spent))
    answer = entry.answer.model_copy(update={"state": AnswerState.QUEUED})
    return _state_move(replace(entry, answer=answer, lease_until=0.0, returned=True))


def unknown(answer_id: str) -> UnknownAnswer:
    return UnknownAnswer(f"no answer {answer_id}")


def unknown_event(answer_id: str, after: str) -> BadInput:
    return BadInput(
        f"answer {answer_id} has no event {after!r}",
        remedy="Name the id of an event of this answer, or none to read them from the first.",
    )


def _state_move(entry: Entry) -> Move:
    return Move(entry, "state", {"state": entry.answer.state.value, "attempt": entry.answer.attempt})


def _final_move(entry: Entry, now: float, timings_ms: dict[str, float] | None = None, **update: Any) -> Move:
    answer = entry.answer
    timings = answer.timings_ms | (timings_ms or {}) | {"total": _ms(now - answer.created_at)}
    moved = answer.model_copy(update={**update, "finished_at": now, "timings_ms": timings})
    return Move(replace(entry, answer=moved, lease_until=0.0, returned=False), "final", {"answer": moved.to_dict()})


def _used_up(attempts: int) -> Failure:
    times = "1 attempt was" if attempts == 1 else f"{attempts} attempts were"
    return Failure(
        code="max_attempts",
        message=f"{times} made, and each time the worker died or lost its lease before the answer was complete",
        remedy="Look at the workers' logs around this answer (memory, a crash of the model), then ask again.",
    )


def took(result: Draft | Failure, timings_ms: dict[str, float]) -> float:
    """Seconds that a worker was busy with an answer; 0 where that tells nothing of others."""
    if isinstance(result, Failure):
        return 0.0
    return sum(timings_ms.get(step, 0.0) for step in ("generate", "cite")) / 1000


def _ms(seconds: float) -> float:
    """Milliseconds, never below 0: the asker's clock may be ahead of the store's."""
    return round(max(0.0, seconds) * 1000, 3)
