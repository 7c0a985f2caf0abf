"""How much support a citation needs, measured: claims that are true of one passage, held against that and others.

A claim is a question of a set with its question word replaced by the marked answer: people worded it, so its words are
not the passage's, and it says what the passage says (after Demszky et al. 2018, "Transforming Question Answering
Datasets Into Natural Language Inference Datasets", by far plainer rules: its grammar is rough, and only its words and
vectors are looked at). It should be supported by its own passage. It should not be by its distractor, the passage of
the set that shares most of its words' weight and holds none of the answers; nor by what is left of its own passage
without the sentences that hold an answer, which is reported and chooses nothing.

The verdict is `support.judge`'s as a whole: numbers and names, support, bar, and entailment where a model is set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from citewell.bars import Bar
from citewell.citing import Citing
from citewell.errors import BadInput
from citewell.evaluate.neighbours import Neighbours, by_language, half, passage_of, spread
from citewell.evaluate.overlap import holds
from citewell.support import Claim, best_spans, judge, look, verbatim
from citewell.text import sentences
from citewell.train.marked import Marked, MarkedSet, read_set

# What a chosen bar has to reach.
PRECISION = 0.95
_STEP = 0.05
# None below is tried, whatever the sets say: what shares less than a quarter of its topic is not about the same thing.
LEAST = (0.25, 0.95)
WEIGHTS = (0.0, 0.3, 0.5)
# A cosine has to gain this much in F1, or words alone are taken: they hold under any embedder.
_WORTH = 0.01
RULE = (
    f"the least bar of {LEAST[0]:g}, {LEAST[0] + _STEP:g}, … from which on precision is at least {PRECISION:g}, else "
    f"the one with the greatest F1; a weight of the cosine above 0 where it gains {_WORTH:g} in F1"
)
# The passages most like a claim that are looked at for one without its answer.
_LOOKED_AT = 50
_REFUSED = -1.0

_ASKS = {
    "en": r"\b(how (many|much|long|old|often|far)|what|which|whom|whose|who|when|where|why|how)\b",
    "es": r"\b(qué|quién(es)?|cuál(es)?|cuándo|cuánt[oa]s?|dónde|cómo|que|quien|cual|cuando|cuanto|donde|como)\b",
    "ja": r"何(年|月|日|人|回|度|歳|番|個|時|世紀|つ)?|なに|誰|だれ|いつ|どこ|どの|どんな|どれ|いくつ|いくら|なぜ",
    "ko": r"무엇|누구|언제|어디|어느|어떤|어떻게|왜|몇|얼마|무슨",
}

Supports = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One claim with the three passages that it is held against; `half` is 0 where it helps to choose."""

    half: int
    gold: Claim
    distractor: Claim
    rest: Claim | None


@dataclass
class _Holding:
    """A bar under measurement; each pair's cosine is computed once for all of them."""

    by: Citing
    held: Bar
    known: dict[tuple[str, str], float] = field(default_factory=dict)

    def bar(self, lang: str) -> Bar:
        return self.held

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self.known]
        self.known.update(zip(new, self.by.cosines(new), strict=True))
        return [self.known[pair] for pair in pairs]

    def entailed(self, pairs: Sequence[tuple[str, str]]) -> list[float] | None:
        return self.by.entailed(pairs)

    def least_entailed(self) -> float:
        return self.by.least_entailed()


def claim_of(question: Marked) -> str:
    """The question as a statement: its first question word replaced by the answer, which else comes last."""
    text, answer = question.text.strip().strip("¿?？。. "), question.answers[0]
    if question.lang == "ja":
        text = text.removesuffix("か")
    asks = _ASKS.get(question.lang)
    told, count = re.subn(asks, lambda _: answer, text, count=1, flags=re.IGNORECASE) if asks else (text, 0)
    return f"{told if count else f'{text} {answer}'}."


def cases_of(folder: Path, most: int) -> dict[str, list[Case]]:
    """The cases of a set by language, of at most so many questions; raises `BadInput` where there are none."""
    given = read_set(folder)
    asked = spread([question for question in given.questions if question.spans], most)
    if not asked:
        raise BadInput(
            f"no question of {folder} has a marked answer", remedy="Name a set whose questions have `answers`."
        )
    found = {}
    for lang, questions, near in by_language(given, asked):
        made = [_case(given, question, near) for question in questions]
        if kept := [case for case in made if case is not None]:
            found[lang] = kept
    if not found:
        raise BadInput(
            f"no question of {folder} has another passage like it that lacks its answer",
            remedy="Name a set with more passages.",
        )
    return found


def _case(given: MarkedSet, question: Marked, near: Neighbours) -> Case | None:
    """None where no distractor is found, or the claim stands in its passage as it is: that is supported anyway."""
    told, lang, own = claim_of(question), question.lang, given.texts[question.spans[0].passage]
    likest = [key for key in near.scores(told) if key not in question.passages][:_LOOKED_AT]
    other = next((key for key in likest if not holds(given.texts[key].whole, question.answers, lang)), None)
    if other is None or verbatim(told, own.text):
        return None
    taken = [(span.start, span.end) for span in question.spans if span.passage == own.id]
    parts = [
        own.text[start:end]
        for start, end in sentences(own.text, lang)
        if not any(start < last and end > first for first, last in taken)
    ]
    rest = " ".join(parts)
    left = Claim(told, passage_of(own, lang, rest)) if rest and not holds(rest, question.answers, lang) else None
    return Case(half(own), Claim(told, passage_of(own, lang)), Claim(told, passage_of(given.texts[other], lang)), left)


def measure(folders: Sequence[Path], most: int, by: Citing, speaks: Sequence[str], embedder: str) -> dict[str, Any]:
    """The report on all sets: by language the chosen bar with its figures, and `citation_bars` for the settings.

    `speaks` are the languages in which cosines are tried, none named meaning all; `embedder` is its name. Raises
    `BadInput` for a set without usable questions, or with all of a language in one half.
    """
    cases: dict[str, list[Case]] = {}
    sources: dict[str, list[str]] = {}
    for folder in folders:
        for lang, found in cases_of(folder, most).items():
            cases.setdefault(lang, []).extend(found)
            sources.setdefault(lang, []).append(folder.name)
    bars, languages = {}, {}
    for lang, own in sorted(cases.items()):
        weights = WEIGHTS if not speaks or lang in speaks else WEIGHTS[:1]
        source = f"{', '.join(sources[lang])}: {sum(case.half == 0 for case in own)} claims"
        bar, languages[lang] = _calibrated(own, lang, by, weights, Bar(least=0, embedder=embedder, source=source))
        bars[lang] = bar.model_dump()
    sets = [folder.name for folder in folders]
    return {"kind": "citations", "sets": sets, "rule": RULE, "languages": languages, "citation_bars": bars}


def _calibrated(
    cases: Sequence[Case], lang: str, by: Citing, weights: Iterable[float], like: Bar
) -> tuple[Bar, dict[str, Any]]:
    choosing, measuring = ([case for case in cases if case.half == n] for n in (0, 1))
    if not choosing or not measuring:
        raise BadInput(
            f"the {len(cases)} claims in `{lang}` are all in one half, by the titles of their passages",
            remedy="Name sets with more titles.",
        )
    holding = _Holding(by, like)
    tried = []
    for weight in weights:
        at = like.model_copy(update={"cosine": weight, "embedder": like.embedder if weight else ""})
        least, reached = choose(*_supports(choosing, lang, replace(holding, held=at)))
        held = replace(holding, held=at.model_copy(update={"least": least}))
        tried.append((held, {"cosine": weight, "least": least, "chosen_on": reached, **_judged(measuring, lang, held)}))
    best = tried[0]
    for one in tried[1:]:
        if one[1]["chosen_on"]["f1"] >= best[1]["chosen_on"]["f1"] + _WORTH:
            best = one
    supports = _supports(measuring, lang, best[0])
    return best[0].held, {
        "claims": {"choosing": len(choosing), "measuring": len(measuring)},
        **best[1],
        "present": _judged(measuring, lang, replace(holding, held=by.bar(lang))),
        "weights": [row for _, row in tried],
        "thresholds": [{"least": least, **_figures(*supports, least)} for least in _grid()],
    }


def _supports(cases: Sequence[Case], lang: str, by: _Holding) -> tuple[Supports, Supports]:
    """What claims reach with their own passage and with the distractor; shape (len(cases),), -1 for a refusal."""
    claims = [case.gold for case in cases] + [case.distractor for case in cases]
    looked = look(claims, lang)
    spans = best_spans(looked, by.held, by)
    found = [_REFUSED if one.reason or span is None else span.support for one, span in zip(looked, spans, strict=True)]
    return np.array(found[: len(cases)]), np.array(found[len(cases) :])


def choose(gold: Supports, distractor: Supports) -> tuple[float, dict[str, Any]]:
    """The bar by `RULE`, of two arrays of supports, and its figures there."""
    rows = [(least, _figures(gold, distractor, least)) for least in _grid()]
    kept: list[tuple[float, dict[str, Any]]] = []
    for least, row in reversed(rows):
        if row["precision"] is not None and row["precision"] < PRECISION:
            break
        kept.append((least, row))
    kept = [(least, row) for least, row in kept if row["recall"]]
    return kept[-1] if kept else max(rows, key=lambda one: one[1]["f1"])


def _grid() -> list[float]:
    low, high = LEAST
    return [round(low + n * _STEP, 2) for n in range(round((high - low) / _STEP) + 1)]


def _figures(gold: Supports, distractor: Supports, least: float) -> dict[str, Any]:
    return figures(int((gold >= least).sum()), int((distractor >= least).sum()), len(gold))


def figures(right: int, wrong: int, of: int) -> dict[str, Any]:
    """Precision (None where nothing is supported), recall and F1 of the verdict `supported`, with the counts."""
    precision = right / (right + wrong) if right + wrong else None
    recall = right / of
    f1 = 2 * right / (right + wrong + of)
    return {
        "precision": None if precision is None else round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(f1, 4),
        "supported": right,
        "claims": of,
        "supported_by_distractor": wrong,
    }


def _judged(cases: Sequence[Case], lang: str, by: _Holding) -> dict[str, Any]:
    """Figures of the verdict as an answer gets it, under the bar that `by` holds."""
    rests = [case.rest for case in cases if case.rest is not None]
    claims = [*(case.gold for case in cases), *(case.distractor for case in cases), *rests]
    held = [verdict.span is not None for verdict in judge(claims, lang, by)]
    size = len(cases)
    rest = {"supported_by_rest": sum(held[2 * size :]), "rests": len(rests)}
    return figures(sum(held[:size]), sum(held[size : 2 * size]), size) | rest
