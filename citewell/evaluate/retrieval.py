"""How well documents are found: each question's legs are fetched once, and every mode ranks what they hold.

A document ranks as its best passage. Modes: `bm25`, `dense`, `hybrid` (as configured for the question's language),
`minmax`, `rrf`, `minmax:ALPHA`, and `hybrid+rerank` (as answers are searched where a reranker is set).
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from citewell.engine import Engine
from citewell.errors import BadInput, IndexUnavailable
from citewell.evaluate.collection import Collection, JudgedQuestion
from citewell.evaluate.measures import MEASURES, Difference, Mean, Run, Values, by_question, difference, mean
from citewell.evaluate.tune import JudgedLegs
from citewell.fuse import Fusion, fuse
from citewell.records import Question
from citewell.retrieve import Plan

# Passages a leg: enough for a hundred documents where each has two among the best.
DEPTH = 200
RERANKED = "hybrid+rerank"
_GATED = ("nDCG@10", "R@10")


@dataclass(frozen=True)
class Fetched:
    """A question with its legs as they came, and the milliseconds of the search."""

    question: JudgedQuestion
    legs: JudgedLegs
    ms: float


@dataclass(frozen=True)
class Measured:
    """One stack's answers to a collection: by mode, the documents of each question and the values of each measure."""

    stack: str
    langs: tuple[str, ...]
    ranked: dict[str, dict[str, list[str]]]
    values: dict[str, dict[str, Values]]
    about: dict[str, Any]


def fetch(engine: Engine, collection: Collection, depth: int = DEPTH) -> list[Fetched]:
    """Both legs of every question; raises what a search raises."""
    found = []
    for judged in collection.questions:
        question, legs, timings = engine.legs(Question(text=judged.text, lang=judged.lang), depth)
        kept = JudgedLegs(judged.id, question.lang, legs.ranked, judged.relevant)
        found.append(Fetched(judged, kept, timings["embed"] + timings["legs"]))
    if not any(ranked for item in found for ranked in item.legs.legs.values()):
        raise IndexUnavailable("no question found anything", remedy="Load the documents that the judgements name.")
    return found


def plan_of(mode: str, engine: Engine, lang: str) -> Plan:
    """What a mode means for a language; raises `BadInput` for an unknown one."""
    name, _, alpha = mode.partition(":")
    if mode == "hybrid":
        return engine.plan(lang)
    if mode in ("bm25", "dense", "rrf"):
        return Plan(Fusion(mode), engine.settings.depth)  # type: ignore[arg-type]  # a str to mypy
    try:
        weight = float(alpha) if alpha else 0.5
        if name == "minmax" and 0 <= weight <= 1:
            return Plan(Fusion("minmax", weight), engine.settings.depth)
    except ValueError:  # falls through to the one complaint
        weight = -1.0
    raise BadInput(
        f"there is no mode `{mode}`", remedy="Modes: bm25, dense, hybrid, minmax, rrf, minmax:0.3, hybrid+rerank."
    )


def documents(item: JudgedLegs, plan: Plan) -> list[str]:
    """Document ids, best first, each once."""
    legs = {leg: ranked[: plan.depth] for leg, ranked in item.legs.items()}
    return list(dict.fromkeys(found.key.rpartition("#")[0] for found in fuse(legs, plan.fusion)))


def measure(engine: Engine, collection: Collection, modes: Sequence[str]) -> Measured:
    """What one engine answers; raises `BadInput` for an unknown mode and what a search raises."""
    for mode in modes:
        if mode != RERANKED:
            plan_of(mode, engine, "en")
        elif engine.reranker is None:
            raise BadInput(f"mode `{RERANKED}` needs a reranker", remedy="Set `reranker` to a cross-encoder.")
    fetched = fetch(engine, collection)
    relevant = {item.question.id: item.question.relevant for item in fetched}
    ranked = {
        mode: {
            f.question.id: _reranked(engine, f.question)
            if mode == RERANKED
            else documents(f.legs, plan_of(mode, engine, f.legs.lang))
            for f in fetched
        }
        for mode in modes
    }
    median = statistics.median(item.ms for item in fetched)
    return Measured(
        stack=engine.settings.stack,
        langs=tuple(item.legs.lang for item in fetched),
        ranked=ranked,
        values={mode: by_question(run, relevant) for mode, run in ranked.items()},
        about={"index": engine.check()["index"], "search_ms": {"p50": round(median, 1)}},
    )


def change(before: Engine, after: Engine, collection: Collection) -> dict[str, float]:
    """The paired difference in nDCG@10, as both are configured, from one engine to another, and the questions."""
    values = [measure(engine, collection, ["hybrid"]).values["hybrid"]["nDCG@10"] for engine in (before, after)]
    return _rounded(difference(values[1], values[0])) | {"questions": len(collection.questions)}


def _reranked(engine: Engine, judged: JudgedQuestion) -> list[str]:
    found = engine.search(Question(text=judged.text, lang=judged.lang, k=DEPTH))
    return list(dict.fromkeys(hit.passage.doc_id for hit in found.hits))


def report(collection: Collection, measured: Sequence[Measured]) -> dict[str, Any]:
    """Figures by mode and language (`all` is every question), paired differences, and what they were made with.

    With two stacks a mode is named `STACK MODE`, and `parity` says how far the second is from the first.
    """
    several = len(measured) > 1
    figures: dict[str, Any] = {}
    differences: dict[str, dict[str, float]] = {}
    for one in measured:
        named = {f"{one.stack} {mode}" if several else mode: values for mode, values in one.values.items()}
        figures |= {name: _figures(values, one.langs) for name, values in named.items()}
        differences |= _differences({name: values["nDCG@10"] for name, values in named.items()})
    return {
        "collection": collection.name,
        "questions": len(collection.questions),
        "unjudged": collection.unjudged,
        "unknown_judgements": collection.unknown,
        "stacks": {one.stack: one.about for one in measured},
        "figures": figures,
        "differences": differences,
        "parity": {f"{b.stack} - {a.stack}": _parity(a, b) for a, b in itertools.pairwise(measured)},
    }


def _parity(one: Measured, other: Measured) -> dict[str, dict[str, float]]:
    """By mode: the paired difference in nDCG@10, and the mean share of the first ten documents that both have."""
    return {
        mode: _rounded(difference(other.values[mode]["nDCG@10"], one.values[mode]["nDCG@10"]))
        | {"overlap@10": round(statistics.mean(_overlap(one.ranked[mode], other.ranked[mode])), 4)}
        for mode in one.values
    }


def _overlap(one: Run, other: Run) -> list[float]:
    shares = []
    for key, docs in one.items():
        first, second = set(docs[:10]), set(other[key][:10])
        longer = max(len(first), len(second))
        shares.append(len(first & second) / longer if longer else 1.0)
    return shares


def _figures(values: Mapping[str, Values], langs: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for lang in ["all", *sorted(set(langs))]:
        inside = np.array([lang in ("all", own) for own in langs])
        found[lang] = {"questions": int(inside.sum())} | {
            name: _rounded(mean(values[name][inside])) for name in MEASURES
        }
    return found


def _differences(values: Mapping[str, Values]) -> dict[str, dict[str, float]]:
    modes = list(values)
    return {
        f"{one} - {other}": _rounded(difference(values[one], values[other]))
        for place, one in enumerate(modes)
        for other in modes[:place]
    }


def _rounded(value: Mean | Difference) -> dict[str, float]:
    return {name: round(number, 4) for name, number in vars(value).items()}


def fallen(now: Mapping[str, Any], before: Mapping[str, Any], most: float, gated: Sequence[str] = _GATED) -> list[str]:
    """What of `gated` fell by more than `most` since an earlier report of the same collection; what is gone fell too.

    An earlier figure is a number, or has one under `value`.
    """
    lost = []
    for mode, langs in before["figures"].items():
        for lang, figures in langs.items():
            for name in [name for name in gated if figures.get(name) is not None]:
                was = _number(figures[name])
                new = (now["figures"].get(mode, {}).get(lang, {}).get(name) or {}).get("value")
                if new is None or new < was - most:
                    lost.append(f"{name} of {mode}, {lang}: {was:.4f} -> {'absent' if new is None else f'{new:.4f}'}")
    return lost


def _number(figure: Any) -> float:
    return float(figure["value"] if isinstance(figure, Mapping) else figure)
