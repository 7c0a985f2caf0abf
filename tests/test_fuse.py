"""Fusion: the arithmetic by hand, and what must hold for any lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citewell.fuse import Fusion, fuse, minmax, rrf
from citewell.records import FusionMethod

Ranked = list[tuple[str, float]]
BM25 = [("a", 12.0), ("b", 7.0), ("c", 2.0)]
DENSE = [("b", 0.9), ("d", 0.5), ("a", 0.1)]


def both(bm25: Ranked, dense: Ranked, alpha: float) -> Ranked:
    """Min-max fusion as (key, score)."""
    return [(item.key, item.score) for item in minmax({"bm25": bm25, "dense": dense}, alpha)]


def test_minmax_by_hand() -> None:
    fused = dict(both(BM25, DENSE, 0.25))
    assert fused == pytest.approx({"a": 0.75, "b": 0.75 * 0.5 + 0.25, "c": 0.0, "d": 0.25 * 0.5})


def test_rrf_by_hand() -> None:
    fused = {item.key: item.score for item in rrf({"bm25": BM25, "dense": DENSE}, 60)}
    assert fused == pytest.approx({"a": 1 / 61 + 1 / 63, "b": 1 / 62 + 1 / 61, "c": 1 / 63, "d": 1 / 62})


def test_alpha_at_its_ends_is_one_leg() -> None:
    assert [key for key, _ in both(BM25, DENSE, 0.0)][:2] == ["a", "b"]
    assert [key for key, _ in both(BM25, DENSE, 1.0)][:2] == ["b", "d"]


def test_a_leg_alone_keeps_its_scores() -> None:
    assert [(item.key, item.score) for item in fuse({"bm25": BM25}, Fusion())] == BM25


@pytest.mark.parametrize(("method", "expected"), [("bm25", BM25), ("dense", DENSE)])
def test_one_leg_by_choice_leaves_the_other_out(method: FusionMethod, expected: Ranked) -> None:
    fusion = Fusion(method)
    assert fusion.legs() == (method,)
    assert [(item.key, item.score) for item in fuse({"bm25": BM25, "dense": DENSE}, fusion)] == expected


def test_a_leg_without_weight_is_not_run() -> None:
    assert Fusion("minmax", 0.0).legs() == ("bm25",)
    assert Fusion("minmax", 1.0).legs() == ("dense",)
    assert Fusion("minmax", 0.5).legs() == Fusion("rrf").legs() == ("bm25", "dense")


def test_parts_add_up_to_the_score() -> None:
    for fusion in (Fusion("minmax", 0.3), Fusion("rrf")):
        for item in fuse({"bm25": BM25, "dense": DENSE}, fusion):
            assert sum(item.parts.values()) == pytest.approx(item.score)
            assert set(item.parts) == {
                leg for leg, ranked in (("bm25", BM25), ("dense", DENSE)) if item.key in dict(ranked)
            }


def test_an_empty_leg_does_no_harm() -> None:
    assert [item.key for item in fuse({"bm25": [], "dense": DENSE}, Fusion())] == ["b", "d", "a"]
    assert fuse({"bm25": [], "dense": []}, Fusion()) == []


def test_equal_scores_are_all_best() -> None:
    assert both([("b", 3.0), ("a", 3.0)], [], 0.5) == [("a", 0.5), ("b", 0.5)]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        both(BM25, DENSE, alpha)


ranked = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(-5, 50)).map(
    lambda d: sorted(d.items(), key=lambda item: -item[1])
)


@given(ranked, ranked, st.floats(0, 1))
def test_minmax_keeps_every_passage_within_bounds_best_first(
    bm25: list[tuple[str, float]], dense: list[tuple[str, float]], alpha: float
) -> None:
    fused = both(bm25, dense, alpha)
    assert {key for key, _ in fused} == {key for key, _ in bm25} | {key for key, _ in dense}
    scores = [score for _, score in fused]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)


@given(ranked, st.floats(0.5, 20), st.floats(-100, 100))
def test_minmax_ignores_the_unit_of_a_leg(bm25: list[tuple[str, float]], scale: float, shift: float) -> None:
    """Scores in another unit rank the same: that is what the scaling is for."""
    other = [(key, score * scale + shift) for key, score in bm25]
    before, after = dict(both(bm25, DENSE, 0.5)), dict(both(other, DENSE, 0.5))
    spread = max((s for _, s in bm25), default=0) - min((s for _, s in bm25), default=0)
    if spread > 1e-3:
        assert after == pytest.approx(before, abs=1e-6)
