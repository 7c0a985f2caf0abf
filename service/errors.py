"""Every failure in the one shape `{"error": {"code", "message", "remedy"}}`: ours, HTTP's own, and the unforeseen.

A traceback goes to the log, under the request id that the caller is told.
"""

from __future__ import annotations

import json

import structlog
from flask import Flask, Response, g, has_request_context, jsonify, request
from werkzeug.exceptions import HTTPException

from citewell.errors import BadInput, CitewellError, NotFound, TooLarge, Unauthorized, Unavailable

log = structlog.get_logger("citewell.service")

RETRY_AFTER_S = 5


class MethodNotAllowed(BadInput):
    """405: the route exists, for other methods."""

    code = "method_not_allowed"
    status = 405


def register(app: Flask) -> None:
    app.register_error_handler(Exception, handle)


def handle(error: Exception) -> Response:
    """The response for anything that a view, a hook or the routing raised."""
    ours = translated(error, g.request_id)
    response = jsonify(ours.to_json())
    response.status_code = ours.status
    if isinstance(error, HTTPException):
        kept = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
        response.headers.extend(kept)
    if isinstance(ours, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    if isinstance(ours, Unavailable):
        response.headers["Retry-After"] = str(ours.detail.get("retry_after_s", RETRY_AFTER_S))
    return response


def translated(error: Exception, request_id: str) -> CitewellError:
    """Any exception as one of ours; an unforeseen one is logged with its traceback."""
    if isinstance(error, CitewellError):
        if error.status >= 500:
            log.warning("request_failed", code=error.code, reason=error.message)
        return error
    if isinstance(error, HTTPException):
        return _of_http(error)
    log.error("request_crashed", exc_info=error)
    return CitewellError(
        f"an unforeseen error, logged under request id {request_id}", detail={"request_id": request_id}
    )


def _of_http(error: HTTPException) -> CitewellError:
    """An error of Flask or werkzeug, told in this API's words where they are known."""
    if not has_request_context():
        return _other(error)
    if error.code == 404:
        return NotFound(f"there is no route {request.path}")
    if error.code == 405:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return MethodNotAllowed(
            f"{request.path} does not know the method {request.method}", remedy=f"Use one of: {allowed}."
        )
    return body_too_large(request.max_content_length) if error.code == 413 else _other(error)


def _other(error: HTTPException) -> CitewellError:
    cls: type[CitewellError] = CitewellError if (error.code or 500) >= 500 else BadInput
    ours = cls(str(error.description))
    ours.status = error.code or 500
    return ours


def body_too_large(limit: int | None) -> TooLarge:
    return TooLarge(
        f"the body is larger than {limit} bytes",
        remedy="Send it in several requests, or raise the setting `request_limit`.",
    )


def late_error(error: Exception, request_id: str) -> str:
    """The error's JSON, for a response whose status has been sent and whose request context is gone."""
    return json.dumps(translated(error, request_id).to_json())
