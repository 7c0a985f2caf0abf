"""The ingest worker: a process that loads documents for others, and the sources of the settings when they are due.

It is the same Celery as the answering worker's, on a queue of its own; leases decide here, too (docs/decisions/0012).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from citewell import __version__, parts
from citewell.config import Settings
from citewell.ingest.distributed_queue import BATCH_TASK, ROLE, ingest_queues
from citewell.ingest.distributed_work import BatchWorker
from citewell.records import BatchMessage
from citewell.workers.app import make_app
from citewell.workers.metrics import Scraped
from citewell.workers.process import DRAIN_S, Duty, WorkerProcess
from citewell.workers.sources import SourceRunner, register_sources
from citewell.workers.sweeper import Pulse
from citewell.workers.tasks import register_task

log = structlog.get_logger("citewell.workers")


@dataclass(frozen=True)
class LoadingCrew:
    """What an ingest worker works with. `load` runs once, before the first message is taken."""

    batches: BatchWorker
    sources: SourceRunner
    load: Callable[[], object]
    close: Callable[[], object]


def run_ingest_worker(settings: Settings, crew: LoadingCrew | None = None, *, drain_s: float = DRAIN_S) -> int:
    """Load batches until SIGTERM, which lets running ones end; returns the exit status.

    Must be called in the main thread. Status 1 means that the crew could not be loaded; the log says why.
    """
    return _process(settings, crew or _build_crew(settings), drain_s).run()


def _process(settings: Settings, crew: LoadingCrew, drain_s: float) -> WorkerProcess:
    report = {
        "state": "loading",
        "generators": [],
        "roles": [ROLE],
        "concurrency": settings.workers,
        "version": __version__,
    }
    app = make_app(settings)
    # Every end takes the message off the queue: a load's reader sends again what was lost.
    register_task(app, BATCH_TASK, BatchMessage, crew.batches.run)
    register_sources(app, crew.sources)

    def stop() -> None:
        crew.sources.stop()
        crew.batches.stop()

    duty = Duty(
        ingest_queues(settings.index_name),
        load=crew.load,
        stop=stop,
        close=crew.close,
        hostname=f"ingest-{os.getpid()}@{socket.gethostname()}",
    )
    pulse = Pulse(settings, f"{socket.gethostname()}:{os.getpid()}", report)
    return WorkerProcess(app, duty, pulse, Scraped(settings), drain_s)


def _build_crew(settings: Settings) -> LoadingCrew:
    from citewell.engine import build

    engine, store, slots = build(settings, role="ingest"), parts.batches(settings), parts.scheduled(settings)
    owner = f"{socket.gethostname()}:{os.getpid()}"

    def close() -> None:
        engine.close()
        store.close()
        slots.close()

    batches = BatchWorker(store, engine.library.put_part, owner=owner)
    return LoadingCrew(batches, SourceRunner(settings, engine.ingest, slots, owner=owner), engine.load, close)
