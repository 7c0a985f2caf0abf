"""Two ranked lists into one. Pure.

`minmax`: each leg's scores are scaled to [0, 1] over the list that the leg returned, a passage that a leg did not
return counts 0 there, and the fused score is alpha x dense + (1 - alpha) x bm25. Bruch, Gai and Ingber, "An Analysis
of Fusion Functions for Hybrid Retrieval" (ACM TOIS 2023), find it to beat reciprocal ranks and to need few judgements.

`rrf`: sum over the legs of 1 / (k + rank). Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms
Condorcet and individual Rank Learning Methods" (SIGIR 2009), with their k of 60.

`bm25`, `dense`: one leg alone, which is the best there is where the other cannot help.

Ties are broken by passage id, so that equal input gives equal output on every backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from citewell.records import FusionMethod, Leg

Ranked = Sequence[tuple[str, float]]
_LEGS: tuple[Leg, ...] = ("bm25", "dense")


# The weight of the dense leg where nobody set one; by embedder and language, where another suits one that comes
# with the product (docs/quality.md, "The multilingual embedder").
ALPHA = 0.5
ALPHAS = {("citewell-multilingual", lang): alpha for lang, alpha in {"es": 0.53, "ja": 0.35, "ko": 0.35}.items()}


@dataclass(frozen=True)
class Fusion:
    """How legs become one list; a value, so that it can be tuned, stored and shown. `source` says who chose it."""

    method: FusionMethod = "minmax"
    alpha: float = 0.5
    rrf_k: int = 60
    source: str = ""

    def describe(self) -> dict[str, Any]:
        parameters: dict[str, Any] = {}
        if self.method == "minmax":
            parameters["alpha"] = self.alpha
        elif self.method == "rrf":
            parameters["k"] = self.rrf_k
        return {"method": self.method, **parameters} | ({"source": self.source} if self.source else {})

    def legs(self) -> tuple[Leg, ...]:
        """The legs it needs: one that could not count is not run."""
        if self.method in ("bm25", "dense"):
            return (self.method,)
        if self.method == "minmax" and self.alpha in (0.0, 1.0):
            return ("dense",) if self.alpha else ("bm25",)
        return _LEGS


@dataclass(frozen=True)
class Fused:
    """A passage in the fused list; `parts` is what each leg added to the score."""

    key: str
    score: float
    parts: dict[Leg, float]


def fuse(legs: Mapping[Leg, Ranked], fusion: Fusion) -> list[Fused]:
    """Best first. One leg alone keeps its own order and scores."""
    if fusion.method in ("bm25", "dense"):
        legs = {leg: ranked for leg, ranked in legs.items() if leg == fusion.method}
    if len(legs) == 1:
        ((leg, ranked),) = legs.items()
        return [Fused(key, score, {leg: score}) for key, score in ranked]
    if fusion.method == "rrf":
        return rrf(legs, fusion.rrf_k)
    return minmax(legs, fusion.alpha)


def minmax(legs: Mapping[Leg, Ranked], alpha: float) -> list[Fused]:
    """Convex combination of min-max scaled scores; `alpha` in [0, 1] is the weight of the dense leg."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], not {alpha}")
    weights: dict[Leg, float] = {"bm25": 1 - alpha, "dense": alpha}
    return _summed({leg: [(key, weights[leg] * s) for key, s in _scaled(ranked)] for leg, ranked in legs.items()})


def _scaled(ranked: Ranked) -> list[tuple[str, float]]:
    """Scores mapped so that the best is 1 and the worst 0; a list of equal scores is all best."""
    if not ranked:
        return []
    scores = [score for _, score in ranked]
    low, span = min(scores), max(scores) - min(scores)
    return [(key, (score - low) / span if span else 1.0) for key, score in ranked]


def rrf(legs: Mapping[Leg, Ranked], k: int = 60) -> list[Fused]:
    """Reciprocal rank fusion with ranks from 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return _summed({leg: [(key, 1.0 / (k + n)) for n, (key, _) in enumerate(r, start=1)] for leg, r in legs.items()})


def _summed(parts: Mapping[Leg, Ranked]) -> list[Fused]:
    found: dict[str, dict[Leg, float]] = {}
    for leg in _LEGS:
        for key, part in parts.get(leg, ()):
            found.setdefault(key, {})[leg] = part
    fused = [Fused(key, sum(added.values()), added) for key, added in found.items()]
    return sorted(fused, key=lambda item: (-item.score, item.key))
