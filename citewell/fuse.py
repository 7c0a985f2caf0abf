"""Two ranked lists into one. Pure.

`minmax`: each leg's scores are scaled to [0, 1] over the list that the leg returned, a passage that a leg did not
return counts 0 there, and the fused score is alpha x dense + (1 - alpha) x bm25. Bruch, Gai and Ingber, "An Analysis
of Fusion Functions for Hybrid Retrieval" (ACM TOIS 2023), find it to beat reciprocal ranks and to need few judgements.

`rrf`: sum over the legs of 1 / (k + rank). Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms
Condorcet and individual Rank Learning Methods" (SIGIR 2009), with their k of 60.

Ties are broken by passage id, so that equal input gives equal output on every backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from citewell.records import Leg

Ranked = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Fusion:
    """How legs become one list; a value, so that it can be tuned, stored and shown."""

    method: Literal["minmax", "rrf"] = "minmax"
    alpha: float = 0.5
    rrf_k: int = 60

    def describe(self) -> dict[str, Any]:
        return (
            {"method": "minmax", "alpha": self.alpha} if self.method == "minmax" else {"method": "rrf", "k": self.rrf_k}
        )


def fuse(legs: Mapping[Leg, Ranked], fusion: Fusion) -> list[tuple[str, float]]:
    """(passage id, score), best first. One leg alone keeps its own order and scores."""
    if len(legs) == 1:
        return list(next(iter(legs.values())))
    if fusion.method == "rrf":
        return rrf(legs.values(), fusion.rrf_k)
    return minmax(legs.get("bm25", ()), legs.get("dense", ()), fusion.alpha)


def minmax(bm25: Ranked, dense: Ranked, alpha: float) -> list[tuple[str, float]]:
    """Convex combination of min-max scaled scores; `alpha` in [0, 1] is the weight of the dense leg."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], not {alpha}")
    fused: dict[str, float] = {}
    for ranked, weight in ((bm25, 1 - alpha), (dense, alpha)):
        for key, score in _scaled(ranked):
            fused[key] = fused.get(key, 0.0) + weight * score
    return _ordered(fused)


def _scaled(ranked: Ranked) -> list[tuple[str, float]]:
    """Scores mapped so that the best is 1 and the worst 0; a list of equal scores is all best."""
    if not ranked:
        return []
    scores = [score for _, score in ranked]
    low, span = min(scores), max(scores) - min(scores)
    return [(key, (score - low) / span if span else 1.0) for key, score in ranked]


def rrf(lists: Iterable[Ranked], k: int = 60) -> list[tuple[str, float]]:
    """Reciprocal rank fusion with ranks from 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    fused: dict[str, float] = {}
    for ranked in lists:
        for rank, (key, _) in enumerate(ranked, start=1):
            fused[key] = fused.get(key, 0.0) + 1.0 / (k + rank)
    return _ordered(fused)


def _ordered(scores: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))
