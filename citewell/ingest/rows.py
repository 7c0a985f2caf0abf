"""Records of files to documents, one by one: JSON lines, JSON, tables and Parquet.

Memory is bounded: lines are read one at a time, and one over its limit is refused without being read whole; Parquet is
read row group by row group. A bad record costs itself alone.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from citewell.errors import CitewellError, InvalidDocument, TooLarge
from citewell.ingest.failures import document_again, is_failure
from citewell.ingest.items import Item, Limits, checked, failed
from citewell.parse import document_of
from citewell.records import Document

_KNOWN_FIELDS = ("_id", "id", "title", "text", "url", "lang", "metadata", "groups")
_AT_ONCE = 256


def json_lines(stream: IO[bytes], name: str, limits: Limits) -> Iterator[Item]:
    empty = True
    for number, line in enumerate(bounded_lines(stream, limits.line_bytes), start=1):
        if line is not None and not line.strip():
            continue
        empty = False
        yield _attempt(f"{name}:{number}", name, lambda line=line: json_value(line), limits)  # type: ignore[misc]
    if empty:
        raise InvalidDocument("the file is empty", remedy="Remove it from the source, or give it documents.")


def bounded_lines(stream: IO[bytes], limit: int) -> Iterator[bytes | None]:
    """Lines of a byte stream; None for a line over the limit, whose rest is skipped, so that memory stays bounded."""
    while line := stream.readline(limit + 1):
        if len(line) > limit and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(limit + 1)
            yield None
        else:
            yield line


def json_value(data: bytes | None, what: str = "line") -> Any:
    """Strict JSON of one line, file or body; None is a line that `bounded_lines` refused. Raises `InvalidDocument`."""
    if data is None:
        raise TooLarge("the line is longer than a document may be", remedy="Split it, or raise `document_limit`.")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidDocument(f"the {what} is not UTF-8: {error.reason}", remedy="Convert it to UTF-8.") from error
    except (ValueError, RecursionError) as error:
        remedy = "Mend it: one object a line." if what == "line" else "Mend what the message names."
        raise InvalidDocument(f"the {what} is no JSON: {error}", remedy=remedy) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _attempt(place: str, source: str, read: Callable[[], Any], limits: Limits) -> Item:
    """One record's document, or the failed outcome at its place."""
    try:
        return checked(from_mapping(read(), place), source, limits)
    except CitewellError as error:
        return failed(place, source, error)


def from_mapping(record: Any, place: str) -> Document:
    """A document of a JSON object; `place` becomes its id when it has neither id nor url."""
    if not isinstance(record, dict):
        raise InvalidDocument(
            f"expected an object, found {type(record).__name__}", remedy="Give one object a document."
        )
    if is_failure(record):
        return document_again(record)
    identity = next((record[key] for key in ("_id", "id") if record.get(key) not in (None, "")), None)
    if identity is None:
        identity = record.get("url") or place
    return document_of({**record, "id": identity})


def json_records(data: bytes, name: str, limits: Limits) -> Iterator[Item]:
    """The documents of a JSON file: a list of objects, or one."""
    records = json_value(data, "file")
    if not isinstance(records, list):
        records = [records]
    if not records:
        raise InvalidDocument("the list is empty", remedy="Remove the file from the source, or give it documents.")
    for number, record in enumerate(records, start=1):
        yield _attempt(f"{name}:{number}", name, lambda record=record: record, limits)  # type: ignore[misc]


class _Lines:
    """Lines of a table as text. One over the limit raises where it stands, and the lines behind it still come.

    Bytes that are no UTF-8 survive as lone surrogates, so that they spoil their own row and not the rest.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._lines = bounded_lines(stream, limit)
        self._first = True

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if line is None:
            raise TooLarge("the line is longer than a document may be", remedy="Split it, or raise `document_limit`.")
        encoding, self._first = "utf-8-sig" if self._first else "utf-8", False
        return line.decode(encoding, "surrogateescape")


def table(stream: IO[bytes], name: str, delimiter: str, limits: Limits) -> Iterator[Item]:
    csv.field_size_limit(min(limits.line_bytes, 2**31 - 1))
    reader = csv.DictReader(_Lines(stream, limits.line_bytes), delimiter=delimiter, strict=True)
    _check_header(reader)
    while True:
        place = f"{name}:{reader.line_num + 1}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield failed(place, name, InvalidDocument(f"the row is no CSV: {error}", remedy="Mend the quotes."))
            continue
        except TooLarge as error:
            yield failed(place, name, error)
            continue
        yield _attempt(place, name, lambda row=row: _row(row), limits)  # type: ignore[misc]


def _check_header(reader: csv.DictReader[str]) -> None:
    try:
        names = reader.fieldnames
    except csv.Error as error:
        raise InvalidDocument(f"the header is no CSV: {error}", remedy="Mend the quotes.") from error
    if not names:
        raise InvalidDocument("the file is empty", remedy="Give it a header line and rows.")
    if any("\udc80" <= char <= "\udcff" or char == "\0" for name in names for char in name):
        raise InvalidDocument("the header is not UTF-8", remedy="Convert the file to UTF-8.")
    _check_columns(names)


def _check_columns(names: Any) -> None:
    if "text" not in names:
        raise InvalidDocument(
            f"no column `text` among {', '.join(names)}", remedy="Name the column with the text `text`."
        )


def _row(row: dict[str | None, Any]) -> dict[str, Any]:
    """Known columns as fields, `groups` split at `|`, all others as metadata."""
    if None in row:
        raise InvalidDocument("the row has more fields than the header", remedy="Quote fields that hold the delimiter.")
    if any(isinstance(v, str) and any("\udc80" <= c <= "\udcff" for c in v) for v in row.values()):
        raise InvalidDocument("the row is not UTF-8", remedy="Convert the file to UTF-8.")
    fields: dict[str, Any] = {key: row[key] for key in _KNOWN_FIELDS if row.get(key)}
    fields["groups"] = [group for group in str(fields.get("groups", "")).split("|") if group]
    if "metadata" in fields:
        fields["metadata"] = json_value(str(fields["metadata"]).encode(), "metadata")
    extra = {key: value for key, value in row.items() if key not in _KNOWN_FIELDS and value}
    return {**fields, "metadata": {**fields.get("metadata", {}), **extra}}


def parquet(path: Path, name: str, limits: Limits) -> Iterator[Item]:
    """The rows of a Parquet file: columns as those of a table, with their types; places count from 1."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            names = file.schema_arrow.names
            _check_columns(names)
            for batch in file.iter_batches(batch_size=_AT_ONCE, use_threads=False):
                for record in batch.to_pylist():
                    number += 1
                    yield _attempt(f"{name}:{number}", name, lambda record=record: _typed(record), limits)  # type: ignore[misc]
    except (pa.ArrowException, OSError) as error:
        behind = f" behind row {number}" if number else ""
        raise InvalidDocument(
            f"the file is no whole Parquet file{behind}: {error}", remedy="Write it again where it was made."
        ) from error
    if not number:
        raise InvalidDocument("the file is empty", remedy="Remove it from the source, or give it rows.")


def _typed(record: dict[str, Any]) -> dict[str, Any]:
    """Known columns as fields, all others as metadata, in JSON's types; a missing value is left out."""
    plain = {key: _plain(value) for key, value in record.items() if value is not None}
    fields = {key: plain[key] for key in _KNOWN_FIELDS if plain.get(key) not in (None, "")}
    if isinstance(fields.get("metadata"), str):
        fields["metadata"] = json_value(fields["metadata"].encode(), "metadata")
    if isinstance(fields.get("groups"), str):
        fields["groups"] = [group for group in fields["groups"].split("|") if group]
    extra = {key: value for key, value in plain.items() if key not in _KNOWN_FIELDS}
    if not isinstance(fields.get("metadata", {}), dict):
        return fields
    return {**fields, "metadata": {**fields.get("metadata", {}), **extra}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidDocument(f"{value} is no JSON number", remedy="Leave the value out.")
    return value if isinstance(value, str | int | float | bool) else str(value)
