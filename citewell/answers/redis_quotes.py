"""Answers in Redis by the documents that they hold.

    PREFIX:quotes:{DOC}          sorted set: ids of answers, by when the entry may be dropped
    PREFIX:departures:announced  sorted set: documents that are being deleted or changed, by when that began
    PREFIX:departures:{went}     sorted set: the last documents that went, by the number of that moment
    PREFIX:departures:{went}:n   the last such number

An answer is entered before it is created, and again with every move and renewal, so that one that exists is never
missing; an entry without an answer does no harm. Every key has a time to live.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from citewell.errors import UnknownAnswer
from citewell.records import Answer, Evidence

# Documents that went which are remembered; a question whose search began before all of them is searched again.
REMEMBERED = 10_000
_AT_ONCE = 500
# Moments are remembered for at least this long, however short answers live: a search may take that.
_MOMENTS_S = 3600

# KEYS went, its number; ARGV ttl, how many are remembered, then ids.
_WENT = (
    "local n = redis.call('INCR', KEYS[2]) "
    "for i = 3, #ARGV do redis.call('ZADD', KEYS[1], n, ARGV[i]) end "
    "local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2]) "
    "if over > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1) end "
    "for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[1]) end return n"
)
# KEYS as above; ARGV since, how many are remembered, then ids.
_GONE = (
    "if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then "
    "  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] "
    "  if tonumber(ARGV[1]) < tonumber(oldest) then return 1 end "
    "end "
    "for i = 3, #ARGV do "
    "  local at = redis.call('ZSCORE', KEYS[1], ARGV[i]) "
    "  if at and tonumber(at) > tonumber(ARGV[1]) then return 1 end "
    "end return 0"
)


@dataclass(frozen=True)
class Access:
    """What the store lends: its client, names and time, the stopping of an answer, and its errors."""

    client: redis.Redis
    prefix: str
    clock: Callable[[], float]
    cancel: Callable[[str], Answer]
    keys: Callable[[str], tuple[str, ...]]
    translated: Callable[[str], Any]


class RedisQuotes:
    def __init__(self, access: Access, *, ttl: int) -> None:
        self._access = access
        self._client = access.client
        self._life = ttl
        self._went = access.client.register_script(_WENT)
        self._gone = access.client.register_script(_GONE)
        self._announced = f"{access.prefix}:departures:announced"
        self._moments = (f"{access.prefix}:departures:{{went}}", f"{access.prefix}:departures:{{went}}:n")

    def enter(self, answer_id: str, evidence: Evidence, now: float) -> None:
        pipe = self._client.pipeline(transaction=False)
        self.keep(pipe, answer_id, evidence, now)
        pipe.execute()

    def keep(self, pipe: Any, answer_id: str, evidence: Evidence, now: float) -> None:
        """Add to a pipeline what keeps an answer's entries for as long as a write keeps the answer."""
        for doc_id in evidence.documents():
            key = self._key(doc_id)
            pipe.zadd(key, {answer_id: now + self._life})
            pipe.zremrangebyscore(key, "-inf", now)
            pipe.expire(key, self._life)

    def quoting(self, doc_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        with self._access.translated("look for answers that quote documents"):
            for start in range(0, len(doc_ids), _AT_ONCE):
                some = doc_ids[start : start + _AT_ONCE]
                pipe = self._client.pipeline(transaction=False)
                for doc_id in some:
                    pipe.zrange(self._key(doc_id), 0, -1)
                found |= {doc_id: ids for doc_id, ids in zip(some, pipe.execute(), strict=True) if ids}
        return found

    def remove(self, answer_ids: Sequence[str]) -> int:
        count = 0
        for answer_id in answer_ids:
            try:
                self._access.cancel(answer_id)
            except UnknownAnswer:  # it has expired, or was removed with another document
                continue
            with self._access.translated("remove an answer"):
                count += bool(self._client.delete(*self._access.keys(answer_id)))
        return count

    def announce(self, doc_ids: Sequence[str]) -> None:
        with self._access.translated("note what is about to go"):
            now = self._access.clock()
            pipe = self._client.pipeline(transaction=False)
            for start in range(0, len(doc_ids), _AT_ONCE):
                pipe.zadd(self._announced, dict.fromkeys(doc_ids[start : start + _AT_ONCE], now))
            pipe.zremrangebyscore(self._announced, "-inf", now - self._life)
            pipe.expire(self._announced, self._life)
            pipe.execute()

    def unsettled(self, older_than_s: float) -> list[str]:
        with self._access.translated("look for what was not settled"):
            latest = self._access.clock() - older_than_s
            found = self._client.zrange(self._announced, "-inf", repr(latest), byscore=True, offset=0, num=_AT_ONCE)
        return cast(list[str], found)

    def settle(self, doc_ids: Sequence[str]) -> None:
        with self._access.translated("note what has gone"):
            for start in range(0, len(doc_ids), _AT_ONCE):
                self._client.zrem(self._announced, *doc_ids[start : start + _AT_ONCE])

    def went(self, doc_ids: Sequence[str] = ()) -> int:
        with self._access.translated("note what has gone"):
            number = 0 if doc_ids else int(cast("str | None", self._client.get(self._moments[1])) or 0)
            for start in range(0, len(doc_ids), _AT_ONCE):
                some = doc_ids[start : start + _AT_ONCE]
                number = int(self._went(keys=self._moments, args=[max(self._life, _MOMENTS_S), REMEMBERED, *some]))
        return number

    def gone(self, doc_ids: Sequence[str], since: int) -> bool:
        with self._access.translated("look whether documents have gone"):
            return bool(self._gone(keys=self._moments, args=[since, REMEMBERED, *doc_ids]))

    def _key(self, doc_id: str) -> str:
        return f"{self._access.prefix}:quotes:{{{doc_id}}}"
