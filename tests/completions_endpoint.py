"""A small real `/v1/chat/completions`, streamed, and the ways in which such servers fail."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import serving

KEY = "sesame"


class Endpoint:
    """It answers with `words`, `pause_s` apart. `plans` are for the next requests, in order:

    a number is a status, with a `Retry-After` of 0.1; `cut` ends the stream after two words, `page` is no completion,
    `drop` closes the connection. `usage` is what it tells of tokens to those who ask, `refusal` its words for a request
    with `stream_options`, which it otherwise takes.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.plans: list[int | str] = []
        self.words = ["The shop ", "opens at ", "nine. ", "[1]"]
        self.usage: dict[str, Any] = {"prompt_tokens": 120, "completion_tokens": 9, "total_tokens": 129}
        self.refusal = ""
        self.pause_s = 0.0
        self.silent_s = 0.0
        self.open = self.most_open = self.broken_off = 0
        self.lock = threading.Lock()
        self.url = ""


def _event(**choice: Any) -> bytes:
    body = {"object": "chat.completion.chunk", "choices": [{"index": 0, "finish_reason": None, **choice}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with served.lock:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                served.requests.append(request)
                plan = served.plans.pop(0) if served.plans else ""
                served.open += 1
                served.most_open = max(served.open, served.most_open)
            try:
                self._answer(plan, "stream_options" in request)
            except OSError:
                served.broken_off += 1
            finally:
                with served.lock:
                    served.open -= 1

        def _answer(self, plan: int | str, counted: bool) -> None:
            if plan == "drop":
                self.close_connection = True
                return
            if not isinstance(plan, int) and self.headers.get("Authorization") != f"Bearer {KEY}":
                plan = 401
            if not isinstance(plan, int) and self.path != "/v1/chat/completions":
                plan = 404
            said = f"planned {plan}"
            if plan == "" and counted and served.refusal:
                plan, said = 400, served.refusal
            if isinstance(plan, int):
                body = json.dumps({"error": {"message": said}}).encode()
                self.send_response(plan)
                self.send_header("Retry-After", "0.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            if plan == "page":
                self.wfile.write(b"data: <html>\n\n")
                return
            self._stream(2 if plan == "cut" else len(served.words), counted)

        def _stream(self, count: int, counted: bool) -> None:
            self.wfile.write(_event(delta={"role": "assistant"}))
            self.wfile.flush()
            time.sleep(served.silent_s)
            for word in served.words[:count]:
                self.wfile.write(_event(delta={"content": word}))
                self.wfile.flush()
                time.sleep(served.pause_s)
            if count == len(served.words):
                self.wfile.write(_event(delta={}, finish_reason="stop"))
                if counted and served.usage:
                    last = {"object": "chat.completion.chunk", "choices": [], "usage": served.usage}
                    self.wfile.write(b"data: " + json.dumps(last).encode() + b"\n\n")
                self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with serving(Handler) as address:
        served.url = f"{address}/v1"
        yield served
