"""A small HTTP proxy on loopback before a real server. It passes requests on, or spoils them as the test says."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import serving

# Headers that belong to one connection alone.
_HOP = ("connection", "content-length", "transfer-encoding", "keep-alive")


@dataclass
class Seen:
    """A request as it came; `number` counts those whose path ends alike, from 1."""

    path: str
    body: bytes
    number: int
    at: float = field(default_factory=time.monotonic)

    def ids(self) -> list[str]:
        """The `_id` of each action of a bulk request."""
        return [action["_id"] for action, _ in _actions(self.body)]


@dataclass(frozen=True)
class Answer:
    """This instead of the server's."""

    status: int
    body: Any = None


@dataclass(frozen=True)
class Reset:
    """The connection is reset, once the server has answered or (`before`) without asking it."""

    before: bool


@dataclass(frozen=True)
class Late:
    """The server's answer comes so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Refuse:
    """Bulk actions on these documents get the status; only the others reach the server."""

    status: int
    ids: frozenset[str]


Fault = Answer | Reset | Late | Refuse


class Proxy:
    """`spoil` is asked for each request whose path ends with one of its keys; it may be changed meanwhile."""

    def __init__(self, target: str) -> None:
        self.target = urllib.parse.urlsplit(target)
        self.url = ""
        self.seen: list[Seen] = []
        self.spoil: dict[str, Callable[[Seen], Fault | None]] = {}
        self._lock = threading.Lock()

    def of(self, ending: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path.endswith(ending)]

    def met(self, path: str, body: bytes) -> tuple[Seen, Fault | None]:
        path = path.partition("?")[0]
        ending = path.rpartition("/")[2]
        with self._lock:
            seen = Seen(path, body, len(self.of(ending)) + 1)
            self.seen.append(seen)
        found = self.spoil.get(ending)
        return seen, found(seen) if found else None


def _actions(body: bytes) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """Each action's fields, and its lines."""
    lines = iter(body.splitlines())
    for line in lines:
        ((op, fields),) = json.loads(line).items()
        yield {"op": op, **fields}, [line] if op == "delete" else [line, next(lines)]


def _refused(body: bytes, fault: Refuse) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The body without those actions, and what puts them back into the answer."""
    actions = list(_actions(body))
    kept = [line for action, lines in actions if action["_id"] not in fault.ids for line in lines]
    error = {"type": "es_rejected_execution_exception", "reason": "the queue is full"}

    def joined(answer: bytes) -> bytes:
        passed = iter(json.loads(answer)["items"] if answer else [])
        items = [
            {action["op"]: {"_id": action["_id"], "status": fault.status, "error": error}}
            if action["_id"] in fault.ids
            else next(passed)
            for action, _ in actions
        ]
        return json.dumps({"took": 1, "errors": True, "items": items}).encode()

    return b"".join(line + b"\n" for line in kept), joined


@contextmanager
def spoiling(target: str) -> Iterator[Proxy]:
    proxy = Proxy(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            _, fault = proxy.met(self.path, body)
            if isinstance(fault, Reset) and fault.before:
                return self._reset()
            if isinstance(fault, Answer):
                return self._answer(fault.status, json.dumps(fault.body or {}).encode())
            join: Callable[[bytes], bytes] = lambda answer: answer  # noqa: E731
            if isinstance(fault, Refuse):
                body, join = _refused(body, fault)
            nothing_left = isinstance(fault, Refuse) and not body
            status, answer = (200, b"") if nothing_left else self._asked(body)
            if isinstance(fault, Reset):
                return self._reset()
            if isinstance(fault, Late):
                time.sleep(fault.seconds)
            return self._answer(status, join(answer))

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815 - the library's names

        def _asked(self, body: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(str(proxy.target.hostname), proxy.target.port, timeout=120)
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            try:
                connection.request(self.command, self.path, body or None, headers)
                response = connection.getresponse()
                return response.status, response.read()
            finally:
                connection.close()

        def _answer(self, status: int, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("X-Elastic-Product", "Elasticsearch")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # who asked has gone, as a late answer makes it
                self.close_connection = True

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.connection.close()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing between pytest's dots."""

    with serving(Handler) as address:
        proxy.url = address
        yield proxy
