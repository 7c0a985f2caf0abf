"""Sources of the settings that are loaded again and again by workers: when one is due, and who loads it, in Redis.

    PREFIX:source:NAME:slot   there until the source is due again: whoever makes it may send the next run
    PREFIX:source:NAME:lock   who is loading it, for one lease, which is renewed
    PREFIX:source:NAME:last   what became of the last run that ended, as JSON

Every key has a time to live.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import structlog

from citewell.answers.redis_client import connect, translated
from citewell.config import Settings
from citewell.errors import CitewellError, LeaseLost, QueueUnavailable
from citewell.leasing import Renewal

log = structlog.get_logger("citewell.ingest")

# KEYS lock; ARGV owner, milliseconds.
_RENEW = (
    "local is = redis.call('GET', KEYS[1]) if is and is ~= ARGV[1] then return 0 end "
    "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1"
)
# KEYS lock or slot; ARGV what it must hold.
_DELETE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
# Seconds between two looks at what is due, at most.
_LONGEST_PAUSE_S = 5.0


class RedisSources:
    """Slots, locks and last runs of sources. Safe to share between threads; raises `QueueUnavailable`."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.redis_url
        self._prefix = settings.index_name
        self._ttl = settings.answer_ttl
        self._seconds = settings.lease_seconds
        self._redis = connect(self._url)
        self._renew = self._redis.register_script(_RENEW)
        self._delete = self._redis.register_script(_DELETE)

    def close(self) -> None:
        self._redis.close()

    # When

    def claim(self, name: str, every: float) -> str:
        """The right to send the next run: a name that no other slot has, or "" when it is not due yet."""
        slot = uuid.uuid4().hex
        with self._told("claim a source's slot"):
            return slot if self._made(self._key(name, "slot"), slot, every) else ""

    def due_in(self, name: str) -> float:
        """Seconds until a source is due."""
        with self._told("read a source's slot"):
            return max(0.0, self._redis.pttl(self._key(name, "slot")) / 1000)

    def free(self, name: str, slot: str) -> None:
        """The source is due at once: the run of this slot did not begin, or did not end."""
        with self._told("free a source's slot"):
            self._delete(keys=[self._key(name, "slot")], args=[slot])

    def slot(self, name: str) -> str:
        """The slot that was claimed last, "" when the source is due."""
        with self._told("read a source's slot"):
            return str(self._redis.get(self._key(name, "slot")) or "")

    # Who

    @contextmanager
    def held(self, name: str, owner: str) -> Iterator[threading.Event | None]:
        """The lock on a source, renewed meanwhile; the event tells that it was lost. None when another has it."""
        key = self._key(name, "lock")
        with self._told("lock a source"):
            mine = self._made(key, owner, self._seconds)
        if not mine:
            yield None
            return

        def renew() -> None:
            with self._told("renew a source's lock"):
                held = self._renew(keys=[key], args=[owner, int(self._seconds * 1000)])
            if not held:
                raise LeaseLost(f"the lock on the source {name} ran out, or was taken over")

        renewal = Renewal(renew, self._seconds, f"source-{name}", source=name)
        try:
            with renewal.going():
                yield renewal.lost
        finally:
            try:
                with self._told("unlock a source"):
                    self._delete(keys=[key], args=[owner])
            except CitewellError as error:  # it runs out by itself
                log.warning("source_not_unlocked", source=name, reason=error.message)

    # What became of it

    def record(self, name: str, facts: Mapping[str, Any]) -> None:
        with self._told("record a source's run"):
            self._redis.set(self._key(name, "last"), json.dumps(facts), ex=self._ttl)

    def last(self, name: str) -> dict[str, Any]:
        """What was recorded of the last run; empty when there was none, or it is too long ago."""
        with self._told("read a source's last run"):
            found = cast("str | None", self._redis.get(self._key(name, "last")))
        return json.loads(found) if found else {}

    def _made(self, key: str, value: str, seconds: float) -> bool:
        """Whether this call made the key; also where its first try did, and only the answer was lost."""
        made = self._redis.set(key, value, nx=True, px=int(seconds * 1000))
        return bool(made) or self._redis.get(key) == value

    def _key(self, name: str, part: str) -> str:
        return f"{self._prefix}:source:{name}:{part}"

    def _told(self, what: str) -> Any:
        return translated(self._url, what, QueueUnavailable)


def fire_due(every: Mapping[str, float], slots: RedisSources, send: Callable[[str], object]) -> float:
    """Send a run of each source that is due; seconds until the next look. Any number of processes may call it.

    What `send` raises frees the slot again.
    """
    for name, seconds in every.items():
        slot = slots.claim(name, seconds)
        if not slot:
            continue
        try:
            send(name)
        except Exception:
            slots.free(name, slot)
            raise
        log.info("source_due", source=name, every_s=seconds)
    return min([_LONGEST_PAUSE_S, *(slots.due_in(name) for name in every)])
