"""Where log lines go: to stderr for `serve` and `worker`, nowhere for commands that a person waits for.

The setting `log_level` opens them up for those, too, once it is set to anything.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any

# Libraries whose `info` is about themselves.
_CHATTY = ("httpx", "httpcore", "elastic_transport", "urllib3", "transformers", "sentence_transformers", "filelock")


@contextlib.contextmanager
def for_an_operator(level: str, as_json: bool) -> Iterator[None]:
    """Log lines of this program and its libraries on stderr inside: for people, or one JSON object a line."""
    with _restored():
        _configure(level, as_json)
        yield


@contextlib.contextmanager
def for_a_person() -> Iterator[None]:
    """No log lines inside, unless `log_level` was set on purpose."""
    import structlog

    from citewell.config import load_settings, origin

    settings = load_settings()
    with _restored():
        if origin("log_level") == "default":
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
            logging.disable(logging.CRITICAL)
        else:
            _configure(settings.log_level, as_json=False)
        yield


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """What was configured before comes back after: a program that runs a command keeps its own log."""
    import structlog

    root = logging.getLogger()
    before, handlers, disabled = structlog.get_config(), root.handlers[:], root.manager.disable
    levels = {name: logging.getLogger(name).level for name in ("root", *_CHATTY)}
    try:
        yield
    finally:
        structlog.configure(**before)
        logging.disable(disabled)
        root.handlers[:] = handlers
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _configure(level: str, as_json: bool) -> None:
    import structlog

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[Any] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def show_traceback(error: Exception) -> None:
    """The traceback of an unforeseen error, for `log_level` debug alone."""
    from citewell.config import load_settings
    from citewell.errors import ConfigError

    try:
        wanted = load_settings().log_level == "debug"
    except ConfigError:
        wanted = False
    if wanted:
        traceback.print_exception(error, file=sys.stderr)
