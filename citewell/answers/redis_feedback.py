"""Judgements of answers in Redis; they stay when their answers go.

PREFIX:feedback:one:ANSWER:CALLER   one judgement
PREFIX:feedback:all                 sorted set: the keys above by when they were given
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import redis

from citewell.config import Settings
from citewell.records import Feedback

_AT_ONCE = 500


class RedisFeedback:
    def __init__(
        self, client: redis.Redis, settings: Settings, clock: Callable[[], float], translated: Callable[[str], Any]
    ) -> None:
        self._client = client
        self._prefix = f"{settings.index_name}:feedback"
        self._ttl = settings.feedback_ttl
        self._clock = clock
        self._translated = translated

    def give(self, feedback: Feedback) -> bool:
        key, every = f"{self._prefix}:one:{feedback.answer_id}:{feedback.caller}", f"{self._prefix}:all"
        with self._translated("keep feedback"):
            pipe = self._client.pipeline(transaction=True)
            pipe.zremrangebyscore(every, "-inf", self._clock() - self._ttl)
            pipe.zadd(every, {key: feedback.given_at})
            pipe.set(key, feedback.to_json(), ex=self._ttl)
            pipe.expire(every, self._ttl)
            return bool(pipe.execute()[1])

    def given(self, since: float = 0.0) -> Iterator[Feedback]:
        # By number of seconds, not by place: what is given meanwhile moves no other, what is replaced moves to the end.
        told: set[str] = set()
        at: float = max(since, self._clock() - self._ttl)
        while True:
            with self._translated("read feedback"):
                found = cast(
                    "list[tuple[str, float]]",
                    self._client.zrange(
                        f"{self._prefix}:all", cast(Any, at), cast(Any, "+inf"),
                        byscore=True, offset=0, num=_AT_ONCE + len(told), withscores=True,
                    ),
                )  # fmt: skip
                fresh = [(key, score) for key, score in found if key not in told]
                records = cast("list[str | None]", self._client.mget([key for key, _ in fresh])) if fresh else []
            if not fresh:
                return
            told = {key for key, score in fresh if score == fresh[-1][1]} | (told if fresh[-1][1] == at else set())
            at = fresh[-1][1]
            yield from (Feedback.from_json(record) for record in records if record)
