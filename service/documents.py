"""Documents: load many, read one, delete one.

A load answers 200 whenever it was carried out: what became of each document is in its own outcome, and a bad document
never stops the others. NDJSON is read line by line, so that a load of any size needs the memory of one batch.
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import IO, Any, cast

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.routing import BaseConverter

from citewell.errors import BadInput, CitewellError, TooLarge, UnknownDocument, UnsupportedMedia
from citewell.ingest.sources import Item, Limits, bounded_lines, checked, failed, from_mapping, json_value
from citewell.records import Outcome
from citewell.service.auth import view
from citewell.service.errors import late_error
from citewell.service.state import engine, service

blueprint = Blueprint("documents", __name__, url_prefix="/v1/documents")

MAX_DOCUMENTS = 100_000
LINES = ("application/x-ndjson", "application/jsonl", "application/ndjson")
_AT_ONCE = 1 << 16
_STATUSES = ("added", "changed", "unchanged", "failed")


class DocumentId(BaseConverter):
    """Anything at all: ids are paths and addresses, with slashes at any place."""

    regex = r"[\s\S]+"
    part_isolating = False
    weight = 300


@blueprint.post("")
def load() -> Response:
    """Outcomes as one JSON object with counts, or line by line for `Accept: application/x-ndjson`."""
    limits = Limits.of(service().settings)
    if request.mimetype in LINES:
        request.max_content_length = sys.maxsize  # each line has a limit of its own; None would mean the app's
        items = _json_lines(io.BufferedReader(cast(io.RawIOBase, request.stream), _AT_ONCE), limits)
    elif request.is_json:
        items = _json_list(request.get_data(cache=False), limits)
    else:
        raise UnsupportedMedia(
            f"the body's content type is {request.mimetype or 'missing'}",
            remedy="Send Content-Type: application/x-ndjson with one document a line, or application/json with a list.",
        )
    by_line = request.accept_mimetypes.best_match(["application/json", *LINES]) in LINES
    outcomes = iter(engine().put(items if by_line else _counted(items)))
    # The first outcome decides the status: until then a backend that is down still gets its own.
    first = next(outcomes, None)
    if first is None:
        raise BadInput("the body holds no documents", remedy="Send at least one.")
    if by_line:
        return Response(_as_lines(chain([first], outcomes), g.request_id), mimetype=LINES[0])
    listed = [outcome.to_dict() for outcome in chain([first], outcomes)]
    counts = Counter(outcome["status"] for outcome in listed)
    return jsonify({"counts": {status: counts[status] for status in _STATUSES}, "outcomes": listed})


def _json_lines(stream: IO[bytes], limits: Limits) -> Iterator[Item]:
    for number, line in enumerate(bounded_lines(stream, limits.line_bytes), start=1):
        if line is None or line.strip():
            yield _item(lambda line=line: json_value(line), f"line {number}", limits)  # type: ignore[misc]


def _json_list(data: bytes, limits: Limits) -> Iterator[Item]:
    records = json_value(data, "body")
    if not isinstance(records, list):
        raise BadInput(
            f"expected a list of documents, found {type(records).__name__}",
            remedy="Send a JSON list, or one document a line as application/x-ndjson.",
        )
    return (_item(lambda record=record: record, f"item {n}", limits) for n, record in enumerate(records, start=1))  # type: ignore[misc]


def _item(read: Callable[[], Any], place: str, limits: Limits) -> Item:
    """One record's document, or the failed outcome under its id, or under its place when it has none."""
    try:
        record = read()
        if isinstance(record, dict):
            place = next((str(record[key]) for key in ("_id", "id", "url") if record.get(key)), place)
        return checked(from_mapping(record, ""), "api", limits)
    except CitewellError as error:
        return failed(_printable(place), "api", error)


def _printable(place: str) -> str:
    return place.encode("utf-8", "replace").decode()[:512]


def _counted(items: Iterable[Item]) -> Iterator[Item]:
    """The items, as long as they are not too many for one JSON object to tell of; lines have no such limit."""
    for number, item in enumerate(items):
        if number == MAX_DOCUMENTS:
            raise TooLarge(
                f"more than {MAX_DOCUMENTS} documents; those before have been loaded",
                remedy="Send the rest in further requests, or ask for lines: Accept: application/x-ndjson.",
            )
        yield item


def _as_lines(outcomes: Iterable[Outcome], request_id: str) -> Iterator[str]:
    try:
        for outcome in outcomes:
            yield outcome.to_json() + "\n"
    except Exception as error:  # noqa: BLE001 - the status is sent already, so the last line must tell
        yield late_error(error, request_id) + "\n"


@blueprint.get("/<document:doc_id>")
def read(doc_id: str) -> dict[str, Any]:
    """The document as it was loaded, with what the ledger knows of it."""
    return view().document(doc_id).to_dict()


@blueprint.delete("/<document:doc_id>")
def delete(doc_id: str) -> dict[str, Any]:
    """When this answers, no search finds the document."""
    outcome = engine().delete([doc_id])[0]
    if outcome.status == "deleted":
        return outcome.to_dict()
    if outcome.code == UnknownDocument.code:
        raise UnknownDocument(f"there is no document `{doc_id}`")
    raise CitewellError(f"document `{doc_id}` could not be deleted: {outcome.reason}")
