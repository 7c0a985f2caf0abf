"""What every request finds: the engine, the settings, and the places for requests that are held open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import flask
from flask import current_app

from citewell.config import Settings
from citewell.engine import Engine

EXTENSION = "citewell"


class Request(flask.Request):
    """A request that knows whether its client is still there, where the server can tell: waitress can."""

    def __init__(self, environ: dict[str, Any], **options: Any) -> None:
        super().__init__(environ, **options)
        self.gone: Callable[[], bool] = environ.get("waitress.client_disconnected", lambda: False)


class Service:
    """`stopping` is set when the process ends, so that held requests let go of their threads.

    `places` bounds long-polls and streams, because each keeps a thread: a quarter of the threads always stays free
    for requests that are answered at once.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self.settings = settings
        self.stopping = threading.Event()
        reserve = max(1, settings.threads // 4)
        self.places = threading.BoundedSemaphore(max(1, settings.threads - reserve))

    def over(self) -> Callable[[], bool]:
        """Says, also after the request's context is gone, whether nobody waits for this request any more."""
        asking = flask.request
        gone = asking.gone if isinstance(asking, Request) else lambda: False
        return lambda: self.stopping.is_set() or gone()


def service() -> Service:
    """The service of the current request."""
    found = current_app.extensions[EXTENSION]
    assert isinstance(found, Service)
    return found


def engine() -> Engine:
    return service().engine
