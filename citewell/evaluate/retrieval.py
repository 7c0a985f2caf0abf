"""How well documents are found: each question's legs are fetched once, and every mode ranks what they hold.

A document ranks as its best passage. Modes: `bm25`, `dense`, `hybrid` (as configured for the question's language),
`minmax`, `rrf`, and `minmax:ALPHA`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from citewell.engine import Engine
from citewell.errors import BadInput, IndexUnavailable
from citewell.evaluate.collection import Collection, JudgedQuestion
from citewell.evaluate.measures import MEASURES, Difference, Mean, Values, by_question, difference, mean
from citewell.evaluate.tune import JudgedLegs
from citewell.fuse import Fusion, fuse
from citewell.records import Question
from citewell.retrieve import Plan

# Passages a leg: enough for a hundred documents where each has two among the best.
DEPTH = 200
_GATED = ("nDCG@10", "R@10")


@dataclass(frozen=True)
class Fetched:
    """A question with its legs as they came, and the milliseconds of the search."""

    question: JudgedQuestion
    legs: JudgedLegs
    ms: float


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
    raise BadInput(f"there is no mode `{mode}`", remedy="Modes: bm25, dense, hybrid, minmax, rrf, minmax:0.3.")


def documents(item: JudgedLegs, plan: Plan) -> list[str]:
    """Document ids, best first, each once."""
    legs = {leg: ranked[: plan.depth] for leg, ranked in item.legs.items()}
    return list(dict.fromkeys(found.key.rpartition("#")[0] for found in fuse(legs, plan.fusion)))


def report(engine: Engine, collection: Collection, modes: Sequence[str]) -> dict[str, Any]:
    """Figures by mode and language (`all` is every question), paired differences, and what they were made with."""
    for mode in modes:
        plan_of(mode, engine, "en")
    fetched = fetch(engine, collection)
    relevant = {item.question.id: item.question.relevant for item in fetched}
    values = {
        mode: by_question(
            {f.question.id: documents(f.legs, plan_of(mode, engine, f.legs.lang)) for f in fetched}, relevant
        )
        for mode in modes
    }
    langs = [item.legs.lang for item in fetched]
    return {
        "collection": collection.name,
        "questions": len(fetched),
        "unjudged": collection.unjudged,
        "unknown_judgements": collection.unknown,
        "stack": engine.settings.stack,
        "index": engine.check()["index"],
        "search_ms": {"p50": round(statistics.median(item.ms for item in fetched), 1)},
        "figures": {mode: _figures(values[mode], langs) for mode in modes},
        "differences": _differences({mode: values[mode]["nDCG@10"] for mode in modes}),
    }


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


def fallen(now: Mapping[str, Any], before: Mapping[str, Any], most: float) -> list[str]:
    """What fell by more than `most` since an earlier report of the same collection; what is gone fell too."""
    lost = []
    for mode, langs in before["figures"].items():
        for lang, figures in langs.items():
            for name in _GATED:
                was = float(figures[name]["value"])
                new = now["figures"].get(mode, {}).get(lang, {}).get(name, {}).get("value")
                if new is None or new < was - most:
                    lost.append(f"{name} of {mode}, {lang}: {was:.4f} -> {'absent' if new is None else f'{new:.4f}'}")
    return lost
