"""`citewell worker`: answers what waits in the queue."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from citewell.cli.options import LogJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from citewell.config import Settings

Ingest = Annotated[bool, typer.Option("--ingest", help="Load documents for others instead of answering questions.")]


def worker(
    ingest: Ingest = False,
    generators: Annotated[
        str,
        typer.Option("--generators", metavar="NAME,…", help="Only these of the catalogue. [default: all]"),
    ] = "",
    as_json: LogJson = False,
) -> None:
    """Answer questions from the queue until stopped, or load documents for `citewell ingest --distributed`.

    On the served stack this is a Celery worker for the generators of its settings, or for some of them. On the
    embedded stack it answers what `citewell ask --no-wait` left. Ctrl-C or SIGTERM lets running answers end. The log
    goes to stderr.

    Examples:

    ```
    citewell worker
    CITEWELL_STACK=served citewell worker --generators extractive,llama --json
    CITEWELL_STACK=served citewell worker --ingest
    ```
    """
    from citewell.cli import logs
    from citewell.config import load_settings

    settings = load_settings()
    names = tuple(name for part in generators.split(",") if (name := part.strip()))
    with logs.for_an_operator(settings.log_level, as_json):
        if ingest:
            raise typer.Exit(_load_documents(settings))
        if settings.stack == "served":
            from citewell.workers.app import run_worker

            raise typer.Exit(run_worker(settings, generators=names))
        _run_embedded(settings, names)


def _load_documents(settings: Settings) -> int:
    from citewell.errors import ConfigError

    if settings.stack != "served":
        raise ConfigError(
            "`citewell worker --ingest` loads what comes through Redis, which the embedded stack does not have",
            remedy='Set `stack` to "served", or load with `citewell ingest` alone.',
        )
    from citewell.workers.loading import run_ingest_worker

    return run_ingest_worker(settings)


def _run_embedded(settings: Settings, generators: Sequence[str]) -> None:
    """The in-process queue on the store that the other commands use."""
    import structlog

    from citewell.engine import build

    log = structlog.get_logger("citewell.worker")
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    engine = build(settings, "all", generators=generators)
    try:
        engine.load()
        log.info("worker_ready", stack=settings.stack, generators=sorted(engine.generators))
        while not stop.wait(0.5):  # a bounded wait, so that signals reach Python on every system
            pass
        log.info("worker_stopping")
    finally:
        engine.close()
        for number, handler in before.items():
            signal.signal(number, handler)
