"""Whether `extractive` refuses what it should: risk and coverage on questions with an answer and without one.

Each question is asked of its own passage or passages and of two others of the set that share most of its words' weight,
ranked by that. An answer is right where it holds a reference; any answer to a question without one is wrong. Confidence
is the generator's own score of its best candidate, and what is answered is what reaches a threshold: coverage is the
share that is answered, risk the share of these that is wrong (El-Yaniv and Wiener 2010, "On the Foundations of
Noise-free Selective Classification"). The area under the curve is the mean risk over all coverages (Geifman and
El-Yaniv 2017, "Selective Classification for Deep Neural Networks"); its excess is the part that a better order of the
same answers would avoid (Geifman, Uziel and El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation").
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from citewell.errors import BadInput
from citewell.evaluate.neighbours import Neighbours, by_language, half, passage_of, spread
from citewell.evaluate.overlap import holds
from citewell.evaluate.tune import interval
from citewell.generate.extractive import ExtractiveGenerator
from citewell.records import Evidence, Hit, Job, Question
from citewell.train.marked import Marked, MarkedSet, read_set

RULE = (
    "the threshold, of all scores, that treats most questions rightly: a right answer, or a refusal where nothing "
    "answers; of equal ones the lowest"
)
# Passages beside a question's own.
OTHERS = 2
_POINTS = 20
_MARKER = re.compile(r" ?\[\d+\]")

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Tried:
    """One question: whether something answers it, whether the best that can be said does, and how sure that is."""

    half: int
    answerable: bool
    right: bool
    score: float
    threshold: float


@dataclass(frozen=True)
class Order:
    """Questions as arrays of one length, the surest first."""

    scores: Values
    right: Flags
    answerable: Flags

    @classmethod
    def of(cls, tried: Sequence[Tried]) -> Order:
        order = sorted(tried, key=lambda one: -one.score)
        return cls(
            np.array([one.score for one in order]),
            np.array([one.right for one in order], dtype=np.bool_),
            np.array([one.answerable for one in order], dtype=np.bool_),
        )

    def rightly(self, threshold: float) -> Values:
        """1.0 for each question that is treated rightly: answered so, or refused where nothing answers."""
        answered = self.scores >= threshold
        return np.where(answered, self.right, ~self.answerable).astype(np.float64)


def measure(folders: Sequence[Path], most: int, generator: ExtractiveGenerator) -> dict[str, Any]:
    """The report on all sets, by language. Raises `BadInput` where a set lacks questions of either kind."""
    found: dict[str, list[Tried]] = {}
    for folder in folders:
        for lang, tried in try_set(folder, most, generator).items():
            found.setdefault(lang, []).extend(tried)
    return {
        "kind": "abstention",
        "sets": [folder.name for folder in folders],
        "generator": generator.info(),
        "rule": RULE,
        "languages": {lang: report(tried, lang) for lang, tried in sorted(found.items())},
    }


def try_set(folder: Path, most: int, generator: ExtractiveGenerator) -> dict[str, list[Tried]]:
    """The questions of a set, at most so many, by language."""
    given = read_set(folder)
    questions = spread(given.questions, most)
    for kind, there in (("no", [q for q in questions if q.spans]), ("only", [q for q in questions if not q.spans])):
        if not there:
            raise BadInput(
                f"{'none' if kind == 'no' else 'each'} of the {len(questions)} questions of {folder} has an answer",
                remedy="Name a set with both: a question with `answers`, and one with `answerable: false`.",
            )
    return {
        lang: [_try(given, question, near, generator) for question in own]
        for lang, own, near in by_language(given, questions)
    }


def _try(given: MarkedSet, question: Marked, near: Neighbours, generator: ExtractiveGenerator) -> Tried:
    scores = near.scores(question.text)
    others = [key for key in scores if key not in question.passages][:OTHERS]
    shown = sorted([*question.passages, *others], key=lambda key: -scores.get(key, 0.0))
    hits = tuple(
        Hit(passage=passage_of(given.texts[key], question.lang), rank=rank, score=scores.get(key, 0.0))
        for rank, key in enumerate(shown, start=1)
    )
    asked = Question(text=question.text, lang=question.lang)
    found = generator.attempt(Job(answer_id=question.id, question=asked, evidence=Evidence(hits=hits)))
    said = _MARKER.sub("", found.text)
    right = bool(question.spans) and holds(said, question.answers, question.lang) > 0
    return Tried(half(given.texts[question.passages[0]]), bool(question.spans), right, found.score, found.threshold)


def report(tried: Sequence[Tried], lang: str) -> dict[str, Any]:
    """Curve and area over all questions; thresholds on the half that chose none."""
    choosing, measuring = ([one for one in tried if one.half == n] for n in (0, 1))
    if not choosing or not measuring:
        raise BadInput(
            f"the {len(tried)} questions in `{lang}` are all in one half, by the titles of their passages",
            remedy="Name sets with more titles.",
        )
    order, other = Order.of(tried), Order.of(measuring)
    present = measuring[0].threshold
    chosen = choose(Order.of(choosing))
    low, high = interval(other.rightly(chosen) - other.rightly(present))
    return {
        "questions": {"all": len(tried), "answerable": int(order.answerable.sum()), "measuring": len(measuring)},
        **areas(order),
        "curve": curve(order),
        "present": at(other, present),
        "chosen": at(other, chosen),
        "gain": {"low": round(low, 4), "high": round(high, 4)},
    }


def risks(order: Order) -> Values:
    """Risk at each coverage 1/n … 1; questions of one score are answered in no order, so they share their errors."""
    wrong = (~order.right).astype(np.float64)
    _, same = np.unique(-order.scores, return_inverse=True)
    shared = np.bincount(same, wrong) / np.bincount(same)
    found: Values = np.cumsum(shared[same]) / np.arange(1, len(wrong) + 1)
    return found


def areas(order: Order) -> dict[str, float]:
    """The area under the curve, that of the best order of the same answers, and the excess of the first."""
    size, right = len(order.right), int(order.right.sum())
    ideal = float((np.maximum(np.arange(1, size + 1) - right, 0) / np.arange(1, size + 1)).mean())
    area = float(risks(order).mean())
    return {"aurc": round(area, 4), "ideal": round(ideal, 4), "excess": round(area - ideal, 4)}


def curve(order: Order) -> list[dict[str, float | None]]:
    """Risk at every twentieth of coverage, with the score down to which is answered; None where nothing is said."""
    size, found = len(order.scores), risks(order)
    places = sorted({max(1, round(size * n / _POINTS)) - 1 for n in range(1, _POINTS + 1)})
    return [
        {
            "coverage": round((place + 1) / size, 4),
            "risk": round(float(found[place]), 4),
            "threshold": _finite(float(order.scores[place])),
        }
        for place in places
    ]


def choose(order: Order) -> float:
    """The threshold by `RULE`."""
    tried = sorted({float(score) for score in order.scores if math.isfinite(score)})
    if not tried:
        return 0.0
    # Also one above all scores: then everything is refused.
    return max([*tried, math.nextafter(tried[-1], math.inf)], key=lambda one: order.rightly(one).sum())


def at(order: Order, threshold: float) -> dict[str, Any]:
    """What a threshold does: risk is None where nothing is answered."""
    answered = order.scores >= threshold
    count, wrong = int(answered.sum()), int((answered & ~order.right).sum())
    has = order.answerable
    return {
        "threshold": _finite(threshold),
        "coverage": round(count / len(answered), 4),
        "risk": round(wrong / count, 4) if count else None,
        "answered_rightly": _share(answered & order.right, has),
        "refused_rightly": _share(~answered, ~has),
        "treated_rightly": round(float(order.rightly(threshold).mean()), 4),
    }


def _share(flags: Flags, of: Flags) -> float | None:
    return round(float(flags[of].mean()), 4) if of.any() else None


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
