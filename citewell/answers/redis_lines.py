"""How long the line before each generator is, in Redis.

    PREFIX:line:{GENERATOR}:interactive    PREFIX:line:{GENERATOR}:batch    queued ids by the time they were asked
    PREFIX:line:{GENERATOR}:running                                         running ids by the end of their lease
    PREFIX:line:{GENERATOR}:pace                                            seconds that an answer takes lately
    PREFIX:lines                                                            the generators that have a line

They follow the moves a moment later and may be wrong about an answer whose process died in between: until the next
move of it, or a sweep, or the end of its lease or time to live. Nothing but estimates is made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import redis

from citewell.answers import redis_scripts as scripts
from citewell.answers.moves import Entry
from citewell.ports import Line
from citewell.records import AnswerState, Priority


class Lines:
    def __init__(self, client: redis.Redis, prefix: str, *, ttl: int) -> None:
        self._redis = client
        self._prefix = prefix
        self._ttl = ttl
        self._all = f"{prefix}:lines"
        self._pace = client.register_script(scripts.PACE)

    def moved(self, pipe: Any, entry: Entry) -> None:
        """Put an answer where its state belongs."""
        answer = entry.answer
        queued, running = self._queued(answer.generator, answer.priority), self._key(answer.generator, "running")
        places = {queued: answer.created_at, running: entry.lease_until}
        here = {AnswerState.QUEUED: queued, AnswerState.RUNNING: running}.get(answer.state)
        for key, score in places.items():
            if key == here:
                pipe.zadd(key, {answer.id: score})
                pipe.sadd(self._all, answer.generator)
                pipe.expire(key, self._ttl)
                pipe.expire(self._all, self._ttl)
            else:
                pipe.zrem(key, answer.id)

    def forget(self, ids: Sequence[str]) -> None:
        """Take answers that are gone out of whatever line they stand in."""
        for generator in cast(set[str], self._redis.smembers(self._all)):
            keys = [self._queued(generator, name) for name in ("interactive", "batch")] + [
                self._key(generator, "running")
            ]
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.zrem(key, *ids)
            pipe.exists(*keys)
            if not pipe.execute()[-1]:
                self._redis.srem(self._all, generator)

    def renewed(self, generator: str, answer_id: str, until: float) -> None:
        self._redis.zadd(self._key(generator, "running"), {answer_id: until}, xx=True)

    def took(self, pipe: Any, generator: str, seconds: float) -> None:
        """An answer of this generator has been written in that time."""
        self._pace(keys=[self._key(generator, "pace")], args=[self._ttl, repr(seconds)], client=pipe)

    def line(self, generator: str, priority: Priority, answer_id: str, now: float) -> Line:
        interactive, batch = self._queued(generator, "interactive"), self._queued(generator, "batch")
        pipe = self._redis.pipeline(transaction=True)
        for key in (interactive, batch):
            pipe.zremrangebyscore(key, "-inf", repr(now - self._ttl))
        pipe.zcard(interactive)
        pipe.zcard(batch)
        pipe.zrank(batch if priority == "batch" else interactive, answer_id)
        pipe.zcount(self._key(generator, "running"), repr(now), "+inf")
        pipe.hget(self._key(generator, "pace"), "seconds")
        *_, quick, slow, rank, running, seconds = pipe.execute()
        before = rank if rank is not None else slow if priority == "batch" else quick
        return Line(int(before) + (int(quick) if priority == "batch" else 0), int(running), float(seconds or 0.0))

    def _queued(self, generator: str, priority: str) -> str:
        return self._key(generator, "batch" if priority == "batch" else "interactive")

    def _key(self, generator: str, which: str) -> str:
        return f"{self._prefix}:line:{{{generator}}}:{which}"
