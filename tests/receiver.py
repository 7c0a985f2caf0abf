"""A real receiver of callbacks: an HTTP server that answers as it is told, and keeps what it got."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Got:
    """One request: when it came, where to, its headers in lower case, its body."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """`answers` are the first statuses, 204 follows; `hold_s` delays each answer; `location` redirects."""

    answers: list[int] = field(default_factory=list)
    hold_s: float = 0.0
    location: str = ""
    got: list[Got] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"

    def url(self, host: str = "127.0.0.1", path: str = "/done?for=me") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def of(self, answer_id: str) -> list[Got]:
        return [got for got in self.got if got.record["id"] == answer_id]

    def wait(self, count: int, within_s: float = 30.0) -> None:
        deadline = time.monotonic() + within_s
        while len(self.got) < count:
            assert time.monotonic() < deadline, f"{len(self.got)} of {count} callbacks came"
            time.sleep(0.02)


@contextmanager
def receiving(
    answers: Sequence[int] = (), *, hold_s: float = 0.0, location: str = "", tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    receiver = Receiver(list(answers), hold_s, location)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.answers.pop(0) if receiver.answers else 204
            receiver.got.append(Got(time.time(), self.path, headers, body))
            time.sleep(receiver.hold_s)
            self.send_response(status)
            if receiver.location:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.scheme = "https"
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
