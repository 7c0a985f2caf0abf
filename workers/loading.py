"""The ingest worker: a process that loads documents for others, and the sources of the settings when they are due.

It is the same Celery as the answering worker's, on a queue of its own; leases decide here, too (docs/decisions/0012).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from celery import Celery, signals
from celery.worker import state as worker_state
from pydantic import ValidationError

from citewell import __version__, parts
from citewell.config import Settings
from citewell.errors import CitewellError
from citewell.ingest.distributed_queue import BATCH_TASK, ROLE, ingest_queues
from citewell.ingest.distributed_work import BatchWorker
from citewell.records import BatchMessage
from citewell.workers.app import DRAIN_S, connected, make_app
from citewell.workers.sources import SourceRunner, register_sources
from citewell.workers.sweeper import Pulse

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
    return _IngestWorker(settings, crew or _build_crew(settings), drain_s).run()


class _IngestWorker:
    def __init__(self, settings: Settings, crew: LoadingCrew, drain_s: float) -> None:
        name = f"{socket.gethostname()}:{os.getpid()}"
        report = {
            "state": "loading",
            "generators": [],
            "roles": [ROLE],
            "concurrency": settings.workers,
            "version": __version__,
        }
        self._crew = crew
        self._drain_s = drain_s
        self._failed = False
        self._drain: threading.Timer | None = None
        self._pulse = Pulse(settings, name, report)
        self._queues = list(ingest_queues(settings.index_name))
        self._app = make_app(settings)
        _register(self._app, crew.batches)
        register_sources(self._app, crew.sources)

    def run(self) -> int:
        with connected(
            (signals.setup_logging, self._keep_logging),
            (signals.worker_ready, self._on_ready),
            (signals.worker_shutting_down, self._on_shutting_down),
        ):
            worker = self._app.Worker(
                hostname=f"ingest-{os.getpid()}@{socket.gethostname()}",
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
        self._pulse.tell("ready")
        log.info("worker_ready", queues=self._queues)

    def _fail(self, reason: str, **more: str) -> None:
        log.error("worker_cannot_start", reason=reason, **more)
        self._failed = True
        worker_state.should_stop = 1

    def _on_shutting_down(self, **_: Any) -> None:
        """Called in Celery's signal handler, so it only starts the clock."""
        if self._drain is None:
            log.info("worker_leaving", within_s=self._drain_s)
            self._drain = threading.Timer(self._drain_s, self._stop)
            self._drain.start()

    def _leave(self) -> None:
        if self._drain is not None:
            self._drain.cancel()
        self._stop()
        self._crew.close()
        self._pulse.stop()
        self._app.close()

    def _stop(self) -> None:
        self._crew.sources.stop()
        self._crew.batches.stop()

    def _keep_logging(self, **_: Any) -> None:
        """A receiver of this signal makes Celery leave logging as the program has set it up."""


def _register(app: Celery, batches: BatchWorker) -> None:
    """Give the app its tasks. Every end takes the message off the queue: a load's reader sends again what was lost."""

    def load(payload: dict[str, Any]) -> None:
        try:
            message = BatchMessage.model_validate(payload)
        except ValidationError as error:
            log.error("message_unreadable", payload=repr(payload)[:500], reason=str(error))
            return
        try:
            batches.run(message)
        except CitewellError as error:
            log.error("batch_not_run", load=message.run, batch=message.number, code=error.code, reason=error.message)

    app.task(load, name=BATCH_TASK, ignore_result=True, acks_late=True)


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
