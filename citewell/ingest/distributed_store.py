"""Runs of `citewell ingest --distributed` in Redis: batches, who works on them, and what became of them.

Keys of one run, in one slot of a cluster:

    PREFIX:load:{RUN}        hash: who reads, which sources, how far; gone a few leases after the reader is
    PREFIX:load:{RUN}:N      hash: batch N, its state (queued, running, done), lease, trail of attempts and result
    PREFIX:load:{RUN}:ends   stream: numbers of batches that are done

`PREFIX:loads` is a sorted set of runs by the time of the reader's last sign of life. A batch may be worked on only
while its run is there, so that nothing old is written after a reader is gone, and only under the last lease that was
given. Every key has a time to live, which the reader renews. The time is Redis's own.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from citewell.answers.redis_client import connect, translated
from citewell.config import Settings
from citewell.errors import LeaseLost, QueueUnavailable
from citewell.ingest.distributed_inspection import LoadInspection
from citewell.ingest.distributed_queue import ingest_queues
from citewell.ports import Inspection
from citewell.records import Batch, BatchResult

# A reader that gave no sign of life for so many leases is dead.
_DEAD_LEASES = 3
_BLOCK_S = 1.0

_NOW = "local t = redis.call('TIME') local now = t[1] + t[2] / 1000000 "
# KEYS batch; ARGV ttl, payload.
_PUT = (
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end "
    "redis.call('HSET', KEYS[1], 'payload', ARGV[2], 'state', 'queued', 'attempt', 0, 'spent', 0, 'lease_until', 0) "
    "redis.call('EXPIRE', KEYS[1], ARGV[1]) return 1"
)
# KEYS run, batch; ARGV ttl, seconds, owner. Returns the batch's fields, or a word.
_LEASE = (
    "if redis.call('EXISTS', KEYS[1]) == 0 then return 'gone' end "
    "local is = redis.call('HMGET', KEYS[2], 'state', 'lease_until') "
    "if not is[1] or is[1] == 'done' then return 'gone' end "
    + _NOW
    + "if is[1] == 'running' and tonumber(is[2]) > now "
    "then return 'busy' end "
    "redis.call('HINCRBY', KEYS[2], 'attempt', 1) redis.call('HINCRBY', KEYS[2], 'spent', 1) "
    "redis.call('HSET', KEYS[2], 'state', 'running', 'owner', ARGV[3], 'returned', 0, "
    "'lease_until', string.format('%.6f', now + ARGV[2])) "
    "redis.call('EXPIRE', KEYS[2], ARGV[1]) return redis.call('HGETALL', KEYS[2])"
)
_FENCE = (
    "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end "
    "local is = redis.call('HMGET', KEYS[2], 'state', 'attempt') "
    "if is[1] ~= 'running' or is[2] ~= ARGV[2] then return 0 end "
)
# KEYS run, batch; ARGV ttl, attempt, seconds, then fields.
_RENEW = (
    _FENCE + _NOW + "redis.call('HSET', KEYS[2], 'lease_until', string.format('%.6f', now + ARGV[3])) "
    "if #ARGV > 3 then redis.call('HSET', KEYS[2], unpack(ARGV, 4)) end "
    "redis.call('EXPIRE', KEYS[2], ARGV[1]) return 1"
)
# KEYS run, batch, ends; ARGV ttl, attempt, number, result.
_FINISH = (
    _FENCE + "redis.call('HSET', KEYS[2], 'state', 'done', 'result', ARGV[4]) redis.call('HDEL', KEYS[2], 'payload') "
    "redis.call('XADD', KEYS[3], '*', 'number', ARGV[3]) "
    "redis.call('EXPIRE', KEYS[2], ARGV[1]) redis.call('EXPIRE', KEYS[3], ARGV[1]) return 1"
)
# KEYS run, batch; ARGV ttl, attempt.
_RELEASE = (
    _FENCE + "redis.call('HINCRBY', KEYS[2], 'spent', -1) "
    "redis.call('HSET', KEYS[2], 'state', 'queued', 'lease_until', 0, 'returned', 1, 'at', '') return 1"
)


@dataclass(frozen=True)
class BatchLease:
    """The right to load a batch: `attempt` fences it. `spent` counts the attempts that were not given back.

    `trail` is what earlier attempts wrote down: `at`, the document that the last one had begun, `tries:N` and `why:N`
    of those that went wrong, `out:N` the outcomes of those that are done.
    """

    batch: Batch
    attempt: int
    spent: int
    trail: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BatchState:
    """A batch as its reader sees it. `late`: its worker's lease has run out; `returned`: its worker gave it back."""

    state: Literal["queued", "running", "done", "gone"]
    late: bool = False
    returned: bool = False


@dataclass(frozen=True)
class Run:
    """One load: its name in Redis, who reads, and the sources that are read."""

    id: str
    reader: str
    sources: tuple[str, ...] = ()


class RedisBatches:
    """Both sides' view of the runs in one Redis. Light to make; connects on first use; safe to share between threads.

    Methods raise `QueueUnavailable` when Redis cannot be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url
        self._prefix = settings.index_name
        self._seconds = settings.lease_seconds
        # A reader that cannot reach Redis for longer than this finds its batches gone and puts them there again.
        self._ttl = max(300, int(10 * settings.lease_seconds))
        self._redis = connect(self._url)
        scripts = (_PUT, _LEASE, _RENEW, _FINISH, _RELEASE)
        self._put, self._lease, self._renew, self._finish, self._release = map(self._redis.register_script, scripts)

    @property
    def lease_seconds(self) -> float:
        return self._seconds

    def close(self) -> None:
        self._redis.close()

    # The reader's side

    def beat(self, run: Run, numbers: Iterable[int], facts: Mapping[str, int]) -> None:
        """The reader's sign of life, which also keeps its batches; makes the run where it is not there."""
        with self._told("keep a load alive"):
            pipe, key = self._redis.pipeline(transaction=True), self._key(run.id)
            fields: dict[Any, Any] = {"reader": run.reader, "sources": json.dumps(run.sources), **facts}
            pipe.hset(key, mapping=fields)
            pipe.pexpire(key, int(_DEAD_LEASES * self._seconds * 1000))
            for name in (f"{key}:ends", *(f"{key}:{number}" for number in numbers)):
                pipe.expire(name, self._ttl)
            seconds = self._now()
            pipe.zadd(f"{self._prefix}:loads", {run.id: seconds})
            pipe.zremrangebyscore(f"{self._prefix}:loads", "-inf", seconds - _DEAD_LEASES * self._seconds)
            pipe.expire(f"{self._prefix}:loads", self._ttl)
            pipe.execute()

    def put(self, batch: Batch) -> None:
        """Keep a batch for the workers; one that is there already stays as it is."""
        with self._told("store a batch"):
            self._put(keys=[self._key(batch.run, batch.number)], args=[self._ttl, batch.to_json()])

    def states(self, run: str, numbers: Sequence[int]) -> dict[int, BatchState]:
        with self._told("look after batches"):
            pipe = self._redis.pipeline(transaction=False)
            for number in numbers:
                pipe.hmget(self._key(run, number), ["state", "lease_until", "returned"])
            rows, now = pipe.execute(), self._now()
        found = {}
        for number, (state, until, returned) in zip(numbers, rows, strict=True):
            late = state == "running" and float(until or 0) <= now
            found[number] = BatchState(state or "gone", late, state == "queued" and returned == "1")
        return found

    def ended(self, run: str, after: str, wait_s: float) -> tuple[list[int], str]:
        """Numbers of batches that are done, and how far that is; waits for the first, up to about a second."""
        block = max(1, int(min(wait_s, _BLOCK_S) * 1000)) if wait_s > 0 else None
        with self._told("wait for a batch"):
            found: Any = self._redis.xread({f"{self._key(run)}:ends": after or "0-0"}, block=block)
        rows = found[0][1] if isinstance(found, list) and found else []
        rows = next(iter(found.values()))[0] if isinstance(found, dict) and found else rows
        return [int(row["number"]) for _, row in rows], rows[-1][0] if rows else after

    def result(self, run: str, number: int) -> BatchResult | None:
        """What became of a batch; None when it is not done, or not there any more."""
        with self._told("read what became of a batch"):
            result = cast("str | None", self._redis.hget(self._key(run, number), "result"))
        return None if result is None else BatchResult.from_json(result)

    def forget(self, run: str, numbers: Iterable[int], *, whole: bool = False) -> None:
        """Delete batches; with `whole` the run, too, so that no worker begins, or writes, any more of it."""
        names = [self._key(run, number) for number in numbers]
        with self._told("clear up a load"):
            if whole:
                self._redis.delete(self._key(run), f"{self._key(run)}:ends", *names)
                self._redis.zrem(f"{self._prefix}:loads", run)
            elif names:
                self._redis.delete(*names)

    def runs(self) -> dict[Run, float]:
        """Runs whose reader was seen lately, and when that was."""
        with self._told("list loads"):
            seen = cast("list[tuple[str, float]]", self._redis.zrange(f"{self._prefix}:loads", 0, -1, withscores=True))
            pipe = self._redis.pipeline(transaction=False)
            for run_id, _ in seen:
                pipe.hmget(self._key(run_id), ["reader", "sources"])
            rows = pipe.execute() if seen else []
        return {
            Run(run_id, row[0], tuple(json.loads(row[1] or "[]"))): at
            for (run_id, at), row in zip(seen, rows, strict=True)
            if row[0]
        }

    def inspection(self) -> Inspection:
        """Looks for messages whose batch is gone."""
        return LoadInspection(self._redis, self._url, queues=ingest_queues(self._prefix), prefix=self._prefix)

    # The workers' side

    def lease(self, run: str, number: int, owner: str) -> BatchLease | Literal["busy", "gone"]:
        """`busy`: another worker has it; `gone`: it is done, or nobody waits for it any more."""
        keys = [self._key(run), self._key(run, number)]
        with self._told("lease a batch"):
            found: Any = self._lease(keys=keys, args=[self._ttl, self._seconds, owner])
        if isinstance(found, str):
            return "busy" if found == "busy" else "gone"
        fields = dict(zip(found[::2], found[1::2], strict=True))
        trail = {name: value for name, value in fields.items() if ":" in name or name == "at"}
        return BatchLease(Batch.from_json(fields["payload"]), int(fields["attempt"]), int(fields["spent"]), trail)

    def renew(self, lease: BatchLease, trail: Mapping[str, str] | None = None) -> None:
        """Hold the batch for another lease, and write something into its trail; raises `LeaseLost`."""
        named = [part for pair in (trail or {}).items() for part in pair]
        args = [self._ttl, lease.attempt, self._seconds, *named]
        self._fenced(lease, self._renew, args, "renew a batch's lease")

    def finish(self, lease: BatchLease, result: BatchResult) -> None:
        """Store what became of it and tell its reader; raises `LeaseLost`."""
        args = [self._ttl, lease.attempt, lease.batch.number, result.to_json()]
        self._fenced(lease, self._finish, args, "store what became of a batch")

    def release(self, lease: BatchLease) -> None:
        """Give it back undone: the worker is leaving, and that attempt does not count. Raises `LeaseLost`."""
        self._fenced(lease, self._release, [self._ttl, lease.attempt], "give a batch back")

    # Steps

    def _fenced(self, lease: BatchLease, script: Any, args: Sequence[Any], what: str) -> None:
        run, number = lease.batch.run, lease.batch.number
        keys = [self._key(run), self._key(run, number), f"{self._key(run)}:ends"]
        with self._told(what):
            held = script(keys=keys, args=args)
        if not held:
            raise LeaseLost(
                f"attempt {lease.attempt} at batch {number} of load {run} no longer holds it",
                remedy="Nothing: another worker has it, or its reader is gone.",
            )

    def _now(self) -> float:
        seconds, micros = self._redis.time()
        return int(seconds) + int(micros) / 1e6

    def _key(self, run: str, number: int | None = None) -> str:
        return f"{self._prefix}:load:{{{run}}}" + ("" if number is None else f":{number}")

    def _told(self, what: str) -> Any:
        return translated(self._url, what, QueueUnavailable)


def new_run(sources: Sequence[str]) -> Run:
    """A run of this process under a name that no other has."""
    return Run(uuid.uuid4().hex[:16], f"{socket.gethostname()}:{os.getpid()}", tuple(sources))
