"""When to look at which answer, in Redis: sorted sets of ids by time.

    PREFIX:due:queued    PREFIX:due:running    whether they still have a worker
    PREFIX:due:expiry                          whether anybody waits for them
    PREFIX:due:callback                        whether their callback is owed

They are hints: what is done about an answer follows from the answer itself, so they need not move in the same script,
only never be missing an answer. Each is added to before the move that calls for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import redis

from citewell.answers import redis_scripts as scripts
from citewell.answers.moves import Entry, owed
from citewell.records import AnswerState, JobMessage

Which = Literal["queued", "running", "expiry", "callback"]
ALL: tuple[Which, ...] = ("queued", "running", "expiry", "callback")
_PAGE = 512


def answer_keys(prefix: str, answer_id: str) -> tuple[str, str, str]:
    """The keys of one answer: its hash, its job, its events."""
    return f"{prefix}:answer:{{{answer_id}}}", f"{prefix}:job:{{{answer_id}}}", f"{prefix}:events:{{{answer_id}}}"


class Hints:
    """Sorted sets with a time to live of `ttl` seconds. What `take` gives out is nobody else's for `period` seconds."""

    def __init__(self, client: redis.Redis, prefix: str, *, ttl: int, period: float) -> None:
        self._redis = client
        self._prefix = prefix
        self._ttl = ttl
        self._period = period
        self._claim = client.register_script(scripts.CLAIM)

    def key(self, which: Which) -> str:
        return f"{self._prefix}:due:{which}"

    def watch(self, which: Which, answer_id: str, at: float) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.zadd(self.key(which), {answer_id: at})
        pipe.expire(self.key(which), self._ttl)
        pipe.execute()

    def moved(self, pipe: Any, entry: Entry) -> None:
        """Forget what a move has made needless."""
        state = entry.answer.state
        needless = ALL if state.final else ("queued",) if state is AnswerState.RUNNING else ()
        for which in needless:
            if which == "callback" and owed(entry.answer):
                continue
            pipe.zrem(self.key(which), entry.answer.id)

    def forget(self, which: Which, answer_id: str) -> None:
        self._redis.zrem(self.key(which), answer_id)

    def come(self, which: Which, now: float, limit: int = -1) -> list[str]:
        """Ids whose time has come, the earliest first; -1 is any number of them."""
        found = self._redis.zrange(self.key(which), "-inf", repr(now), byscore=True, offset=0, num=limit)
        return cast(list[str], found)

    def take(self, which: Which, ids: list[str], now: float, for_s: float = 0.0) -> list[str]:
        """Of these ids those that nobody else took first; their next time is `for_s` later, or a period."""
        arguments: list[str | int] = [self._ttl, repr(now), repr(now + (for_s or self._period)), *ids]
        return cast(list[str], self._claim(keys=[self.key(which)], args=arguments)) if ids else []

    def without_worker(
        self, which: Literal["queued", "running"], now: float, gone: Callable[[list[str]], None]
    ) -> Iterator[JobMessage]:
        """What one set's ids come to, page by page; also puts the set right where it was wrong.

        `gone` is told of those whose answer is no more.
        """
        ids = self.come(which, now)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            pipe = self._redis.pipeline(transaction=False)
            for answer_id in page:
                name = answer_keys(self._prefix, answer_id)[0]
                pipe.hmget(name, ["state", "lease_until", "returned", "generator", "priority"])
            rows = dict(zip(page, pipe.execute(), strict=True))
            wanting = []
            for answer_id, (state, lease_until, returned, *_) in rows.items():
                if state == "running" and float(lease_until) > now:
                    self._redis.zadd(self.key(which), {answer_id: float(lease_until)}, xx=True)
                elif state == "running" or (state == "queued" and (which == "queued" or returned == "1")):
                    wanting.append(answer_id)
                elif state != "queued":
                    self.forget(which, answer_id)
            if lost := [answer_id for answer_id, (state, *_) in rows.items() if state is None]:
                gone(lost)
            for answer_id in self.take(which, wanting, now):
                generator, priority = rows[answer_id][3:]
                yield JobMessage(answer_id=answer_id, generator=generator, priority=priority or "interactive")
