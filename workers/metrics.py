"""A worker's metrics for Prometheus, on a port of their own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client import start_http_server

from citewell.config import Settings
from citewell.errors import ConfigError
from citewell.metrics import REGISTRY

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer


class Scraped:
    """Listens on `host` and `metrics_port` between `start` and `stop`; not at all where that port is 0."""

    def __init__(self, settings: Settings) -> None:
        self._host = settings.host
        self._port = settings.metrics_port if settings.metrics else 0
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises `ConfigError` for a port that cannot be listened on."""
        if not self._port:
            return
        try:
            self._server, self._thread = start_http_server(self._port, self._host, REGISTRY)
        except OSError as error:
            raise ConfigError(
                f"setting `metrics_port`: cannot listen on {self._host} port {self._port}: {error.strerror}",
                remedy="Give each worker of a machine a port of its own, or 0 for none.",
            ) from error

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
