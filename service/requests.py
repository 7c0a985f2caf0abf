"""Request ids and the access log: one line a request when its response has been sent, never with a question's text."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from flask import Flask, Response, g, request

from citewell import metrics

log = structlog.get_logger("citewell.access")

HEADER = "X-Request-ID"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def register(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    """Take the caller's request id when it is harmless in a header and a log, else make one."""
    given = request.headers.get(HEADER, "")
    g.request_id = given if _ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex
    g.started = time.perf_counter()
    structlog.contextvars.clear_contextvars()  # threads are used again
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _end(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    # Answers hold what documents say; no cache on the way may keep them.
    response.headers["Cache-Control"] = "no-store"
    line = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "request_id": g.request_id,
    }
    if named := getattr(g.get("caller"), "name", ""):
        line["key"] = named
    started = g.started
    route = request.url_rule.rule if request.url_rule is not None else ""

    def closed() -> None:
        took_s = time.perf_counter() - started
        metrics.requested(route, response.status_code, took_s)
        log.info("request", **line, ms=round(took_s * 1e3, 1))

    # A stream ends long after this hook; its line tells how long it was open.
    response.call_on_close(closed)
    return response
