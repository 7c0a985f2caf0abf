"""A small real `/v1/embeddings`: the hashing embedder behind HTTP, and the ways in which such servers fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.hashing import HashingEmbedder
from tests.loopback import serving

KEY = "sesame"
Answer = tuple[int, dict[str, str], Any]


class Endpoint:
    """`answers` are given first, in order; a callable gets the proper answer and changes it."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: list[Answer | Callable[[dict[str, Any]], Any]] = []
        self.url = ""

    def answer(self, request: dict[str, Any], key: str) -> Answer:
        self.requests.append(request)
        planned = self.answers.pop(0) if self.answers else None
        if isinstance(planned, tuple):
            return planned
        if key != f"Bearer {KEY}":
            return 401, {}, {"error": {"message": "no such key"}}
        vectors = 3 * HashingEmbedder().embed_passages(request["input"])
        data = [{"object": "embedding", "index": n, "embedding": v.tolist()} for n, v in enumerate(vectors)]
        body = {"object": "list", "model": request["model"], "data": data[::-1]}
        return 200, {}, planned(body) if planned else body


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer: Answer = (404, {}, "no such page")
            if self.path == "/v1/embeddings":
                answer = served.answer(request, self.headers.get("Authorization", ""))
            status, headers, body = answer
            content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with serving(Handler) as address:
        served.url = f"{address}/v1"
        yield served
