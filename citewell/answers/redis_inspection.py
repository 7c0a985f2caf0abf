"""Answers in Redis that nobody works on, keys of ours that nobody needs, and messages whose answer is gone.

Everything is read page by page, with SCAN, which shows every key that is there all the time at least once. What looks
wrong is looked at again after a pause.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from citewell.answers import findings as wrong
from citewell.answers import moves
from citewell.answers.moves import Entry, Move
from citewell.ports import Finding
from citewell.records import Answer, Job

PLACE = "redis"
QUEUE = "queue"
_PAGE = 200
_SETTLE_S = 1.0
_KINDS = ("answer", "job", "events")


@dataclass(frozen=True)
class Access:
    """What the store lends: its client, names, reading and writing of entries, and time."""

    client: redis.Redis
    prefix: str
    read: Callable[[str], tuple[Entry | None, Job | None, int]]
    write: Callable[[str, Move, int], bool]
    clock: Callable[[], float]


class RedisInspection:
    def __init__(self, access: Access, url: str, *, ttl_s: int, period_s: float) -> None:
        self._access = access
        self._client = access.client
        self._prefix = access.prefix
        self._url = url
        self._ttl = ttl_s
        self._period = period_s
        self._removed = 0
        self._key = re.compile(re.escape(self._prefix) + r":(answer|job|events):\{(.+)\}")

    def findings(self) -> Iterator[Finding]:
        for page in self._pages(f"{self._prefix}:*"):
            yield from self._settled(page, self._judged_keys)
        for which in ("queued", "running", "expiry", "callback"):
            yield from self._hints(f"{self._prefix}:due:{which}")
        for page in self._pages(f"{self._prefix}.*", kind="LIST"):
            for queue in page:
                yield from self._messages(queue)

    def repair(self, finding: Finding) -> None:
        with self._told("be repaired"):
            if finding.kind == wrong.ORPHAN and finding.handle:
                self._client.zrem(finding.handle, finding.name)
            elif finding.kind == wrong.GONE:
                queue, _, message = finding.handle.partition("\n")
                self._removed += self._client.lrem(queue, 1, message)
            elif finding.kind == wrong.NO_TTL:
                self._client.expire(finding.name, self._ttl)
            elif finding.kind == wrong.ORPHAN:
                self._client.delete(finding.name)
            elif finding.kind == wrong.NO_JOB:
                self._client.delete(*(self._named(kind, finding.name) for kind in _KINDS))
            elif finding.kind == wrong.UNPOSTED:
                self._watch(f"{self._prefix}:due:callback", finding.name)
            elif finding.kind == wrong.UNWATCHED:
                self._hint(finding.name)
            else:
                self._requeue(finding.name)

    # Keys

    def _judged_keys(self, keys: Sequence[str]) -> dict[str, Finding]:
        """What is wrong with keys, by key and kind."""
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.ttl(key)
        endless = [key for key, ttl in zip(keys, pipe.execute(), strict=True) if ttl == -1]
        reason = "it has no time to live, and would stay for ever"
        remedy = f"--fix lets it live for `answer_ttl`, {self._ttl} s."
        found = {f"{key} ttl": Finding(wrong.NO_TTL, PLACE, key, reason, remedy) for key in endless}
        ours = {key: match for key in keys if (match := self._key.fullmatch(key))}
        seen = self._seen(sorted({match[2] for match in ours.values()}))
        now = self._access.clock()
        for key, match in ours.items():
            answer = seen.get(match[2])
            if answer is None:
                text = f"it belongs to answer {match[2]}, which is not there"
                found[key] = Finding(wrong.ORPHAN, PLACE, key, text, "--fix deletes it.")
            elif match[1] == "answer" and (finding := wrong.judge("answers", answer, period_s=self._period, now=now)):
                found[key] = finding
        return found

    def _seen(self, ids: Sequence[str]) -> dict[str, wrong.Seen]:
        pipe = self._client.pipeline(transaction=False)
        for answer_id in ids:
            pipe.hmget(self._named("answer", answer_id), ["record", "spent", "lease_until", "returned"])
            pipe.exists(self._named("job", answer_id))
            pipe.zscore(f"{self._prefix}:due:queued", answer_id)
            pipe.zscore(f"{self._prefix}:due:running", answer_id)
            pipe.zscore(f"{self._prefix}:due:callback", answer_id)
        answers = iter(pipe.execute())
        found = {}
        for answer_id in ids:
            (record, spent, lease_until, returned), job, *hints, post = (next(answers) for _ in range(5))
            if record is not None:
                entry = Entry(Answer.from_json(record), int(spent or 0), float(lease_until or 0), returned == "1")
                latest = max(self._access.clock(), entry.lease_until) + 2 * self._period
                watched = any(hint is not None and hint <= latest for hint in hints)
                found[answer_id] = wrong.Seen(entry, watched=watched, job=bool(job), listed=post is not None)
        return found

    def _requeue(self, answer_id: str) -> None:
        while True:
            entry, job, rev = self._access.read(answer_id)
            move = moves.requeued(entry, job, self._access.clock()) if entry and job else None
            if move is None:
                return
            self._hint(answer_id)
            if self._access.write(answer_id, move, rev):
                return

    def _hint(self, answer_id: str) -> None:
        key = f"{self._prefix}:due:running"
        entry, _, _ = self._access.read(answer_id)
        if entry is not None and entry.answer.state.value == "queued" and not entry.returned:
            key = f"{self._prefix}:due:queued"
        self._watch(key, answer_id)

    def _watch(self, key: str, answer_id: str) -> None:
        self._client.zadd(key, {answer_id: self._access.clock()})
        self._client.expire(key, self._ttl)

    def _hints(self, key: str) -> Iterator[Finding]:
        cursor = 0
        while True:
            with self._told("be looked through"):
                cursor, pairs = cast(tuple[int, list[tuple[str, float]]], self._client.zscan(key, cursor, count=_PAGE))
            yield from self._settled([member for member, _ in pairs], lambda ids: self._lost_hints(key, ids))
            if not int(cursor):
                return

    def _lost_hints(self, key: str, ids: Sequence[str]) -> dict[str, Finding]:
        pipe = self._client.pipeline(transaction=False)
        for answer_id in ids:
            pipe.exists(self._named("answer", answer_id))
            pipe.zscore(key, answer_id)
        answers = iter(pipe.execute())
        reason, remedy = f"{key} names an answer that is not there", "--fix takes it off."
        return {
            answer_id: Finding(wrong.ORPHAN, PLACE, answer_id, reason, remedy, handle=key)
            for answer_id in ids
            if (not next(answers)) & (next(answers) is not None)
        }

    # Messages

    def _messages(self, queue: str) -> Iterator[Finding]:
        """Messages from the oldest on; what is taken off meanwhile moves the rest up."""
        start = 0
        while True:
            before = self._removed
            with self._told("be looked through"):
                found = cast(list[str], self._client.lrange(queue, -start - _PAGE, -start - 1))
            if not found:
                return
            yield from self._settled(found, lambda messages: self._lost_messages(queue, messages))
            start += _PAGE - (self._removed - before)

    def _lost_messages(self, queue: str, messages: Sequence[str]) -> dict[str, Finding]:
        ids = {message: answer_of(message) for message in messages}
        there = self._seen(sorted({answer_id for answer_id in ids.values() if answer_id}))
        remedy = "--fix takes it off the queue."
        return {
            message: Finding(
                wrong.GONE,
                QUEUE,
                answer_id,
                f"{queue} has a message for it, and it is gone",
                remedy,
                handle=f"{queue}\n{message}",
            )
            for message, answer_id in ids.items()
            if answer_id and answer_id not in there
        }

    # Steps

    def _settled(
        self, names: Sequence[str], judged: Callable[[Sequence[str]], dict[str, Finding]]
    ) -> Iterator[Finding]:
        """What is wrong with some of these now, and still a moment later."""
        with self._told("be looked through"):
            first = judged(names) if names else {}
            if not first:
                return
            time.sleep(_SETTLE_S)
            again = judged(names)
        yield from (finding for name, finding in again.items() if name in first and first[name].kind == finding.kind)

    def _pages(self, pattern: str, kind: str | None = None) -> Iterator[list[str]]:
        cursor = 0
        while True:
            with self._told("be looked through"):
                answer: Any = self._client.scan(cursor, match=pattern, count=_PAGE, _type=kind)
            cursor, keys = int(answer[0]), answer[1]
            if keys:
                yield keys
            if not cursor:
                return

    def _named(self, kind: str, answer_id: str) -> str:
        return f"{self._prefix}:{kind}:{{{answer_id}}}"

    def _told(self, what: str) -> Any:
        from citewell.answers.redis_client import translated

        return translated(self._url, what)


def answer_of(message: str) -> str:
    """The answer that a message of Celery's is for; "" for another task, or one that cannot be read."""
    try:
        envelope = json.loads(message)
        arguments = json.loads(base64.b64decode(envelope["body"]))[0]
        return str(arguments[0].get("answer_id", ""))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return ""
