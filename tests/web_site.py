"""A small real web site on the loopback interface: what each path answers is said by the test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback import serving


@dataclass
class Reply:
    """`pieces` says more than `body`: sent one by one with a pause, under `promised` bytes of content length."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pieces: tuple[bytes, ...] = ()
    promised: int | None = None
    pause: float = 0.0


def html(title: str, words: str, **headers: str) -> Reply:
    page = f"<html lang='en'><head><title>{title}</title></head><body><h1>{title}</h1><p>{words}</p></body></html>"
    return Reply(page.encode(), headers={"Content-Type": "text/html; charset=utf-8", **headers})


def sitemap(*locations: str, index: bool = False) -> Reply:
    outer, inner = ("sitemapindex", "sitemap") if index else ("urlset", "url")
    lines = "".join(
        f"<{inner}>\n<loc> {location} </loc><lastmod>2026-01-01</lastmod></{inner}>" for location in locations
    )
    text = f'<?xml version="1.0"?><{outer} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{lines}</{outer}>'
    return Reply(text.encode(), headers={"Content-Type": "application/xml"})


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    at: float


class Site:
    """`pages` may be changed while it runs; a path that is not there answers 404."""

    def __init__(self) -> None:
        self.pages: dict[str, Reply | Callable[[Request], Reply]] = {}
        self.requests: list[Request] = []
        self.url = ""

    def paths(self) -> list[str]:
        return [request.path for request in self.requests if request.path != "/robots.txt"]

    def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        found = self.pages.get(request.path, Reply(b"not here", 404))
        reply = found(request) if callable(found) else found
        tag = reply.headers.get("ETag")
        if tag and request.headers.get("if-none-match") == tag:
            return Reply(status=304, headers={"ETag": tag})
        day = reply.headers.get("Last-Modified")
        if day and request.headers.get("if-modified-since") == day:
            return Reply(status=304)
        return reply


@contextmanager
def running_site() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = site.reply(Request(self.path, headers, time.monotonic()))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            pieces = reply.pieces or (reply.body,)
            length = sum(map(len, pieces)) if reply.promised is None else reply.promised
            if reply.status != 304:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    time.sleep(reply.pause)
            except OSError:  # the reader had enough, which is what the test wants
                self.close_connection = True
            if reply.promised is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing between pytest's dots."""

    with serving(Handler) as address:
        site.url = address
        yield site
