"""Questions and filters as the values that the backends are sent: Elasticsearch bodies and LanceDB conditions.

Pure: nothing here does I/O, so a search can be read and tested without a server. Whatever comes from a caller goes
into a value, never into a query language; where LanceDB wants SQL, `sql_text` is the one place that quotes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from citewell.errors import InvalidFilter
from citewell.index.analysis import GENERAL_COLUMN, LANGUAGES, language_of
from citewell.ports import LegsQuery
from citewell.records import Filters, FilterValue, Leg

# Weights of the BM25 fields: docs/LOG.md, "BM25 field weights", has the figures and bench/fields.py makes them.
# LanceDB has title and text in one column, which is a title weight of 1.
TEXT_WEIGHT = 1.0
TITLE_WEIGHT = 1.0
STANDARD_WEIGHT = 0.5

MAX_FILTER_VALUES = 1000
# A longer metadata value is kept, but cannot be filtered by: Elasticsearch refuses terms above 32,766 bytes.
MAX_TERM_CHARS = 1024
# BM25 reads this much of a question. Each word becomes one clause a field, and a server refuses a question of too many.
MAX_BM25_WORDS = 400
MAX_BM25_CHARS = 2000
MAX_CANDIDATES = 10_000
_STRING_FIELDS = ("lang", "doc_id", "url")
_KNOWN_FIELDS = "lang, doc_id, url, metadata.KEY"
# Joins key and value of one metadata term; a character that text does not hold.
_TERM_SEPARATOR = "\x1f"


def parse_filters(raw: Any) -> Filters:
    """The filters of an API request: `{"lang": "en", "metadata.year": [2023, 2024]}`.

    Every field takes a scalar or a list of them, meaning any. Raises `InvalidFilter` with the field that is wrong.
    """
    if not isinstance(raw, Mapping):
        raise InvalidFilter("filters must be an object of fields and values", remedy=f"Fields: {_KNOWN_FIELDS}.")
    strings: dict[str, tuple[str, ...]] = {}
    metadata: dict[str, tuple[FilterValue, ...]] = {}
    for name, value in raw.items():
        values = _filter_values(str(name), value)
        if name in _STRING_FIELDS:
            strings[name] = tuple(_string(name, item) for item in values)
        elif isinstance(name, str) and name.startswith("metadata.") and name != "metadata.":
            metadata[name.removeprefix("metadata.")] = values
        else:
            raise InvalidFilter(f"`{name}` is no field to filter by", remedy=f"Known fields: {_KNOWN_FIELDS}.")
    return Filters(**strings, metadata=metadata)


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


def metadata_terms(metadata: Mapping[str, Any]) -> list[str]:
    """All `KEY=VALUE` terms of a document's metadata, nested keys joined by dots, each item of a list its own term.

    Elasticsearch's `flattened` type makes the same terms; nulls and values above `MAX_TERM_CHARS` have none.
    """
    terms: dict[str, None] = {}
    pending: list[tuple[str, Any]] = [(key, value) for key, value in metadata.items()]
    while pending:
        key, value = pending.pop()
        if isinstance(value, Mapping):
            pending.extend((f"{key}.{inner}", item) for inner, item in value.items())
        elif isinstance(value, list | tuple):
            pending.extend((key, item) for item in value)
        elif isinstance(value, str | int | float | bool) and len(canonical(value)) <= MAX_TERM_CHARS:
            terms[key + _TERM_SEPARATOR + canonical(value)] = None
    return sorted(terms)


def bm25_text(text: str) -> str:
    """The part of a question that BM25 reads: its first `MAX_BM25_WORDS` words and `MAX_BM25_CHARS` characters."""
    return " ".join(text[:MAX_BM25_CHARS].split()[:MAX_BM25_WORDS])


# Elasticsearch


def elastic_filter(filters: Filters, groups: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """Filter clauses, all of which must hold. `groups` None shows everything, () only what everyone may see."""
    clauses: list[dict[str, Any]] = [
        {"terms": {name: list(values)}}
        for name, values in (("lang", filters.lang), ("doc_id", filters.doc_id), ("url", filters.url))
        if values
    ]
    for key, wanted in filters.metadata.items():
        clauses.append({"terms": {f"metadata.{key}": [canonical(value) for value in wanted]}})
    if groups is not None:
        visible: list[dict[str, Any]] = [{"bool": {"must_not": [{"exists": {"field": "groups"}}]}}]
        if groups:
            visible.append({"terms": {"groups": list(groups)}})
        clauses.append({"bool": {"should": visible, "minimum_should_match": 1}})
    return clauses


def bm25_body(query: LegsQuery) -> dict[str, Any]:
    """The BM25 leg. A passage must match in the question's language; the unstemmed words add to its score.

    A question of stop words alone therefore finds nothing. Without a known language the standard fields are searched.
    """
    text = bm25_text(query.text)
    lang = language_of(query.lang)
    matching: dict[str, Any] = {"must": [_title_and_text(text, TEXT_WEIGHT, f".{lang}" if lang else "")]}
    if lang and STANDARD_WEIGHT:
        matching["should"] = [_title_and_text(text, STANDARD_WEIGHT, "")]
    matching["filter"] = elastic_filter(query.filters, query.groups)
    return _page(query.depth) | {"query": {"bool": matching}}


def _title_and_text(text: str, weight: float, suffix: str) -> dict[str, Any]:
    """Title and text scored as if they were one field (BM25F), in the analyzer that `suffix` names.

    Scores of separate fields added up rank far worse: the words of a short title outweigh everything.
    """
    fields = [f"text{suffix}", f"title{suffix}^{TITLE_WEIGHT:g}"]
    return {"combined_fields": {"query": text, "fields": fields, "boost": weight}}


def dense_body(query: LegsQuery) -> dict[str, Any]:
    """The dense leg: the filter is applied before the nearest are sought, so a rare filter still yields `depth`."""
    if query.vector is None:
        raise ValueError("the dense leg needs the question's vector")
    knn = {
        "field": "vector",
        "query_vector": query.vector.reshape(-1).tolist(),
        "k": query.depth,
        "num_candidates": min(MAX_CANDIDATES, max(2 * query.depth, 200)),
        "filter": elastic_filter(query.filters, query.groups),
    }
    return _page(query.depth) | {"knn": knn}


def _page(depth: int) -> dict[str, Any]:
    return {"size": depth, "track_total_hits": False, "_source": {"excludes": ["vector"]}}


def runnable_legs(query: LegsQuery) -> list[Leg]:
    """The legs to run: BM25 needs a word, the dense leg a vector. The others rank nothing."""
    wanted: list[Leg] = []
    if "bm25" in query.legs and bm25_text(query.text):
        wanted.append("bm25")
    if "dense" in query.legs and query.vector is not None:
        wanted.append("dense")
    return wanted


def msearch(query: LegsQuery, index: str) -> list[dict[str, Any]]:
    """Lines of one `_msearch`: a header and a body for each of `runnable_legs`, in that order.

    A shard that fails makes the leg an error: an answer from a part of the documents must not pass for a whole one.
    """
    header = {"index": index, "allow_partial_search_results": False}
    bodies = {"bm25": bm25_body, "dense": dense_body}
    return [line for leg in runnable_legs(query) for line in (header, bodies[leg](query))]


# LanceDB


def sql_text(value: str) -> str:
    """A string as an SQL literal. In LanceDB's dialect the quote is the only character with a meaning."""
    return "'" + value.replace("'", "''") + "'"


def sql_in(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(sql_text(value) for value in values)})"


def sql_filter(filters: Filters, groups: tuple[str, ...] | None) -> str:
    """The condition on passages in LanceDB's SQL, "" when everything passes. The same meaning as `elastic_filter`."""
    named = (("lang", filters.lang), ("doc_id", filters.doc_id), ("url", filters.url))
    conditions = [sql_in(name, values) for name, values in named if values]
    for key, wanted in filters.metadata.items():
        terms = [key + _TERM_SEPARATOR + canonical(value) for value in wanted]
        conditions.append(_sql_any("meta_terms", terms))
    if groups is not None:
        everyone = "array_length(groups) = 0"
        conditions.append(f"({everyone} OR {_sql_any('groups', groups)})" if groups else everyone)
    return " AND ".join(conditions)


def _sql_any(column: str, values: Sequence[str]) -> str:
    return f"array_has_any({column}, [{', '.join(sql_text(value) for value in values)}])"


def lance_columns(lang: str) -> list[tuple[str, float, bool]]:
    """Full-text columns for a question's language: (column, weight, whether a passage must match there).

    It must where the analyzer drops stop words, so that these alone find nothing. Pairs of characters find no word of
    one character; the general column does.
    """
    code = language_of(lang)
    if not code:
        return [(GENERAL_COLUMN, TEXT_WEIGHT, True)]
    language = LANGUAGES[code]
    columns = [(language.column, TEXT_WEIGHT, bool(language.tokenizer.get("remove_stop_words", True)))]
    if STANDARD_WEIGHT:
        columns.append((GENERAL_COLUMN, STANDARD_WEIGHT, False))
    return columns
