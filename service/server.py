"""`serve`: the process. waitress runs in it, beside the engine's threads and models (docs/decisions/0003).

waitress reads a request's body before the app sees the request, in memory up to half a megabyte and in a temporary
file above; `request_limit` bounds it there, too. Loads of lines have no such bound: `citewell.service.streamed`.
"""

from __future__ import annotations

import errno
import json
import logging
import signal
import socket
from typing import Any

import structlog
from waitress.server import create_server
from waitress.task import ErrorTask

from citewell.config import Settings
from citewell.engine import Engine, build
from citewell.errors import BadInput, CitewellError, ConfigError
from citewell.service.app import create_app
from citewell.service.errors import body_too_large
from citewell.service.state import EXTENSION
from citewell.service.streamed import Channel, break_off_all

log = structlog.get_logger("citewell.service")

_BACKLOG = 1024
# Open connections; an idle one costs no thread.
_CONNECTIONS = 1000
_IDLE_S = 120
_RECEIVED_AT_ONCE = 1 << 16


def serve(settings: Settings, engine: Engine | None = None) -> None:
    """Serve until SIGTERM or SIGINT; must run in the main thread, which takes the signals.

    The engine is the configured one unless another is given; it is loaded and closed here.

    Raises `ConfigError` for an address off loopback without keys, and for one that cannot be listened on; whatever
    `Engine.load` raises stops the start as well.
    """
    if not settings.on_loopback() and not settings.keys_wanted():
        raise ConfigError(
            f"setting `host` is {settings.host}, which other machines reach, and no API key is set",
            remedy="Make a key with `citewell keys new`, or set `api_key` (CITEWELL_API_KEY), or listen on 127.0.0.1.",
        )
    listener = _listen(settings.host, settings.port)
    try:
        engine = engine or build(settings, "all" if settings.stack == "embedded" else "api")
        app = create_app(settings, engine)
        try:
            engine.load()
            _run(app, listener, settings)
        finally:
            engine.close()
    finally:
        listener.close()
    log.info("stopped")


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, before anything slow is loaded, so that a port in use is told at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"setting `host`: {host} is no address: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} of {host} is in use", remedy="End the program that listens there, or set `port`."
            ) from error
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _run(app: Any, listener: socket.socket, settings: Settings) -> None:
    # Its warning about every request that waits for a thread is no news: `threads` bounds them on purpose.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(
        app,
        sockets=[listener],
        threads=settings.threads,
        backlog=_BACKLOG,
        connection_limit=_CONNECTIONS,
        recv_bytes=_RECEIVED_AT_ONCE,
        channel_timeout=_IDLE_S,
        # Reading on while a request is answered is how it notices that the client has gone.
        channel_request_lookahead=1,
        max_request_body_size=settings.request_limit,
        asyncore_use_poll=True,
        clear_untrusted_proxy_headers=True,
        ident="citewell",
    )
    server.channel_class = _Channel
    stopping = app.extensions[EXTENSION].stopping

    def stop(number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log.info("stopping", signal=signal.Signals(number).name)
        stopping.set()
        break_off_all(server.active_channels)
        raise SystemExit  # which waitress takes as the word to end its threads

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info("listening", address=_address(listener))
    try:
        server.run()
    finally:
        stopping.set()
        server.close()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]
    """What waitress refuses by itself (no HTTP at all, a body over the limit), in the one error shape."""

    def execute(self) -> None:
        refused = self.request.error
        error: CitewellError = BadInput(f"{refused.reason}: {refused.body}")
        if refused.code == 413:
            error = body_too_large(self.channel.adj.max_request_body_size)
        elif refused.code >= 500:
            error = CitewellError(refused.reason)
        body = json.dumps(error.to_json()).encode()
        self.status = f"{refused.code} {refused.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(Channel):
    error_task_class = _JsonErrorTask
