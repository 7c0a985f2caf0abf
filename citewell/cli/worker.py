"""`citewell worker`: answers what waits in the queue."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import typer

from citewell.cli.options import LogJson

if TYPE_CHECKING:
    from citewell.config import Settings


def worker(as_json: LogJson = False) -> None:
    """Answer questions from the queue until stopped.

    On the served stack this is a Celery worker for the generators of its settings. On the embedded stack it answers
    what `citewell ask --no-wait` left. Ctrl-C or SIGTERM lets running answers end. The log goes to stderr.

    Examples:

    ```
    citewell worker
    CITEWELL_STACK=served CITEWELL_GENERATOR=transformers citewell worker --json
    ```
    """
    from citewell.cli import logs
    from citewell.config import load_settings

    settings = load_settings()
    with logs.for_an_operator(settings.log_level, as_json):
        if settings.stack == "served":
            from citewell.workers.app import run_worker

            raise typer.Exit(run_worker(settings))
        _run_embedded(settings)


def _run_embedded(settings: Settings) -> None:
    """The in-process queue on the store that the other commands use."""
    import structlog

    from citewell.engine import build

    log = structlog.get_logger("citewell.worker")
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    engine = build(settings, "all")
    try:
        engine.load()
        log.info("worker_ready", stack=settings.stack, threads=settings.workers, generators=sorted(engine.generators))
        while not stop.wait(0.5):  # a bounded wait, so that signals reach Python on every system
            pass
        log.info("worker_stopping")
    finally:
        engine.close()
        for number, handler in before.items():
            signal.signal(number, handler)
