"""Ingest workers and readers of distributed loads as processes, with an embedder that does what texts tell it to.

    python -m tests.scripted_ingest worker '{"redis_url": ..., "drain_s": 60}'
    python -m tests.scripted_ingest reader '{"redis_url": ..., "source": "sqlite:///…", "query": "select …"}'

Words in a text: `DIE` kills the process, `RAISE` raises, `SLOW` takes a moment, `HANG` seconds. A reader prints each
outcome's id and status. Logs go to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog

from citewell.config import Settings, load_settings
from citewell.ingest.distributed import DistributedShelf
from citewell.ingest.distributed_queue import IngestQueue
from citewell.ingest.distributed_sender import Sending, Waits
from citewell.ingest.distributed_store import RedisBatches, new_run
from citewell.ingest.distributed_work import BatchWorker
from citewell.ingest.load import Loading, load_sources, opened
from citewell.ingest.scheduled import RedisSources
from citewell.ingest.sources import Limits, Source, SourceOptions, open_source
from citewell.library import Library
from citewell.ports import Vectors
from citewell.records import Outcome
from citewell.workers.loading import LoadingCrew, run_ingest_worker
from citewell.workers.sources import SourceRunner
from tests.hashing import HashingEmbedder
from tests.libraries import library


class Obedient(HashingEmbedder):
    """Does what the texts say before it embeds them."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        words = {word for text in texts for word in text.split()}
        if "DIE" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if "RAISE" in words:
            raise RuntimeError("told to raise")
        time.sleep(3.0 if "HANG" in words else 0.0)
        time.sleep(0.002 * sum("SLOW" in text for text in texts))
        return super().embed_passages(texts)


def sending(settings: Settings, **more: Any) -> Sending:
    return Sending(settings.ingest_window, settings.max_attempts, Waits(workers=30.0, loading=60.0, redis=30.0), **more)


def shelf(settings: Settings, into: Library, sources: Sequence[str], **more: Any) -> DistributedShelf:
    """A shelf that sends to workers."""
    notes: list[str] = []
    store, queue = RedisBatches(settings), IngestQueue(settings)
    return DistributedShelf(into, store, queue, new_run(sources), sending(settings, **more), notes.append)


def work(settings: Settings, drain_s: float) -> int:
    into, store, slots = library(settings, Obedient()), RedisBatches(settings), RedisSources(settings)
    batches = BatchWorker(store, into.put_part, owner=str(os.getpid()))

    def ingest(sources: Sequence[Source | str], plan: Loading) -> Iterator[Outcome]:
        return load_sources(into, opened(sources, settings), plan, lambda _: None)

    def close() -> None:
        into.close()
        store.close()
        slots.close()

    runner = SourceRunner(settings, ingest, slots, owner=str(os.getpid()))
    return run_ingest_worker(settings, LoadingCrew(batches, runner, into.index, close), drain_s=drain_s)


def read(settings: Settings, address: str, options: SourceOptions) -> int:
    source = open_source(address, Limits.of(settings), options)
    with closing(library(settings, Obedient())) as into:
        for outcome in load_sources(shelf(settings, into, [source.name]), [source], Loading(), lambda _: None):
            print(outcome.doc_id, outcome.status, flush=True)
    return 0


def main() -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    part, given = sys.argv[1], json.loads(sys.argv[2])
    drain_s, source = given.pop("drain_s", 60.0), given.pop("source", "")
    options = SourceOptions(query=given.pop("query", ""), since=given.pop("since", ""))
    settings = load_settings(**{**given, "data_dir": Path(given.get("data_dir", "."))})
    return work(settings, drain_s) if part == "worker" else read(settings, source, options)


if __name__ == "__main__":
    sys.exit(main())
