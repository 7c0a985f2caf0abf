"""Answers in Redis, for the served stack.

Keys of one answer, in one slot of a cluster, so that each move is one atomic script:

    PREFIX:answer:{ID}   hash: the record and what fences it; `rev` grows with every move
    PREFIX:job:{ID}      the job, which only workers read
    PREFIX:events:{ID}   stream of events

Beside them are hints when to look at which answer (redis_hints.py), and the lines before generators (redis_lines.py).
Every key has a time to live of `answer_ttl` seconds from its last write.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, cast

import redis
import structlog

from citewell import metrics
from citewell.answers import moves
from citewell.answers import redis_scripts as scripts
from citewell.answers.moves import Entry, Move
from citewell.answers.redis_cache import RedisCache
from citewell.answers.redis_client import address_of, connect, translated
from citewell.answers.redis_feedback import RedisFeedback
from citewell.answers.redis_hints import Hints, answer_keys
from citewell.answers.redis_lines import Lines
from citewell.answers.redis_quotes import Access, RedisQuotes
from citewell.config import Settings
from citewell.errors import UnknownAnswer
from citewell.ports import POST_S, Inspection, LeaseGrant, Line
from citewell.records import Answer, Draft, Event, Failure, Job, JobMessage, Lease, Priority

log = structlog.get_logger("citewell.answers")

# One blocking read of a stream; below the socket's timeout, so that waiting is never mistaken for a dead server.
_BLOCK_S = 2.0
_CLOCK_S = 60.0
_OPEN = ("queued", "running")
_EVENT_ID = re.compile(r"\d{1,19}-\d{1,19}", re.ASCII)


class RedisAnswers:
    """`AnswerStore` and `Leases` on one Redis server. Safe to share between threads.

    Without a `clock` the time is Redis's own, so that workers whose clocks differ agree on when a lease ends.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] | None = None) -> None:
        self._url = settings.redis_url
        self._prefix = settings.index_name
        self._ttl = settings.answer_ttl
        self._period = settings.lease_seconds
        self._attempts = settings.callback_attempts
        self._clock = clock or self._redis_time
        self._clock_read = (0.0, 0.0)
        self._redis = connect(self._url)
        self._create = self._redis.register_script(scripts.CREATE)
        self._move = self._redis.register_script(scripts.MOVE)
        self._renew = self._redis.register_script(scripts.RENEW)
        self._emit = self._redis.register_script(scripts.EMIT)
        self._hints = Hints(self._redis, self._prefix, ttl=self._ttl, period=self._period)
        self._lines = Lines(self._redis, self._prefix, ttl=self._ttl)
        told = partial(translated, self._url)
        access = Access(self._redis, self._prefix, self._clock, self.cancel, self._keys, told)
        self._cache = RedisCache(self._redis, settings, self._clock, told)
        self._quotes = RedisQuotes(access, ttl=self._ttl)
        self._feedback = RedisFeedback(self._redis, settings, self._clock, told)

    def load(self) -> None:
        with translated(self._url, "be reached"):
            self._redis.ping()

    def close(self) -> None:
        self._redis.close()

    def info(self) -> dict[str, Any]:
        with translated(self._url, "tell how it is"):
            about = self._redis.info()
        return {
            "store": "redis",
            "address": address_of(self._url),
            "version": str(about.get("redis_version", "")),
            "memory_bytes": int(about.get("used_memory", 0)),
            "memory_limit_bytes": int(about.get("maxmemory", 0)),
            "eviction": str(about.get("maxmemory_policy", "")),
        }

    def create(self, job: Job) -> Answer:
        with translated(self._url, "store a question"):
            now = self._clock()
            job, move = moves.created(job, now)
            self._quotes.enter(job.answer_id, job.evidence, now)
            self._hints.watch("queued", job.answer_id, now + self._period)
            if job.expires_in:
                self._hints.watch("expiry", job.answer_id, move.entry.answer.expires_at)
            fields = {**_fields(move.entry, rev=1), "generator": job.generator, "priority": job.priority}
            arguments = [self._ttl, job.to_json(), move.kind or "", _json(move.data), *_flat(fields)]
            known = self._create(keys=self._keys(job.answer_id), args=arguments)
            if not known:
                self._follow(move)
        return moves.known(Answer.from_json(known), job.request) if known else move.entry.answer

    def get(self, answer_id: str) -> Answer:
        with translated(self._url, "read an answer"):
            record = cast("str | None", self._redis.hget(self._keys(answer_id)[0], "record"))
            if record is None:
                raise moves.unknown(answer_id)
            answer = Answer.from_json(record)
            return self._expire(answer_id) if moves.overdue(answer, self._clock()) else answer

    def events(self, answer_id: str, after: str = "", wait_s: float = 0.0) -> list[Event]:
        if after and not _EVENT_ID.fullmatch(after):
            raise moves.unknown_event(answer_id, after)
        deadline = time.monotonic() + wait_s
        while True:
            with translated(self._url, "read events"):
                found, final = self._read_events(answer_id, after)
                left = deadline - time.monotonic()
                if found or final or left <= 0:
                    return found
                block_ms = max(1, int(min(left, _BLOCK_S) * 1000))
                self._redis.xread({self._keys(answer_id)[2]: after or "0-0"}, count=1, block=block_ms)

    def _read_events(self, answer_id: str, after: str) -> tuple[list[Event], bool]:
        """Events later than `after`, and whether the answer is final, so that no more will come."""
        answer, _, stream = self._keys(answer_id)
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(answer, ["state", "expires_at"])
        pipe.xrange(stream, min=after or "-")
        (state, expires_at), rows = pipe.execute()
        if state is None:
            raise moves.unknown(answer_id)
        if state in _OPEN and 0 < float(expires_at or 0) <= self._clock():
            self._expire(answer_id)
            return self._read_events(answer_id, after)
        if after:
            if not rows or rows[0][0] != after:
                raise moves.unknown_event(answer_id, after)
            rows = rows[1:]
        found = [Event(id=key, kind=row["kind"], data=json.loads(row["data"])) for key, row in rows]
        return found, state not in _OPEN

    def cancel(self, answer_id: str) -> Answer:
        with translated(self._url, "cancel an answer"):
            while True:
                entry, _, rev = self._read(answer_id)
                if entry is None:
                    raise moves.unknown(answer_id)
                move = moves.cancelled(entry, self._clock())
                if move is None:
                    return entry.answer
                if self._write(answer_id, move, rev):
                    return move.entry.answer

    def due(self, *, queued: bool) -> list[JobMessage]:
        with translated(self._url, "look for answers without a worker"):
            now = self._clock()
            self._expire_due(now)
            found = list(self._hints.without_worker("running", now, self._lines.forget))
            if queued:
                found += self._hints.without_worker("queued", now, self._lines.forget)
        return found

    def line(self, generator: str, priority: Priority, answer_id: str = "") -> Line:
        with translated(self._url, "look at the line"):
            return self._lines.line(generator, priority, answer_id, self._clock())

    def letters(self, limit: int) -> list[Answer]:
        with translated(self._url, "look for callbacks"):
            now, found = self._clock(), []
            ids = self._hints.come("callback", now, limit)
            for answer_id in self._hints.take("callback", ids, now, for_s=POST_S):
                entry, _, _ = self._read(answer_id)
                if entry is not None and moves.owed(entry.answer):
                    found.append(entry.answer)
                elif entry is None or entry.answer.state.final:
                    self._hints.forget("callback", answer_id)
        return found

    def posted(self, answer_id: str, reason: str) -> Answer | None:
        with translated(self._url, "note a callback"):
            while True:
                entry, _, rev = self._read(answer_id)
                move = moves.posted(entry, reason, self._attempts, self._clock()) if entry else None
                if move is None:
                    self._hints.forget("callback", answer_id)
                    return None
                if self._write(answer_id, move, rev):
                    return move.entry.answer

    def lease(self, answer_id: str, owner: str, seconds: float) -> LeaseGrant:
        with translated(self._url, "lease an answer"):
            while True:
                entry, job, rev = self._read(answer_id)
                if entry is None or job is None:
                    return LeaseGrant("final")
                now = self._clock()
                move = moves.leased(entry, job, seconds, now)
                if isinstance(move, LeaseGrant):
                    return move
                if not move.entry.answer.state.final:
                    self._hints.watch("running", answer_id, now + seconds)
                if self._write(answer_id, move, rev):
                    return moves.granted(move.entry, job, owner)

    def renew(self, lease: Lease, seconds: float) -> Lease:
        with translated(self._url, "renew a lease"):
            until = self._clock() + seconds
            if not self._renew(keys=self._keys(lease.answer_id), args=(self._ttl, lease.attempt, repr(until))):
                self._refuse(lease)
            self._hints.watch("running", lease.answer_id, until)
            self._lines.renewed(lease.job.generator, lease.answer_id, until)
            self._quotes.enter(lease.answer_id, lease.job.evidence, until - seconds)
        return lease.model_copy(update={"expires_at": until})

    def emit(self, lease: Lease, text: str) -> None:
        with translated(self._url, "store a piece of an answer"):
            data = _json({"text": text, "attempt": lease.attempt})
            if not self._emit(keys=self._keys(lease.answer_id), args=(self._ttl, lease.attempt, data)):
                self._refuse(lease)

    def finish(self, lease: Lease, result: Draft | Failure, timings_ms: dict[str, float]) -> Answer:
        with translated(self._url, "store an answer"):
            while True:
                entry, _, rev = self._read(lease.answer_id)
                move = moves.finished(entry, lease, result, timings_ms, self._clock())
                if self._write(lease.answer_id, move, rev, took_s=moves.took(result, timings_ms)):
                    return move.entry.answer

    def release(self, lease: Lease) -> None:
        with translated(self._url, "give an answer back"):
            while True:
                entry, _, rev = self._read(lease.answer_id)
                move = moves.released(entry, lease)
                self._hints.watch("running", lease.answer_id, self._clock())
                if self._write(lease.answer_id, move, rev):
                    return

    def cache(self) -> RedisCache:
        return self._cache

    def quotes(self) -> RedisQuotes:
        return self._quotes

    def feedback(self) -> RedisFeedback:
        return self._feedback

    def inspection(self) -> Inspection:
        from citewell.answers import redis_inspection

        access = redis_inspection.Access(self._redis, self._prefix, self._read, self._write, self._clock)
        return redis_inspection.RedisInspection(access, self._url, ttl_s=self._ttl, period_s=self._period)

    def _read(self, answer_id: str) -> tuple[Entry | None, Job | None, int]:
        answer, job_key, _ = self._keys(answer_id)
        pipe = self._redis.pipeline(transaction=True)
        pipe.hgetall(answer)
        pipe.get(job_key)
        fields, job = pipe.execute()
        if "record" not in fields or job is None:
            return None, None, 0
        entry = Entry(
            answer=Answer.from_json(fields["record"]),
            spent=int(fields["spent"]),
            lease_until=float(fields["lease_until"]),
            returned=fields["returned"] == "1",
        )
        return entry, Job.from_json(job), int(fields["rev"])

    def _write(self, answer_id: str, move: Move, rev: int, *, took_s: float = 0.0) -> bool:
        """Write a move if the entry is still at `rev`; `took_s` is how long it took, 0 where that tells nothing."""
        fields = _flat(_fields(move.entry, rev=rev + 1))
        if moves.owed(move.entry.answer):
            self._hints.watch("callback", answer_id, moves.next_post(move.entry) or self._clock())
        arguments = [self._ttl, rev, move.kind or "", _json(move.data), *fields]
        if not self._move(keys=self._keys(answer_id), args=arguments):
            return False
        self._follow(move, took_s)
        return True

    def _follow(self, move: Move, took_s: float = 0.0) -> None:
        """Let hints and lines follow a move. The move stands also when they cannot: `due` corrects them later."""
        entry, pipe = move.entry, self._redis.pipeline(transaction=False)
        if move.kind is not None:
            metrics.moved(entry.answer.generator, entry.answer.state.value)
        self._hints.moved(pipe, entry)
        self._quotes.keep(pipe, entry.answer.id, entry.answer.evidence, self._clock())
        self._lines.moved(pipe, entry)
        if took_s:
            self._lines.took(pipe, entry.answer.generator, took_s)
        try:
            pipe.execute()
        except redis.RedisError as error:
            log.warning("hints_behind", answer=entry.answer.id, reason=f"{type(error).__name__}: {error}")

    def _refuse(self, lease: Lease) -> NoReturn:
        """Raise the `LeaseLost` that says why a script refused the lease."""
        entry, _, _ = self._read(lease.answer_id)
        moves.held(entry, lease)
        raise moves.lost(lease, "it was moved at the same moment")

    def _expire(self, answer_id: str) -> Answer:
        """Move an answer that nobody waits for any more; returns its record either way."""
        while True:
            entry, _, rev = self._read(answer_id)
            if entry is None:
                raise moves.unknown(answer_id)
            move = moves.expired(entry, self._clock())
            if move is None:
                return entry.answer
            if self._write(answer_id, move, rev):
                return move.entry.answer

    def _expire_due(self, now: float) -> None:
        for answer_id in self._hints.come("expiry", now):
            with contextlib.suppress(UnknownAnswer):
                self._expire(answer_id)
            self._hints.forget("expiry", answer_id)

    def _keys(self, answer_id: str) -> tuple[str, str, str]:
        return answer_keys(self._prefix, answer_id)

    def _redis_time(self) -> float:
        """Redis's clock, read once a minute and carried on by this machine's monotonic one."""
        read_at, offset = self._clock_read
        now = time.monotonic()
        if not read_at or now - read_at > _CLOCK_S:
            seconds, microseconds = self._redis.time()
            read_at = time.monotonic()
            offset = seconds + microseconds / 1e6 - (now + read_at) / 2
            self._clock_read = (read_at, offset)
        return time.monotonic() + offset


def _fields(entry: Entry, *, rev: int) -> dict[str, str | int]:
    return {
        "rev": rev,
        "state": entry.answer.state.value,
        "attempt": entry.answer.attempt,
        "spent": entry.spent,
        "lease_until": repr(entry.lease_until),
        "returned": int(entry.returned),
        "expires_at": repr(entry.answer.expires_at),
        "record": entry.answer.to_json(),
    }


def _flat(fields: dict[str, str | int]) -> Sequence[str | int]:
    return [item for pair in fields.items() for item in pair]


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
