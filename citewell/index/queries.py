"""Questions and filters as the values that the backends are sent: Elasticsearch bodies and LanceDB conditions.

Pure: nothing here does I/O, so a search can be read and tested without a server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from citewell.index.analysis import LANGUAGES, language_of
from citewell.index.filters import EVERYONE, TERM_EDGE, TERM_SEPARATOR, canonical, reader
from citewell.index.ranges import bounds, hex_range
from citewell.index.words import question_words, stems
from citewell.ports import LegsQuery
from citewell.records import Filters, Leg, Range

# Weights of the BM25 fields: docs/LOG.md, "BM25 field weights", has the figures and bench/fields.py makes them.
# `words` and `stems` have title and text in one field, which is a title weight of 1.
TEXT_WEIGHT = 1.0
TITLE_WEIGHT = 1.0
STANDARD_WEIGHT = 0.5

# BM25 reads this much of a question. Each word becomes one clause a field, and a server refuses a question of too many.
MAX_BM25_WORDS = 400
MAX_BM25_CHARS = 2000
MAX_CANDIDATES = 10_000
# Elasticsearch's `max_result_window` (es_mappings).
MAX_HITS = 10_000
# Hits beyond `depth`, for veils and for what they hide (`elastic_veils`).
SPARE = 2
# What is among the passages and is no veil.
ANY_PASSAGE = {"exists": {"field": "doc_id"}}
# Veils come first, whatever a passage scores.
_VEILS = {"constant_score": {"filter": {"term": {"veil": True}}, "boost": 1e30}}


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
    if filters.url_prefix:
        starts = [{"prefix": {"url": prefix}} for prefix in filters.url_prefix]
        clauses.append({"bool": {"should": starts, "minimum_should_match": 1}})
    for key, span in filters.ranges.items():
        low, high = bounds(f"metadata.{key}", span)
        clauses.append({"range": {f"orderable.{key}": {"gte": low, "lte": high}}})
    if groups is not None:
        visible: list[dict[str, Any]] = [{"bool": {"must_not": [{"exists": {"field": "groups"}}]}}]
        if groups:
            visible.append({"terms": {"groups": list(groups)}})
        clauses.append({"bool": {"should": visible, "minimum_should_match": 1}})
    return clauses


def bm25_body(query: LegsQuery, languages: Sequence[str] = tuple(LANGUAGES)) -> dict[str, Any]:
    """The BM25 leg: the topic's words as the question's language has them, and all words as they stand.

    With an analyzer a passage must match in it, and the words add to its score; otherwise either will do, as in
    LanceDB. A question of stop words alone finds nothing.
    """
    text = bm25_text(query.text)
    lang = language_of(query.lang, languages)
    found = {"match": {"words": {"query": question_words(text, query.lang), "boost": STANDARD_WEIGHT}}}
    if lang and LANGUAGES[lang].analyzer:
        matching: dict[str, Any] = {"must": [_title_and_text(text, lang)], "should": [found]}
    else:
        topic = {"match": {"stems": {"query": stems(text, query.lang), "boost": TEXT_WEIGHT}}}
        matching = {"should": [topic, found], "minimum_should_match": 1}
    matching["filter"] = elastic_filter(query.filters, query.groups)
    return _page(query.depth) | {"query": {"bool": matching}}


def _title_and_text(text: str, lang: str) -> dict[str, Any]:
    """Title and text scored as if they were one field (BM25F), as the language's analyzer cuts them.

    Scores of separate fields added up rank far worse: the words of a short title outweigh everything.
    """
    fields = [f"text.{lang}", f"title.{lang}^{TITLE_WEIGHT:g}"]
    return {"combined_fields": {"query": text, "fields": fields, "boost": TEXT_WEIGHT}}


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


def page_size(query: LegsQuery, spare: int) -> int:
    return min(MAX_HITS, query.depth + spare)


def msearch(
    query: LegsQuery, index: str, languages: Sequence[str] = tuple(LANGUAGES), spare: int = SPARE
) -> list[dict[str, Any]]:
    """Lines of one `_msearch`: a header and a body for each of `runnable_legs`, in that order.

    Each leg brings the veils of its own shard and refresh, before its passages, and each hit the version of its
    document's write. A shard that fails makes the leg an error: an answer from a part of the documents must not pass
    for a whole one.
    """
    header = {"index": index, "allow_partial_search_results": False}
    extra = {"size": page_size(query, spare), "version": True}
    lines: list[dict[str, Any]] = []
    for leg in runnable_legs(query):
        if leg == "bm25":
            body = bm25_body(query, languages)
            veiled: dict[str, Any] = {"query": {"bool": {"should": [body["query"], _VEILS]}}}
        else:
            body = dense_body(query)
            veiled = {"query": _VEILS, "knn": body["knn"] | {"k": min(extra["size"], body["knn"]["num_candidates"])}}
        lines += [header, body | veiled | extra]
    return lines


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
        terms = [key + TERM_SEPARATOR + canonical(value) for value in wanted]
        conditions.append(_sql_any("meta_terms", terms))
    if filters.url_prefix:
        starts = (f"starts_with(url, {sql_text(prefix)})" for prefix in filters.url_prefix)
        conditions.append(f"({' OR '.join(starts)})")
    conditions += [_sql_range(key, span) for key, span in filters.ranges.items()]
    if groups is not None:
        conditions.append(_sql_any("readers", [EVERYONE, *map(reader, groups)]))
    return " AND ".join(conditions)


def _sql_range(key: str, span: Range) -> str:
    """Whether one of the passage's numbers or dates of that key lies in the range: terms of equal length match it."""
    low, high = bounds(f"metadata.{key}", span)
    pattern = f"{TERM_EDGE}{re.escape(key)}{TERM_SEPARATOR}{low[0]}(?:{hex_range(low[1:], high[1:])}){TERM_EDGE}"
    return f"regexp_like(orderable, {sql_text(pattern)})"


def _sql_any(column: str, values: Sequence[str]) -> str:
    return f"array_has_any({column}, [{', '.join(sql_text(value) for value in values)}])"


def counts_by_document(size: int, doc_ids: Sequence[str] | None = None) -> dict[str, Any]:
    """Passages of each document, `size` documents a page in the order of their ids; `after` in it turns the page."""
    sources = [{"doc_id": {"terms": {"field": "doc_id"}}}]
    documents = {
        "composite": {"size": size, "sources": sources},
        "aggs": {"highest": {"max": {"field": "ordinal"}}},
    }
    body: dict[str, Any] = {"size": 0, "aggs": {"documents": documents}}
    return body if doc_ids is None else body | {"query": {"terms": {"doc_id": list(doc_ids)}}}
