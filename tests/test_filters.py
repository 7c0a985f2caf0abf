"""Ranges and prefixes: what a request may say, and that strings in a range are the numbers in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from citewell.cli.options import filters_of
from citewell.errors import InvalidFilter
from citewell.index.filters import orderable, parse_filters, spelt
from citewell.index.ranges import bounds, hex_range, sortable
from citewell.records import Filters, Range

numbers = st.floats(allow_nan=False, allow_infinity=False)
codes = st.integers(0, (1 << 64) - 1).map(lambda number: f"{number:016x}")


@given(numbers, numbers)
def test_the_order_of_codes_is_that_of_numbers(a: float, b: float) -> None:
    assert (sortable(a) < sortable(b)) == (a < b)
    assert (sortable(a) == sortable(b)) == (a == b)


@given(codes, codes, codes)
def test_a_range_s_pattern_matches_what_lies_in_it(a: str, b: str, probe: str) -> None:
    low, high = sorted((a, b))
    pattern = re.compile(hex_range(low, high))
    for code in (low, high, probe, "0" * 16, "f" * 16):
        assert bool(pattern.fullmatch(code)) == (low <= code <= high)


@given(st.integers(0, 255), st.integers(0, 255))
def test_a_short_range_holds_exactly_its_numbers(a: int, b: int) -> None:
    low, high = sorted((a, b))
    pattern = re.compile(hex_range(f"{low:02x}", f"{high:02x}"))
    assert [n for n in range(256) if pattern.fullmatch(f"{n:02x}")] == list(range(low, high + 1))


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ("2024", 2024), ("-1.5e3", -1500), ("+7", 7), (-0.0, 0),
        ("2026-11-24", "2026-11-24T00:00:00Z"), ("2026-11-24T09:30:00+01:00", "2026-11-24 08:30:00"),
    ],
)  # fmt: skip
def test_text_means_its_number_or_date(value: Any, same: Any) -> None:
    assert sortable(value) == sortable(same) != ""


@pytest.mark.parametrize("value", [True, "", "x", "1,5", "2023-02-30", "2024-1-1", 10**400, float("inf"), "nan", "v2"])
def test_what_has_no_order_has_no_code(value: Any) -> None:
    assert sortable(value) == ""


def test_metadata_is_ordered_by_dotted_key() -> None:
    found = orderable({"year": 2024, "deep": {"er": ["1", 2, "x"]}, "ok": True, "name": "n"})
    assert found == {"year": [sortable(2024)], "deep.er": sorted([sortable(1), sortable(2)])}


def test_dates_and_numbers_are_told_apart() -> None:
    low, high = bounds("k", Range(gte="2026-01-01"))
    assert low <= sortable("2026-11-24") <= high
    assert not low <= sortable(1e300) <= high


@pytest.mark.parametrize(
    ("raw", "parsed"),
    [
        ({"metadata.year": {"gte": 2020, "lt": "2024"}}, Filters(ranges={"year": Range(gte=2020, lt="2024")})),
        ({"metadata.a.b": {"gt": "2026-01-01"}}, Filters(ranges={"a.b": Range(gt="2026-01-01")})),
        ({"url": {"prefix": "https://x/"}}, Filters(url_prefix=("https://x/",))),
        ({"url": {"prefix": ["a", "b"]}, "lang": "en"}, Filters(url_prefix=("a", "b"), lang=("en",))),
    ],
)
def test_objects_are_ranges_and_prefixes(raw: dict[str, Any], parsed: Filters) -> None:
    assert parse_filters(raw) == parsed
    assert Filters.from_json(parsed.to_json()) == parsed
    assert parse_filters(spelt(parsed)) == parsed, "a request says all of a record"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"metadata.k": {"above": 1}}, "no bound `above`"),
        ({"metadata.k": {"gte": 1, "gt": 2}}, "one lower bound"),
        ({"metadata.k": {"lte": 1, "lt": 2}}, "one lower bound"),
        ({"metadata.k": {"gte": "soon"}}, "neither a number nor a date"),
        ({"metadata.k": {"gte": True}}, "neither a number nor a date"),
        ({"metadata.k": {"gte": "2023-02-30"}}, "neither a number nor a date"),
        ({"metadata.k": {"gte": 1, "lt": "2026-01-01"}}, "a date for the other"),
        ({"metadata.k": {"gte": 2, "lt": 2}}, "no value between"),
        ({"metadata.k": {"gte": [1]}}, "one value a bound"),
        ({"metadata.k": {"gte": None}}, "takes a string, number"),
        ({"metadata.k": {"gte": float("nan")}}, "takes a string, number"),
        ({"lang": {"gte": "a"}}, "takes no object"),
        ({"doc_id": {"prefix": "a"}}, "takes no object"),
        ({"url": {"prefix": ""}}, "empty prefix"),
        ({"url": {"prefix": 3}}, "takes strings"),
        ({"url": {"gte": "a"}}, "`prefix` alone"),
    ],
)
def test_a_malformed_range_is_refused_with_its_field(raw: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidFilter, match=re.escape(said)) as refused:
        parse_filters(raw)
    assert f"`{next(iter(raw))}`" in refused.value.message


@pytest.mark.parametrize(
    ("pairs", "parsed"),
    [
        (["metadata.year>=2020", "metadata.year<2024"], Filters(ranges={"year": Range(gte="2020", lt="2024")})),
        (["metadata.day>2026-01-01"], Filters(ranges={"day": Range(gt="2026-01-01")})),
        (["metadata.day<=2026-01-01"], Filters(ranges={"day": Range(lte="2026-01-01")})),
        (["url^=https://x/?a=1", "url^=http"], Filters(url_prefix=("https://x/?a=1", "http"))),
        (["metadata.rule=a<b>=c"], Filters(metadata={"rule": ("a<b>=c",)})),
        (["lang=en", "lang=es"], Filters(lang=("en", "es"))),
    ],
)
def test_the_command_line_writes_them_with_signs(pairs: list[str], parsed: Filters) -> None:
    assert filters_of(pairs) == parsed


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["metadata.year>=1", "metadata.year>=2"], "twice"),
        (["metadata.year=1", "metadata.year>2"], "both values and bounds"),
        (["metadata.year>2", "metadata.year=1"], "both values and bounds"),
        (["metadata.year>soon"], "neither a number nor a date"),
        (["lang>en"], "takes no object"),
        ([">3"], "not NAME=VALUE"),
        (["metadata.year>="], "neither a number nor a date"),
    ],
)
def test_the_command_line_s_mistakes_are_named(pairs: list[str], said: str) -> None:
    with pytest.raises(typer.BadParameter, match=re.escape(said)):
        filters_of(pairs)
