"""Both legs of a question in LanceDB: rows are ranked by number first, and what they hold is read once, at the end.

A query that selects text costs more in reading rows than in ranking them, and a `BooleanQuery` of two columns reads the
whole of both columns' postings where a query of one stops early. So each column is asked for itself, for more than
`depth` rows, and the scores of a row are added here (docs/LOG.md, "Search in LanceDB", has both figures).

A row's number is the place where it is stored in one version of the table, so every step of a search reads the same
version, whatever writers do meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from citewell.index import lance_rows as rows
from citewell.index import queries, words
from citewell.index.queries import bm25_text, runnable_legs, sql_filter
from citewell.ports import Legs, LegsQuery
from citewell.records import Leg, Similarity

# Each column of BM25 is asked for so many times `depth` rows, and for so many at least: a row that one column ranks
# below them counts there as nothing.
OVERSAMPLE = 3
LEAST_ROWS = 300

Scores = dict[int, float]


class Snapshots:
    """Handles of one table that stay at the version they were last brought to; each is one search's at a time."""

    def __init__(self, opened: Callable[[], Any]) -> None:
        """`opened` gives a new handle of a connection that does not follow commits by itself."""
        self._opened = opened
        self._idle: list[Any] = []

    @contextlib.contextmanager
    def latest(self) -> Iterator[Any]:
        """The table as the last commit left it, until the end of the block."""
        try:
            table = self._idle.pop()
        except IndexError:
            table = self._opened()
        else:
            table.checkout_latest()
        yield table
        self._idle.append(table)  # not after an error: whatever is wrong with it goes with it


def legs(table: Any, query: LegsQuery, similarity: Similarity, version: str) -> Legs:
    """Ranked lists of every leg that can run, best first, and their passages. `table` stays at one version."""
    where = sql_filter(query.filters, query.groups)
    scored: dict[Leg, Scores] = {}
    took: dict[Leg, float] = {}
    for leg in runnable_legs(query):
        started = time.perf_counter()
        scored[leg] = _bm25(table, query, where) if leg == "bm25" else _dense(table, query, where, similarity)
        took[leg] = (time.perf_counter() - started) * 1e3
    held = _read(table, list(dict.fromkeys(number for scores in scored.values() for number in scores)))
    ranked = {leg: _ranked(scored.get(leg, {}), held) for leg in query.legs}
    passages = {row["id"]: rows.to_passage(row) for row in held.values()}
    return Legs(ranked=ranked, passages=passages, index_version=version, took_ms=took)


def _ranked(scores: Scores, held: Mapping[int, Mapping[str, Any]]) -> list[tuple[str, float]]:
    found = [(str(held[number]["id"]), score) for number, score in scores.items()]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _read(table: Any, numbers: list[int]) -> dict[int, dict[str, Any]]:
    if not numbers:
        return {}
    found = table.take_row_ids(numbers).with_row_id().select(rows.PASSAGE_COLUMNS).to_arrow().to_pylist()
    return {int(row["_rowid"]): row for row in found}


def _bm25(table: Any, query: LegsQuery, where: str) -> Scores:
    text = bm25_text(query.text)
    asked = [
        (words.stems(text, query.lang), rows.STEMS, queries.TEXT_WEIGHT),
        (words.question_words(text, query.lang), rows.WORDS, queries.STANDARD_WEIGHT),
    ]
    scores: Scores = {}
    for found, column, weight in asked:
        if found:  # nothing is left of stop words alone
            for number, score in _matched(table, found, column, query.depth, where).items():
                scores[number] = scores.get(number, 0.0) + weight * score
    best = sorted(scores, key=lambda number: (-scores[number], number))[: query.depth]
    return {number: scores[number] for number in best}


def _matched(table: Any, text: str, column: str, depth: int, where: str) -> Scores:
    from lancedb.query import MatchQuery

    # A question is words: this class takes no operators. Its defaults are invisible to mypy.
    match = MatchQuery(text, column)  # type: ignore[call-arg]
    search = table.search(match, query_type="fts").limit(max(OVERSAMPLE * depth, LEAST_ROWS))
    return _scores(search, where, "_score")


def _dense(table: Any, query: LegsQuery, where: str, similarity: Similarity) -> Scores:
    found = _nearest(table, query, where, similarity, exact=False)
    if where and len(found) < query.depth and any("vector" in index.columns for index in table.list_indices()):
        # A graph index walks past what a rare filter leaves; without an index this would be the same scan again.
        found = _nearest(table, query, where, similarity, exact=True)
    # Its distance is 1 less the cosine, or 1 less the dot product.
    return {number: 1.0 - distance for number, distance in found.items()}


def _nearest(table: Any, query: LegsQuery, where: str, similarity: Similarity, *, exact: bool) -> Scores:
    if query.vector is None:
        raise ValueError("the dense leg needs the question's vector")
    search = table.search(query.vector.reshape(-1), vector_column_name="vector", query_type="vector")
    search = search.distance_type(similarity).limit(query.depth).refine_factor(2)
    if exact:
        search = search.bypass_vector_index()
    return _scores(search, where, "_distance")


def _scores(search: Any, where: str, column: str) -> Scores:
    """Row numbers with their scores. Nothing that a row holds is read."""
    if where:
        search = search.where(where, prefilter=True)
    found = search.with_row_id(True).select([column]).to_arrow()
    return dict(zip(found["_rowid"].to_pylist(), found[column].to_pylist(), strict=True))
