"""One run of a worker process, whatever it works on: Celery, the sign of life and an orderly end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery, signals
from celery.worker import state as worker_state

from citewell.errors import CitewellError
from citewell.workers.metrics import Scraped
from citewell.workers.sweeper import Periodic, Pulse

log = structlog.get_logger("citewell.workers")

# After SIGTERM running work may end for this long; then it is given back for another worker.
DRAIN_S = 60.0


@dataclass(frozen=True)
class Duty:
    """What a process works on. `load` runs once, before the first message is taken; `beside` goes on from then.

    `stop` gives running work back; `close` lets go of everything.
    """

    queues: Sequence[str]
    load: Callable[[], object]
    stop: Callable[[], object]
    close: Callable[[], object]
    beside: tuple[Periodic, ...] = ()
    hostname: str | None = None


class WorkerProcess:
    """Runs a duty from start to end. Must run in the main thread, which gets Celery's signal handlers."""

    def __init__(self, app: Celery, duty: Duty, pulse: Pulse, scraped: Scraped, drain_s: float) -> None:
        self._app = app
        self._scraped = scraped
        self._duty = duty
        self._pulse = pulse
        self._drain_s = drain_s
        self._failed = False
        self._drain: threading.Timer | None = None

    def run(self) -> int:
        """Until SIGTERM; the exit status. 1 means that the duty could not be loaded; the log says why."""
        with _connected(
            (signals.setup_logging, self._keep_logging),
            (signals.worker_ready, self._on_ready),
            (signals.worker_shutting_down, self._on_shutting_down),
        ):
            worker = self._app.Worker(
                hostname=self._duty.hostname,
                queues=list(self._duty.queues),
                quiet=True,
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
            )
            try:
                self._scraped.start()
                self._pulse.start()
                worker.start()
            finally:
                self._leave()
        return 1 if self._failed else int(worker.exitcode or 0)

    def _on_ready(self, **_: Any) -> None:
        """Load before the first message is taken: this runs in the consumer's thread, ahead of its loop."""
        try:
            self._duty.load()
        except CitewellError as error:
            self._fail(error.message, remedy=error.remedy)
            return
        except Exception as error:  # Celery would swallow it, and a worker without a model would take messages
            log.exception("crew_not_loaded")
            self._fail(f"{type(error).__name__}: {error}")
            return
        for periodic in self._duty.beside:
            periodic.start()
        self._pulse.tell("ready")
        log.info("worker_ready", queues=list(self._duty.queues))

    def _fail(self, reason: str, **more: str) -> None:
        log.error("worker_cannot_start", reason=reason, **more)
        self._failed = True
        worker_state.should_stop = 1

    def _on_shutting_down(self, **_: Any) -> None:
        """Called in Celery's signal handler, so it only starts the clock.

        Until it runs down the duty takes what comes: the consumer's loop may read one more message before it ends.
        """
        if self._drain is None:
            log.info("worker_leaving", within_s=self._drain_s)
            self._drain = threading.Timer(self._drain_s, self._duty.stop)
            self._drain.start()

    def _leave(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        for periodic in self._duty.beside:
            periodic.stop()
        self._duty.stop()
        self._duty.close()
        self._pulse.stop()
        self._scraped.stop()
        self._app.close()

    def _keep_logging(self, **_: Any) -> None:
        """A receiver of this signal makes Celery leave logging as the program has set it up."""


@contextmanager
def _connected(*pairs: tuple[Any, Callable[..., None]]) -> Iterator[None]:
    """Celery signals connected to methods for the length of a block."""
    for signal, receiver in pairs:
        signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        for signal, receiver in pairs:
            signal.disconnect(receiver)
