"""Sources of the settings, loaded when they are due: the task `ingest.source`, and beat, which sends it.

`celery -A citewell.workers.app beat` may run on several machines: a slot in Redis decides which of them sends a run,
and remembers when, so that a restart neither repeats nor delays one. An ingest worker loads a source under a lock, one
run at a time (docs/decisions/0012-loads-across-machines.md).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any, Literal, cast

import structlog
from celery import Celery, beat

from citewell import parts
from citewell.config import Settings, load_settings
from citewell.errors import CitewellError, ConfigError
from citewell.ingest.distributed_queue import SOURCE_TASK, ingest_queues
from citewell.ingest.load import Loading, source_of
from citewell.ingest.scheduled import RedisSources, fire_due
from citewell.ingest.sources import Source
from citewell.records import Outcome, SourceMessage
from citewell.workers.tasks import register_task

log = structlog.get_logger("citewell.workers")

Ran = Literal["done", "busy", "dropped", "stopped", "failed"]
# Loads one source: `Engine.ingest`.
Ingest = Callable[[list[Source | str], Loading], Iterator[Outcome]]


def beat_entries(settings: Settings) -> dict[str, dict[str, Any]]:
    """The `sources` of the settings that have an `every`, as Celery's beat wants them."""
    _, queue = ingest_queues(settings.index_name)
    return {
        name: {
            "task": SOURCE_TASK,
            "schedule": timedelta(seconds=table.every),
            "args": [SourceMessage(name=name).to_dict()],
            # A message that waited for a whole period is one too many.
            "options": {"queue": queue, "expires": table.every},
        }
        for name, table in settings.sources.items()
        if table.every
    }


class SourceScheduler(beat.Scheduler):  # type: ignore[misc]
    """Celery's beat, with Redis saying what is due: several of them send each run once. It writes no file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._slots = parts.scheduled(load_settings())

    def tick(self, *_: Any, **__: Any) -> float:
        every = {name: entry.schedule.run_every.total_seconds() for name, entry in self.schedule.items()}

        def send(name: str) -> None:
            self.apply_async(self.schedule[name], producer=self.producer, advance=False)

        try:
            return fire_due(every, self._slots, send)
        except (CitewellError, beat.SchedulingError) as error:
            log.warning("beat_waits", reason=str(error))
            return 1.0

    def close(self) -> None:
        super().close()
        self._slots.close()


class SourceRunner:
    """Loads one source a call, from any number of threads; `owner` names this process in locks."""

    def __init__(self, settings: Settings, ingest: Ingest, slots: RedisSources, *, owner: str) -> None:
        self._settings = settings
        self._ingest = ingest
        self._slots = slots
        self._owner = owner
        self._leaving = threading.Event()

    def run(self, message: SourceMessage) -> Ran:
        """Load a source, unless somebody does, or has done so in this slot. Raises `QueueUnavailable`."""
        name = message.name
        owner = f"{self._owner}:{threading.get_ident()}"
        with self._slots.held(name, owner) as lost:
            slot = self._slots.slot(name)
            if lost is None or (slot and self._slots.last(name).get("slot") == slot):
                status: Ran = "busy" if lost is None else "dropped"
                log.info("source_set_aside", source=name, status=status)
                return status
            log.info("source_begun", source=name)
            started, counts, error = time.time(), Counter[str](), ""
            try:
                if not self._load(name, counts, lambda: lost.is_set() or self._leaving.is_set()):
                    log.info("source_stopped", source=name, lost=lost.is_set(), **counts)
                    if not lost.is_set():
                        self._slots.free(name, slot)
                    return "stopped"
            except CitewellError as problem:
                error = problem.message
                log.error("source_failed", source=name, code=problem.code, reason=error, remedy=problem.remedy)
            facts = {"slot": slot, "started_at": started, "ended_at": time.time(), "error": error, "counts": counts}
            self._slots.record(name, facts)
        if error:
            return "failed"
        log.info("source_loaded", source=name, seconds=round(time.time() - started, 1), **counts)
        return "done"

    def stop(self) -> None:
        """Have running loads end after the batch that they are writing; another worker goes on."""
        self._leaving.set()

    def _load(self, name: str, counts: Counter[str], stopped: Callable[[], bool]) -> bool:
        """Whether it was loaded to its end."""
        table = self._settings.sources.get(name)
        if table is None:
            known = ", ".join(self._settings.sources) or "none"
            raise ConfigError(
                f"setting `sources`: this worker has no `{name}`, which beat has; it has {known}",
                remedy="Give beat and all ingest workers the same settings.",
            )
        source, plan = source_of(table, self._settings, Loading(max_delete=self._settings.max_delete))
        with closing(cast("Generator[Outcome]", self._ingest([source], plan))) as outcomes:
            for outcome in outcomes:
                counts[outcome.status] += 1
                if outcome.status == "failed":
                    log.warning("document_failed", source=name, doc_id=outcome.doc_id, reason=outcome.reason)
                if stopped():
                    return False
        return True


def register_sources(app: Celery, runner: SourceRunner) -> None:
    """Give the app its task. A load that failed is tried again when it is due, not before."""
    register_task(app, SOURCE_TASK, SourceMessage, runner.run)
