"""What can be wrong with answers, in the words of both stores. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from citewell.answers import moves
from citewell.answers.moves import Entry
from citewell.ports import Finding
from citewell.records import AnswerState

NO_LEASE = "running_without_lease"
EXPIRED = "expired_lease"
UNWATCHED = "answer_without_sweep"
UNPOSTED = "callback_without_sweep"
NO_JOB = "answer_without_job"
ORPHAN = "orphan"
NO_TTL = "key_without_time_to_live"
GONE = "message_without_answer"

# A lease that ran out this many lease periods ago: sweepers would have queued the answer again by then.
_LATE = 2


@dataclass(frozen=True)
class Seen:
    """An answer as a store has it. `watched`: the store's `due` will come to it by itself; `job`: it has its job;
    `listed`: its callback will be come to, if one is owed."""

    entry: Entry
    watched: bool
    job: bool
    listed: bool = True


def judge(place: str, seen: Seen, *, period_s: float, now: float) -> Finding | None:
    """What is wrong with one answer."""
    entry = seen.entry
    answer_id, state = entry.answer.id, entry.answer.state
    if not state.final and not seen.job:
        reason = f"it is {state}, and its job is gone, so that no worker can answer it"
        return Finding(NO_JOB, place, answer_id, reason, "--fix deletes it; ask again.")
    if state is AnswerState.RUNNING and not entry.lease_until:
        reason = "it is running, and no worker holds a lease"
        return Finding(NO_LEASE, place, answer_id, reason, _queued_again(entry))
    if state is AnswerState.RUNNING and entry.lease_until < now - _LATE * period_s:
        late = now - entry.lease_until
        reason = f"its worker's lease ran out {late:.0f} s ago, and no other worker has taken it over"
        return Finding(EXPIRED, place, answer_id, reason, _queued_again(entry))
    if not state.final and not seen.watched:
        reason = f"it is {state}, and no sweep would queue it again if its message were lost"
        return Finding(UNWATCHED, place, answer_id, reason, "--fix puts it before the next sweep.")
    if moves.owed(entry.answer) and not seen.listed:
        reason = f"it is {state}, and nobody would come to post its callback"
        return Finding(UNPOSTED, place, answer_id, reason, "--fix puts it before the next worker.")
    return None


def _queued_again(entry: Entry) -> str:
    return (
        f"--fix queues it again, or fails it when attempt {entry.answer.attempt} was its last. It needs a living "
        "worker: see the check `workers`."
    )
