"""Pointers to answers in Redis that may be given again.

PREFIX:cache:exact:KEY    the id of an answer
PREFIX:cache:near:SCOPE   list, newest first: questions with their vectors and the ids of their answers
PREFIX:cache:all          sorted set: the keys above by when they were written
PREFIX:cache:counts       hash: how often each outcome was counted
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, cast

import redis

from citewell.config import Settings
from citewell.ports import Kept

# Questions of one scope that are compared.
NEAR = 200
_COUNTS_S = 30 * 86_400


class RedisCache:
    def __init__(
        self, client: redis.Redis, settings: Settings, clock: Callable[[], float], translated: Callable[[str], Any]
    ) -> None:
        self._client = client
        self._prefix = f"{settings.index_name}:cache"
        self._ttl = min(settings.cache_ttl, settings.answer_ttl)
        self._size = settings.cache_size
        self._clock = clock
        self._translated = translated

    def find(self, key: str) -> str:
        with self._translated("look into the cache"):
            return cast("str | None", self._client.get(f"{self._prefix}:exact:{key}")) or ""

    def near(self, scope: str) -> list[Kept]:
        with self._translated("look into the cache"):
            rows = cast(list[str], self._client.lrange(f"{self._prefix}:near:{scope}", 0, -1))
        now, found = self._clock(), []
        for answer_id, question, vector, until in map(json.loads, rows):
            if until > now:
                found.append(Kept(answer_id, question, base64.b64decode(vector)))
        return found

    def keep(self, key: str, scope: str, kept: Kept) -> None:
        now = self._clock()
        exact, near = f"{self._prefix}:exact:{key}", f"{self._prefix}:near:{scope}"
        with self._translated("keep an answer"):
            pipe = self._client.pipeline(transaction=False)
            pipe.set(exact, kept.answer_id, ex=self._ttl)
            pipe.zadd(f"{self._prefix}:all", {exact: now})
            if kept.vector:
                vector = base64.b64encode(kept.vector).decode()
                pipe.lpush(near, json.dumps([kept.answer_id, kept.question, vector, now + self._ttl]))
                pipe.ltrim(near, 0, min(NEAR, self._size) - 1)
                pipe.expire(near, self._ttl)
                pipe.zadd(f"{self._prefix}:all", {near: now})
            pipe.zremrangebyscore(f"{self._prefix}:all", "-inf", now - self._ttl)
            pipe.expire(f"{self._prefix}:all", self._ttl)
            pipe.zcard(f"{self._prefix}:all")
            over = pipe.execute()[-1] - self._size
            if over > 0:
                oldest = cast("list[tuple[str, float]]", self._client.zpopmin(f"{self._prefix}:all", over))
                self._client.delete(*(name for name, _ in oldest))

    def count(self, outcome: str) -> None:
        with self._translated("count"):
            pipe = self._client.pipeline(transaction=False)
            pipe.hincrby(f"{self._prefix}:counts", outcome, 1)
            pipe.expire(f"{self._prefix}:counts", _COUNTS_S)
            pipe.execute()

    def counts(self) -> dict[str, int]:
        with self._translated("tell what was counted"):
            found = cast(dict[str, str], self._client.hgetall(f"{self._prefix}:counts"))
        return {outcome: int(number) for outcome, number in found.items()}
