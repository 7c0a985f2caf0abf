"""Which fusion ranks a user's own judged questions best, and how sure that is. Pure.

Every question's two legs are fetched once, at the greatest depth; each candidate then fuses and cuts them anew. What a
choice is worth is estimated by cross-validation: the best candidate of all folds but one is scored on the one, so no
question judges a choice that it helped to make. The gain over the present way is paired by question, with a bootstrap
interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from citewell.errors import BadInput
from citewell.fuse import Fusion, Ranked, fuse
from citewell.records import Leg
from citewell.retrieve import Plan

FOLDS = 5
# Fewer say nothing: the interval of a gain over nine questions spans every choice.
LEAST_QUESTIONS = 10
CUT = 10
ALPHAS = tuple(step / 20 for step in range(1, 20))
RRF_K = (10, 60)
DEPTHS = (50, 100, 200)
# A choice must beat a simpler one by this much in nDCG@10, or the simpler one is taken.
WORTH = 0.002
_RESAMPLES = 10_000
_SEED = 20_261_124

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class JudgedLegs:
    """One question: its legs as (passage id, score), best first, and the grades of its relevant documents."""

    question_id: str
    lang: str
    legs: Mapping[Leg, Ranked]
    relevant: Mapping[str, int]


@dataclass(frozen=True)
class Choice:
    """What tuning found for one language. Figures are means of nDCG@10; `validated` is the cross-validated one.

    `low` and `high` bound the gain of `validated` over `present` with 95 % confidence. `alone` has both legs.
    """

    lang: str
    questions: int
    plan: Plan
    present: float
    validated: float
    low: float
    high: float
    alone: Mapping[Leg, float]

    @property
    def gain(self) -> float:
        return self.validated - self.present

    @property
    def sure(self) -> bool:
        """Whether the gain is above zero throughout its interval."""
        return self.low > 0


def candidates() -> list[Plan]:
    """All that is tried, simplest first: one leg, then rank fusion, then weights outwards from the middle."""
    plans = [Plan(Fusion("bm25"), 100), Plan(Fusion("dense"), 100)]
    plans += [Plan(Fusion("rrf", rrf_k=k), depth) for k in RRF_K for depth in DEPTHS]
    by_distance = sorted(ALPHAS, key=lambda alpha: (abs(alpha - 0.5), alpha))
    return plans + [Plan(Fusion("minmax", alpha), depth) for depth in (100, 50, 200) for alpha in by_distance]


def tune(judged: Sequence[JudgedLegs], present: Plan) -> Choice:
    """The best plan for questions of one language against the `present` one; raises `BadInput` for too few."""
    if len(judged) < LEAST_QUESTIONS:
        raise BadInput(
            f"there are {len(judged)} judged questions in `{judged[0].lang if judged else ''}`, too few to tune on",
            remedy=f"Judge at least {LEAST_QUESTIONS} questions a language; 50 and more give a useful interval.",
        )
    plans = [present, *candidates()]
    scores = np.array([[ndcg(question, plan) for question in judged] for plan in plans])
    fold = np.array([_fold(question.question_id) for question in judged])
    held_out = np.empty(len(judged))
    for number in range(FOLDS):
        inside = fold == number
        if inside.any():
            best = _best(scores[:, ~inside]) if not inside.all() else 0
            held_out[inside] = scores[best][inside]
    now = scores[0]
    low, high = interval(held_out - now)
    return Choice(
        lang=judged[0].lang,
        questions=len(judged),
        plan=plans[_best(scores)],
        present=float(now.mean()),
        validated=float(held_out.mean()),
        low=low,
        high=high,
        alone={"bm25": float(scores[1].mean()), "dense": float(scores[2].mean())},
    )


def ndcg(question: JudgedLegs, plan: Plan) -> float:
    """nDCG@10 as trec_eval's `ndcg_cut_10` has it (gain = grade), over documents by their best passage."""
    legs = {leg: ranked[: plan.depth] for leg, ranked in question.legs.items()}
    seen: dict[str, None] = {}
    for item in fuse(legs, plan.fusion):
        seen[item.key.rpartition("#")[0]] = None
        if len(seen) == CUT:
            break
    gains = [question.relevant.get(doc_id, 0) for doc_id in seen]
    ideal = sorted(question.relevant.values(), reverse=True)[:CUT]
    return _discounted(gains) / _discounted(ideal)


def interval(differences: Values) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean; the same for the same values."""
    draws = np.random.default_rng(_SEED).integers(0, len(differences), (_RESAMPLES, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def _best(scores: Values) -> int:
    """The simplest candidate (they stand in that order) within `WORTH` of the best; the present way comes first.

    It stays unless the best gains more than a standard error on it: the best of many is best by luck as well, and a
    choice within the error of another is no better founded (Breiman et al., "Classification and Regression Trees",
    1984, have this rule for choosing among trees).
    """
    means = scores.mean(axis=1)
    gains = scores[means.argmax()] - scores[0]
    if gains.mean() <= gains.std() / math.sqrt(len(gains)):
        return 0
    return int(np.flatnonzero(means >= means.max() - WORTH)[0])


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


def _fold(question_id: str) -> int:
    """The same fold for the same question in every run, whatever else is in the file."""
    return hashlib.sha256(question_id.encode()).digest()[0] % FOLDS
