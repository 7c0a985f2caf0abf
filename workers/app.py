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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from celery import Celery

from citewell import __version__
from citewell.config import Settings, load_settings
from citewell.jobs import celery_config
from citewell.ports import JobQueue
from citewell.priorities import queue_names
from citewell.records import JobMessage
from citewell.run import Runner
from citewell.workers.metrics import Scraped
from citewell.workers.process import DRAIN_S, Duty, WorkerProcess
from citewell.workers.sweeper import Periodic, Pulse, sweep
from citewell.workers.tasks import register

log = structlog.get_logger("citewell.workers")

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
        # A Redis that is full refuses what Celery notes of a message: the consumer tries again for as long as it takes.
        broker_channel_error_retry=True,
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
    return _process(settings, crew or _build_crew(settings, generators), drain_s).run()


def _process(settings: Settings, crew: Crew, drain_s: float) -> WorkerProcess:
    own, threads = crew.runner.generators, crew.threads or settings.workers
    name = f"{socket.gethostname()}:{os.getpid()}"
    report = {"state": "loading", "generators": list(own), "concurrency": threads, "version": __version__}
    app = make_app(settings)
    app.conf.worker_concurrency = threads
    register(app, crew.runner.run)
    duty = Duty(
        queue_names(settings.index_name, own),
        load=crew.load,
        stop=crew.runner.stop,
        close=crew.close,
        beside=(
            Periodic("sweeper", lambda: sweep(crew.due, crew.queue, own), settings.lease_seconds / 4),
            Periodic("callbacks", crew.post, _POST_S),
        ),
    )
    return WorkerProcess(app, duty, Pulse(settings, name, report, crew.runner.running), Scraped(settings), drain_s)


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
