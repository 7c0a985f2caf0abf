"""The value of a `--since` column as a document's revision, and back: text that keeps its type. Pure.

Numbers, moments, days and texts are ordered each in their own way, so the kind stands before the value.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable
from typing import Any

from citewell.errors import InvalidDocument

Value = decimal.Decimal | datetime.datetime | datetime.date | str


def encode(value: Any, column: str) -> str:
    """`number:12.5`, `time:2026-01-31T10:00:00+00:00`, `local:2026-01-31T10:00:00` (no zone), `date:2026-01-31` or
    `text:…`; "" for no value. Raises `InvalidDocument` for what has no order.
    """
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        aware = value.tzinfo is not None
        return f"time:{value.astimezone(datetime.UTC).isoformat()}" if aware else f"local:{value.isoformat()}"
    if isinstance(value, datetime.date):
        return f"date:{value.isoformat()}"
    if isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool):
        number = decimal.Decimal(str(value))
        if number.is_finite():
            return f"number:{number}"
    if isinstance(value, str):
        return f"text:{value}"
    raise InvalidDocument(
        f"the column `{column}`, which `since` follows, holds {type(value).__name__} {value!r:.60}",
        remedy="Follow a column of numbers, times, dates or text that only grows.",
    )


def greatest(revisions: Iterable[str]) -> Value | None:
    """The greatest of them; None when there is none, or when their kinds differ, because then nothing is sure."""
    best: Value | None = None
    seen = ""
    for revision in revisions:
        kind, _, text = revision.partition(":")
        value = _decode(kind, text)
        if value is None:
            continue
        if seen and kind != seen:
            return None
        seen = kind
        best = value if best is None or value > best else best  # type: ignore[operator]
    return best


def _decode(kind: str, text: str) -> Value | None:
    """None for what is no revision of a column, such as an entity tag."""
    try:
        if kind == "number":
            return decimal.Decimal(text)
        if kind in ("time", "local"):
            return datetime.datetime.fromisoformat(text)
        if kind == "date":
            return datetime.date.fromisoformat(text)
    except (ValueError, decimal.InvalidOperation):  # the answer: it is none
        return None
    return text if kind == "text" else None
