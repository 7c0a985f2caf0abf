"""Filters from callers, and metadata as terms that both backends can compare. Pure.

Whatever comes from a caller goes into a value, never into a query language; where LanceDB wants SQL, `sql_text` is the
one place that quotes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from citewell.errors import InvalidFilter
from citewell.index.ranges import bounds, sortable
from citewell.records import Filters, FilterValue, Range

MAX_FILTER_VALUES = 1000
# A longer metadata value is kept, but cannot be filtered by: Elasticsearch refuses terms above 32,766 bytes.
MAX_TERM_CHARS = 1024
STRING_FIELDS = ("lang", "doc_id", "url")
_KNOWN_FIELDS = "lang, doc_id, url, metadata.KEY"
# Joins key and value of one metadata term; a character that text does not hold.
TERM_SEPARATOR = "\x1f"
# Around each term of LanceDB's `orderable`, so that a pattern finds whole terms alone.
TERM_EDGE = "\x1e"
# Who may read a passage without groups. A group's name has a prefix, so that none can be this.
EVERYONE = "everyone"


def parse_filters(raw: Any) -> Filters:
    """The filters of an API request: `{"lang": "en", "metadata.year": [2023, 2024]}`.

    Every field takes a scalar or a list of them, meaning any; `url` also `{"prefix": "https://…"}`, and metadata
    `{"gte": 2020, "lt": 2024}` over numbers or dates. Raises `InvalidFilter` with the field that is wrong.
    """
    if not isinstance(raw, Mapping):
        raise InvalidFilter("filters must be an object of fields and values", remedy=f"Fields: {_KNOWN_FIELDS}.")
    strings: dict[str, tuple[str, ...]] = {}
    metadata: dict[str, tuple[FilterValue, ...]] = {}
    ranges: dict[str, Range] = {}
    for name, value in raw.items():
        if isinstance(value, Mapping) and value:
            if name == "url":
                strings["url_prefix"] = _prefixes(value)
            elif isinstance(name, str) and name.startswith("metadata.") and name != "metadata.":
                ranges[name.removeprefix("metadata.")] = _range(name, value)
            else:
                raise InvalidFilter(f"filter `{name}` takes no object of bounds", remedy=f"Fields: {_KNOWN_FIELDS}.")
            continue
        values = _filter_values(str(name), value)
        if name in STRING_FIELDS:
            strings[name] = tuple(_string(name, item) for item in values)
        elif isinstance(name, str) and name.startswith("metadata.") and name != "metadata.":
            metadata[name.removeprefix("metadata.")] = values
        else:
            raise InvalidFilter(f"`{name}` is no field to filter by", remedy=f"Known fields: {_KNOWN_FIELDS}.")
    return Filters(**strings, metadata=metadata, ranges=ranges)


def spelt(filters: Filters) -> dict[str, Any]:
    """Filters as an API request has them: what `parse_filters` reads. A record's own field gives the name of each.

    Raises `InvalidFilter` for values beside a prefix or bounds of one field, which a request cannot say.
    """
    whole = filters.model_dump(exclude_none=True)
    metadata, ranges = whole.pop("metadata"), whole.pop("ranges")
    prefixes = whole.pop("url_prefix")
    said: dict[str, Any] = {name: list(values) for name, values in whole.items() if values}
    said |= {f"metadata.{key}": list(values) for key, values in metadata.items()}
    objects = {f"metadata.{key}": dict(wanted) for key, wanted in ranges.items()}
    if prefixes:
        objects["url"] = {"prefix": list(prefixes)}
    if both := sorted(said.keys() & objects.keys()):
        raise InvalidFilter(
            f"filter `{both[0]}` has values beside a prefix or bounds, which no request can say",
            remedy="Leave one of the two out.",
        )
    return said | objects


def _prefixes(value: Mapping[Any, Any]) -> tuple[str, ...]:
    if set(value) != {"prefix"}:
        raise InvalidFilter("filter `url` takes text or an object with `prefix` alone")
    found = tuple(_string("url", item) for item in _filter_values("url", value["prefix"]))
    if not all(found):
        raise InvalidFilter("filter `url` has an empty prefix", remedy="Leave the filter out, or name a prefix.")
    return found


def _range(name: str, value: Mapping[Any, Any]) -> Range:
    if unknown := [str(key) for key in value if key not in Range.model_fields]:
        raise InvalidFilter(f"filter `{name}` has no bound `{unknown[0]}`", remedy="Bounds: gte, gt, lte, lt.")
    for bound in value.values():
        _filter_values(name, bound)
        if isinstance(bound, list | tuple):
            raise InvalidFilter(f"filter `{name}` takes one value a bound, not a list")
    wanted = Range(**{str(key): bound for key, bound in value.items()})
    bounds(name, wanted)
    return wanted


def _filter_values(name: str, value: Any) -> tuple[FilterValue, ...]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
        raise InvalidFilter(f"filter `{name}` has no value", remedy="Leave the field out, or name the values.")
    if len(values) > MAX_FILTER_VALUES:
        raise InvalidFilter(f"filter `{name}` has {len(values)} values; {MAX_FILTER_VALUES} is the most")
    for item in values:
        finite = not isinstance(item, float) or math.isfinite(item)
        if not isinstance(item, str | int | float | bool) or not finite:
            raise InvalidFilter(f"filter `{name}` takes a string, number, boolean or a list of them")
        if isinstance(item, str) and not _is_unicode(item):
            raise InvalidFilter(f"filter `{name}` holds half a character (a lone surrogate)")
    return tuple(values)


def _string(name: str, value: FilterValue) -> str:
    if not isinstance(value, str):
        raise InvalidFilter(f"filter `{name}` takes strings, not {value!r}")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def canonical(value: FilterValue) -> str:
    """A metadata value as both backends compare it: as JSON writes it, strings without quotes.

    So `2024` and `"2024"` are equal, which lets a filter come from a URL or a command line.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def reader(group: str) -> str:
    """A group as a passage's `readers` in LanceDB name it."""
    return f"group:{group}"


def readers(groups: Sequence[str]) -> list[str]:
    """Who may read a passage of these groups: a list that an index can hold, and that is never empty."""
    return [reader(group) for group in groups] or [EVERYONE]


def metadata_terms(metadata: Mapping[str, Any]) -> list[str]:
    """All `KEY=VALUE` terms of a document's metadata, nested keys joined by dots, each item of a list its own term.

    Elasticsearch's `flattened` type makes the same terms; nulls and values above `MAX_TERM_CHARS` have none.
    """
    terms = (key + TERM_SEPARATOR + canonical(value) for key, value in _leaves(metadata))
    return sorted(set(terms))


def orderable(metadata: Mapping[str, Any]) -> dict[str, list[str]]:
    """The numbers and dates of a document's metadata by dotted key, as strings whose order is theirs."""
    found: dict[str, set[str]] = {}
    for key, value in _leaves(metadata):
        if code := sortable(value):
            found.setdefault(key, set()).add(code)
    return {key: sorted(codes) for key, codes in sorted(found.items())}


def _leaves(metadata: Mapping[str, Any]) -> Iterator[tuple[str, FilterValue]]:
    """(dotted key, value) of everything that can be filtered by."""
    pending: list[tuple[str, Any]] = [(key, value) for key, value in metadata.items()]
    while pending:
        key, value = pending.pop()
        if isinstance(value, Mapping):
            pending.extend((f"{key}.{inner}", item) for inner, item in value.items())
        elif isinstance(value, list | tuple):
            pending.extend((key, item) for item in value)
        elif isinstance(value, str | int | float | bool) and len(canonical(value)) <= MAX_TERM_CHARS:
            yield key, value
