"""The Celery app, and the worker process.

What is special here about Celery: the pool is threads, because a model is loaded once a process and its library
frees the lock while it computes; results are not kept, because the answer store has them; and a message is no
promise, because leases are (docs/decisions/0002-leases-decide-redelivery.md). So it does no harm that a warm
shutdown may not acknowledge what ends while the pool drains: those messages come again and are dropped.

`celery -A citewell.workers.app inspect ping` works, with the settings of its environment.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery, signals
from celery.worker import state as worker_state

from citewell import __version__
from citewell.config import Settings, load_settings
from citewell.errors import CitewellError
from citewell.jobs import celery_config
from citewell.ports import JobQueue
from citewell.priorities import queue_names
from citewell.records import JobMessage
from citewell.run import Runner
from citewell.workers.sweeper import Periodic, Pulse, sweep
from citewell.workers.tasks import register

log = structlog.get_logger("citewell.workers")

# After SIGTERM running answers may end for this long; then they are given back for another worker.
DRAIN_S = 60.0
_POST_S = 1.0


@dataclass(frozen=True)
class Crew:
    """What a worker process works with. `load` runs once, when the pool is up; `due` is the answer store's.

    `close` lets go of the queue, too. `threads` is how many answers it works on at a time; 0 is the setting `workers`.
    `post` is called every second: callbacks.
    """

    runner: Runner
    queue: JobQueue
    due: Callable[..., list[JobMessage]]
    load: Callable[[], object]
    close: Callable[[], object]
    post: Callable[[], object] = int
    threads: int = 0


def make_app(settings: Settings) -> Celery:
    """The app without its task; `register` adds it."""
    app = Celery("citewell", set_as_current=False, fixups=[])
    app.conf.update(
        celery_config(settings),
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=settings.workers,
        worker_pool="threads",
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    return app


def run_worker(
    settings: Settings, crew: Crew | None = None, *, drain_s: float = DRAIN_S, generators: Sequence[str] = ()
) -> int:
    """Answer questions until SIGTERM, which lets running ones end; returns the exit status.

    Must be called in the main thread, which gets Celery's signal handlers. Without a `crew` it is built from the
    settings, for those `generators` of the catalogue (all when none is named). Status 1 means that the crew could not
    be loaded; the log says why.
    """
    return _Worker(settings, crew or _build_crew(settings, generators), drain_s).run()


class _Worker:
    """One run of the worker process: Celery, the sweeper and the pulse, from start to end."""

    def __init__(self, settings: Settings, crew: Crew, drain_s: float) -> None:
        own = crew.runner.generators
        name = f"{socket.gethostname()}:{os.getpid()}"
        report = {
            "state": "loading",
            "generators": list(own),
            "concurrency": crew.threads or settings.workers,
            "version": __version__,
        }
        self._crew = crew
        self._drain_s = drain_s
        self._failed = False
        self._drain: threading.Timer | None = None
        self._pulse = Pulse(settings, name, report, crew.runner.running)
        self._sweeper = Periodic("sweeper", self._sweep, settings.lease_seconds / 4)
        self._callbacks = Periodic("callbacks", crew.post, _POST_S)
        self._app = make_app(settings)
        self._app.conf.worker_concurrency = crew.threads or settings.workers
        register(self._app, crew.runner.run)
        self._queues = queue_names(settings.index_name, own)

    def run(self) -> int:
        with connected(
            (signals.setup_logging, self._keep_logging),
            (signals.worker_ready, self._on_ready),
            (signals.worker_shutting_down, self._on_shutting_down),
        ):
            worker = self._app.Worker(
                queues=self._queues,
                quiet=True,
                without_gossip=True,
                without_mingle=True,
                without_heartbeat=True,
            )
            try:
                self._pulse.start()
                worker.start()
            finally:
                self._leave()
        return 1 if self._failed else int(worker.exitcode or 0)

    def _on_ready(self, **_: Any) -> None:
        """Load before the first message is taken: this runs in the consumer's thread, ahead of its loop."""
        try:
            self._crew.load()
        except CitewellError as error:
            self._fail(error.message, remedy=error.remedy)
            return
        except Exception as error:  # Celery would swallow it, and a worker without a model would take messages
            log.exception("crew_not_loaded")
            self._fail(f"{type(error).__name__}: {error}")
            return
        self._sweeper.start()
        self._callbacks.start()
        self._pulse.tell("ready")
        log.info("worker_ready", queues=self._queues)

    def _fail(self, reason: str, **more: str) -> None:
        log.error("worker_cannot_start", reason=reason, **more)
        self._failed = True
        worker_state.should_stop = 1

    def _on_shutting_down(self, **_: Any) -> None:
        """Called in Celery's signal handler, so it only starts the clock.

        Until it runs down the runner takes what comes: the consumer's loop may read one more message before it ends.
        """
        if self._drain is None:
            log.info("worker_leaving", within_s=self._drain_s)
            self._drain = threading.Timer(self._drain_s, self._crew.runner.stop)
            self._drain.start()

    def _leave(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        self._sweeper.stop()
        self._callbacks.stop()
        self._crew.runner.stop()
        self._crew.close()
        self._pulse.stop()
        self._app.close()

    def _sweep(self) -> None:
        sweep(self._crew.due, self._crew.queue, self._crew.runner.generators)

    def _keep_logging(self, **_: Any) -> None:
        """A receiver of this signal makes Celery leave logging as the program has set it up."""


@contextmanager
def connected(*pairs: tuple[Any, Callable[..., None]]) -> Iterator[None]:
    """Celery signals connected to methods for the length of a block."""
    for signal, receiver in pairs:
        signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        for signal, receiver in pairs:
            signal.disconnect(receiver)


def _build_crew(settings: Settings, generators: Sequence[str]) -> Crew:
    from citewell.engine import build

    engine = build(settings, role="worker", generators=generators)
    threads = settings.threads_for(engine.runner.generators)
    return Crew(engine.runner, engine.queue, engine.store.due, engine.load, engine.close, engine.post, threads)


def __getattr__(name: str) -> Celery:
    """`app` for Celery's own commands, made on demand, so that importing this module reads no environment."""
    if name != "app":
        raise AttributeError(name)
    from citewell.workers.sources import SourceScheduler, beat_entries

    settings = load_settings()
    app = make_app(settings)
    scheduler = f"{SourceScheduler.__module__}:{SourceScheduler.__name__}"
    app.conf.update(beat_schedule=beat_entries(settings), beat_scheduler=scheduler)
    return app
