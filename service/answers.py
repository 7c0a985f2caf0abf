"""Answers: ask, poll, follow, cancel.

Asking retrieves at once and answers later. A poll with `wait` and a stream each hold one of the server's threads; when
no place is left a poll answers at once and a stream is refused, so that short requests always get through.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from flask import Blueprint, Response, g, jsonify, request, url_for

from citewell.errors import BadInput, ServiceUnavailable
from citewell.records import Answer, Event
from citewell.service.auth import caller, view
from citewell.service.errors import late_error
from citewell.service.schemas import AnswerBody, ReplayBody, read_body
from citewell.service.state import service
from citewell.view import View
from citewell.waiting import SOONEST_S, ask_again_in

blueprint = Blueprint("answers", __name__, url_prefix="/v1/answers")

MAX_WAIT_S = 60.0
HEARTBEAT_S = 10.0
# How soon a held request notices that the process stops or that its client has gone.
_SLICE_S = 1.0
# What a browser's EventSource waits before it reconnects.
_RECONNECT_MS = 1000
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@blueprint.post("")
def submit() -> Response:
    """202 once the question is safe; `Location` is where its answer will be. With `generators`, one answer each.

    With the `Idempotency-Key` of an earlier request its answer is told again, as it is now.
    """
    body = read_body(AnswerBody)
    terms = body.to_terms(_idempotency_key(), caller())
    question = body.to_question(service().settings)
    if body.generators is not None:
        if body.generator:
            raise BadInput("`generator` and `generators` exclude each other", remedy="Send one of the two.")
        each = view().submit_each(question, body.generators, terms)
        return _on_its_way({"answers": [{**_accepted(answer), "generator": answer.generator} for answer in each]})
    return _one_on_its_way(view().submit(question, body.generator, terms))


@blueprint.post("/<answer_id>/replay")
def replay(answer_id: str) -> Response:
    """The same question once more, as a new answer: on the index as it is now, or on the evidence of then."""
    return _one_on_its_way(view().replay(answer_id, recorded=read_body(ReplayBody).recorded))


def _one_on_its_way(answer: Answer) -> Response:
    told = _accepted(answer)
    response = _on_its_way(told)
    response.headers["Location"] = told["links"]["self"]
    return response


def _accepted(answer: Answer) -> dict[str, Any]:
    links = {"self": url_for(".read", answer_id=answer.id), "events": url_for(".events", answer_id=answer.id)}
    return {"id": answer.id, "state": answer.state.value, "links": links}


def _on_its_way(told: dict[str, Any]) -> Response:
    response = jsonify(told)
    response.status_code = 202
    response.headers["Retry-After"] = str(SOONEST_S)
    return response


def _idempotency_key() -> str:
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return ""
    if not _KEY.fullmatch(given):
        raise BadInput(
            "the header `Idempotency-Key` is no key",
            remedy="Send 1 to 255 letters, digits or signs of ASCII without spaces, for example a UUID.",
        )
    return given


@blueprint.get("/<answer_id>")
def read(answer_id: str) -> Response:
    """The record; with `?wait=SECONDS` once it is final, or as it is after that time."""
    wait_s = _wait_seconds(request.args.get("wait", "0"))
    found = service()
    held = wait_s > 0 and found.places.acquire(blocking=False)
    try:
        answer = _final_within(view(), answer_id, wait_s if held else 0.0, found.over())
    finally:
        if held:
            found.places.release()
    return _record(answer)


def _wait_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadInput("`wait` must be a number of seconds, 0 or more", remedy=f"Wait at most {MAX_WAIT_S:g} seconds.")
    return min(seconds, MAX_WAIT_S)


def _final_within(asked: View, answer_id: str, wait_s: float, over: Callable[[], bool]) -> Answer:
    deadline = time.monotonic() + wait_s
    while True:
        left = deadline - time.monotonic()
        answer = asked.answer(answer_id, max(0.0, min(_SLICE_S, left)))
        if answer.state.final or left <= _SLICE_S or over():
            return answer


def _record(answer: Answer) -> Response:
    response = jsonify(answer.to_dict())
    if not answer.state.final:
        response.headers["Retry-After"] = str(ask_again_in(answer.waiting))
    return response


@blueprint.delete("/<answer_id>")
def cancel(answer_id: str) -> Response:
    """The record as it is now; one that was final already stays as it was."""
    return _record(view().cancel(answer_id))


@blueprint.get("/<answer_id>/events")
def events(answer_id: str) -> Response:
    """Server-sent events from the first, or strictly after `Last-Event-ID`; the stream ends after `final`.

    204 when nothing can come any more, which tells a browser to stop reconnecting.
    """
    found, asked = service(), view()
    after = request.headers.get("Last-Event-ID", "")
    first = asked.events(answer_id, after)
    if not first and asked.answer(answer_id).state.final:
        first = asked.events(answer_id, after)
        if not first:
            return Response(status=204)
    if not found.places.acquire(blocking=False):
        raise ServiceUnavailable("too many streams are open", remedy="Poll the answer, or try again in a moment.")
    stream = _stream(asked, answer_id, after, first, found.over(), g.request_id)
    response = Response(stream, mimetype="text/event-stream")
    response.call_on_close(found.places.release)  # also when the client left before the first event
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _stream(
    asked: View, answer_id: str, after: str, pending: list[Event], over: Callable[[], bool], request_id: str
) -> Iterator[str]:
    yield f"retry: {_RECONNECT_MS}\n\n"
    told_at = time.monotonic()
    try:
        while not over():
            for event in pending:
                yield _frame(event.kind, json.dumps(event.data), event.id)
                after = event.id
                if event.kind == "final":
                    return
            if pending:
                told_at = time.monotonic()
            elif time.monotonic() - told_at >= HEARTBEAT_S:
                yield ": waiting\n\n"
                told_at = time.monotonic()
            pending = asked.events(answer_id, after, _SLICE_S)
    except Exception as error:  # noqa: BLE001 - the status is sent already, so the stream itself must tell
        yield _frame("error", late_error(error, request_id))


def _frame(kind: str, data: str, event_id: str = "") -> str:
    """One event. JSON escapes line breaks, so the data is always one line."""
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: {data}\n\n"
