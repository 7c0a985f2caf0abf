"""Whole services on either column of answers: SQLite with threads, or Redis with worker processes.

Retrieval is LanceDB with an embedder that has no model, in both. The generator `scripted` is `tests.scripted`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.config import Settings, load_settings
from citewell.engine import Engine, Models
from citewell.generate.extractive import ExtractiveGenerator
from citewell.jobs import CeleryQueue, InlineQueue
from citewell.ports import Answers
from citewell.quoting import Quoting
from citewell.records import JobMessage
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.scripted import ScriptedGenerator
from tests.servers.processes import wait_until

ROOT = Path(__file__).parents[1]
COLUMNS = ("sqlite", "redis")


class Workers:
    """Worker processes of one test; all are ended with it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._folder = folder
        self._settings = settings
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **more: Any) -> subprocess.Popen[bytes]:
        argument = json.dumps(self._settings | more)
        with (self._folder / f"worker-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.scripted_worker", argument],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def logs(self) -> str:
        return "\n".join(path.read_text("utf-8", "replace") for path in sorted(self._folder.glob("worker-*.log")))

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(10)


class LateQueue(InlineQueue):
    """Takes messages before it is loaded, as Celery's queue does without workers; the store's `due` keeps them."""

    def submit(self, message: JobMessage) -> None:
        if self._open:
            super().submit(message)


class Column:
    """One column in a test: its settings, `engine` and `store`, and what works on answers."""

    def __init__(self, settings: Settings, engine: Engine, store: Answers, workers: Workers | None) -> None:
        self.settings = settings
        self.engine = engine
        self.store = store
        self._workers = workers

    @property
    def in_processes(self) -> bool:
        return self._workers is not None

    def start_workers(self, count: int = 1) -> None:
        """Answers are written from now on; nothing is before. Returns when the workers are ready."""
        if self._workers is None:
            self.engine.queue.load()
            return
        for _ in range(count):
            self._workers.start()
        assert wait_until(lambda: self.slots() >= count * self.settings.workers, 60), self._workers.logs()

    def slots(self) -> int:
        return self.engine.queue.slots("scripted")


@contextmanager
def timed_store(kind: str, folder: Path, redis_url: str, clock: Callable[[], float]) -> Iterator[Answers]:
    """A loaded store of that column whose time is the clock's."""
    store: Answers
    if kind == "redis":
        store = RedisAnswers(load_settings(redis_url=redis_url), clock=clock)
    else:
        store = SqliteAnswers(load_settings(data_dir=folder / "data"), clock=clock)
    store.load()
    yield store
    store.close()


@contextmanager
def column(kind: str, folder: Path, redis_url: str = "", **given: Any) -> Iterator[Column]:
    """An engine of that column that is loaded, but for who works on its answers."""
    given = {"lease_seconds": 1.5, "workers": 2, "generator": "scripted"} | given
    settings = load_settings(data_dir=folder / "data", **({"redis_url": redis_url} if redis_url else {}), **given)
    embedder = HashingEmbedder()
    store: Answers = RedisAnswers(settings) if kind == "redis" else SqliteAnswers(settings)
    with ExitStack() as stack:
        workers = None
        if kind == "redis":
            named = {**given, "redis_url": redis_url, "names": ["scripted"]}
            workers = Workers(folder, **named)
            stack.callback(lambda: print(workers.logs()))
            stack.callback(workers.close)
        engine = Engine(
            settings,
            "all",
            models=Models(embedder, {"extractive": ExtractiveGenerator(embedder), "scripted": ScriptedGenerator()}),
            library=library(settings, embedder, quoting=Quoting(store)),
            store=store,
            make_queue=lambda engine: (
                CeleryQueue(settings, ("scripted",))
                if kind == "redis"
                else LateQueue(engine.run, store.due, threads=settings.workers, poll_s=0.1, beside=engine.post)
            ),
        )
        stack.callback(engine.close)
        store.load()
        embedder.load()
        engine.library.index()
        yield Column(settings, engine, store, workers)
