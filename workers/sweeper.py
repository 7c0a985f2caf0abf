"""Threads beside the pool: answers whose worker died are queued again, and others see that this worker lives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog

from citewell.answers.redis_client import connect, translated
from citewell.config import Settings
from citewell.errors import CitewellError, QueueUnavailable
from citewell.jobs import forget_worker, report_worker
from citewell.ports import JobQueue
from citewell.records import JobMessage

log = structlog.get_logger("citewell.workers")

# Often enough that `GET /v1/generators` tells a load of now.
_PULSE_S = 2.0
_PULSE_TTL_S = 15


class Periodic:
    """Calls something every `period_s` seconds in a thread, until `stop`; a failure is logged and tried again."""

    def __init__(self, name: str, call: Callable[[], object], period_s: float) -> None:
        self._call = call
        self._period_s = period_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _repeat(self) -> None:
        while not self._over.is_set():
            try:
                self._call()
            except CitewellError as error:
                log.warning("periodic_failed", what=self._thread.name, reason=error.message)
            except Exception:  # without this thread nothing would be swept or posted any more, and nobody would notice
                log.exception("periodic_crashed", what=self._thread.name)
            self._over.wait(self._period_s)


def sweep(due: Callable[..., list[JobMessage]], queue: JobQueue, own: tuple[str, ...]) -> int:
    """Queue again what has no worker, and say how many.

    `queued` answers count only when nothing waits in the queues, for a message that waits is no message that is lost.
    Another generator's answer is left to its own workers when messages wait there, so that they do not pile up in a
    queue that nobody reads.
    """
    sent = 0
    for message in due(queued=queue.depth() == 0):
        if message.generator in own or queue.depth(message.generator) == 0:
            queue.submit(message)
            sent += 1
            log.info("answer_queued_again", answer=message.answer_id, generator=message.generator)
    return sent


class Pulse:
    """The sign of life in Redis: `PREFIX:worker:NAME`, gone 15 seconds after the worker is; `running` is its load."""

    def __init__(
        self, settings: Settings, name: str, state: dict[str, Any], running: Callable[[], dict[str, int]] = dict
    ) -> None:
        self._running = running
        self._settings = settings
        self._name = name
        self._state = state
        self._redis = connect(settings.redis_url)
        self._periodic = Periodic("pulse", self._beat, _PULSE_S)

    def start(self) -> None:
        self._periodic.start()

    def tell(self, state: str) -> None:
        """Change the reported state (`loading`, `ready`) and report it now."""
        self._state = {**self._state, "state": state}
        try:
            self._beat()
        except QueueUnavailable as error:
            log.warning("pulse_failed", reason=error.message)

    def stop(self) -> None:
        self._periodic.stop()
        try:
            with translated(self._settings.redis_url, "forget a worker", QueueUnavailable):
                forget_worker(self._redis, self._settings.index_name, self._name)
        except QueueUnavailable as error:
            log.warning("pulse_failed", reason=error.message)
        self._redis.close()

    def _beat(self) -> None:
        with translated(self._settings.redis_url, "record a sign of life", QueueUnavailable):
            state = {**self._state, "running": self._running()}
            report_worker(self._redis, self._settings.index_name, self._name, state, _PULSE_TTL_S)
