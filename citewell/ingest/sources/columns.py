"""Rows with named columns to documents, the same for databases and for Elasticsearch. Pure.

A field comes from the column that the options map it to, else from a column of its own name or of a usual one; every
other column becomes metadata, in JSON's types.
"""

from __future__ import annotations

import datetime
import decimal
import difflib
import enum
import ipaddress
import json
import math
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from citewell.errors import BadInput, InvalidDocument
from citewell.ingest.sources.options import FIELDS
from citewell.parse import document_of
from citewell.records import Document

_WRITTEN = (
    uuid.UUID,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_USUAL = {"id": ("_id", "id"), "text": ("text", "body", "content")}


@dataclass(frozen=True)
class Columns:
    """Which column each field comes from; fields without one are absent. `dotted` names go down into objects."""

    of: Mapping[str, str]
    dotted: bool = False

    def document(self, row: Mapping[str, Any], revision: str = "") -> Document:
        """The row as a document; raises `InvalidDocument` that names the column at fault."""
        used = set(self.of.values())
        values = {field: self.value(row, field) for field in self.of}
        extra = {name: plain(value, name) for name, value in _rest(row, used).items() if value is not None}
        inside = _metadata(values.pop("metadata", None), self.of.get("metadata", ""))
        fields: dict[str, Any] = {
            field: plain(value, self.of[field]) for field, value in values.items() if value is not None
        }
        fields["groups"] = _groups(fields.get("groups"))
        if "text" in fields and not isinstance(fields["text"], str):
            raise InvalidDocument(
                f"the column `{self.of['text']}` holds {type(values['text']).__name__}, not text",
                remedy="Cast it to text in the query, or map `text` to another column.",
            )
        return document_of({**fields, "metadata": {**inside, **extra}}).model_copy(update={"revision": revision})

    def identity(self, row: Mapping[str, Any]) -> str:
        """The row's id as text for a message, "" where it has none."""
        value = self.value(row, "id")
        if isinstance(value, decimal.Decimal) and value.is_finite() and value == value.to_integral_value():
            value = int(value)
        return str(value).strip() if isinstance(value, str | int | uuid.UUID) and not isinstance(value, bool) else ""

    def value(self, row: Mapping[str, Any], field: str) -> Any:
        column = self.of[field]
        if column in row or not self.dotted:
            return row.get(column)
        value: Any = row
        for part in column.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def choose_columns(names: Collection[str], mapped: Mapping[str, str]) -> Columns:
    """The columns of a result whose names are known; raises `BadInput` when there is no id, no text, or no such one."""
    listed = ", ".join(f"`{name}`" for name in names)
    for field, column in mapped.items():
        if column not in names:
            near = difflib.get_close_matches(column, names, 1)
            raise BadInput(
                f"`{field}` is mapped to the column `{column}`, which is not among {listed}",
                remedy=f"Did you mean `{near[0]}`?" if near else "Select that column, or map another one.",
            )
    doubled = sorted({name for name in names if list(names).count(name) > 1})
    if doubled:
        raise BadInput(
            f"the query has two columns named `{doubled[0]}`", remedy="Give one of them another name with `AS`."
        )
    chosen = default_columns(mapped)
    found = {field: next((name for name in usual if name in names), "") for field, usual in chosen.items()}
    for field in ("id", "text"):
        if not found[field]:
            raise BadInput(
                f"the query has no column for `{field}`: it has {listed}",
                remedy=f"Select a column named {' or '.join(f'`{name}`' for name in _USUAL[field])}, or map one with "
                f"`--map {field}=COLUMN`.",
            )
    return Columns({field: column for field, column in found.items() if column})


def _rest(row: Mapping[str, Any], used: Collection[str]) -> dict[str, Any]:
    """What no field has taken; of an object the values below a dotted name."""
    rest = {name: value for name, value in row.items() if name not in used}
    for column in used:
        head, dot, tail = column.partition(".")
        if dot and isinstance(rest.get(head), Mapping):
            rest[head] = _rest(rest[head], (tail,)) or None
    return rest


def default_columns(mapped: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """For each field the columns that it may come from, best first."""
    return {field: (mapped[field],) if field in mapped else _USUAL.get(field, (field,)) for field in FIELDS}


def plain(value: Any, column: str) -> Any:  # noqa: PLR0911 - one line a type
    """A column's value in JSON's types: dates as ISO 8601, exact numbers as numbers; raises `InvalidDocument`."""
    if value is None or (isinstance(value, str | bool | int) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, _WRITTEN):
        return str(value)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, enum.Enum):
        return plain(value.value, column)
    if isinstance(value, Mapping):
        return {str(key): plain(item, column) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, column) for item in value]
    kind = "bytes" if isinstance(value, bytes | bytearray | memoryview) else f"{type(value).__name__} {value!r:.60}"
    raise InvalidDocument(
        f"the column `{column}` holds {kind}, which JSON has no word for",
        remedy="Leave the column out of the query, or cast it to text or a number there.",
    )


def _groups(value: Any) -> Any:
    """As in a table of a file: split at `|` where it is one text."""
    return [group for group in value.split("|") if group] if isinstance(value, str) else value


def _metadata(value: Any, column: str) -> dict[str, Any]:
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except ValueError as error:
            raise InvalidDocument(
                f"the column `{column}` is no JSON: {error}", remedy="Give `metadata` as a JSON object."
            ) from error
    value = plain(value, column) or {}
    if not isinstance(value, dict):
        raise InvalidDocument(f"the column `{column}` is no object", remedy="Give `metadata` as a JSON object.")
    return value
