"""The report on answers: generators under conditions, with intervals, paired tests, and questions to read."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from citewell.evaluate.bleu import COUNTS, bleu_mean
from citewell.evaluate.conditions import Cell
from citewell.evaluate.journal import Key
from citewell.evaluate.measures import Values, difference, mean
from citewell.evaluate.questions import QuestionSet
from citewell.evaluate.reading import sample, worst
from citewell.evaluate.scoring import MEASURES, Score, language, percentile, score
from citewell.evaluate.verdict import verdict
from citewell.records import Answer

# What is tested in pairs, and what the gate looks at.
TESTED = ("F1", "EM", "holds")
GATED = ("F1", "EM", "holds", "citation precision", "citation recall", "supported")


@dataclass(frozen=True)
class Scored:
    """A cell's scores by question, in the order of the set; None where it was not asked."""

    cell: Cell
    answers: tuple[Answer | None, ...]
    scores: tuple[Score | None, ...]

    def values(self, measure: str) -> Values:
        """Shape (questions,), NaN where there is none."""
        return np.array([one.values[measure] if one else np.nan for one in self.scores])

    def counts(self) -> Values:
        """Shape (questions, COUNTS), NaN where there are none."""
        none = np.full(COUNTS, np.nan)
        return np.array([none if one is None or one.counts is None else one.counts for one in self.scores])


def answer_report(questions: QuestionSet, cells: Sequence[Cell], answers: Mapping[Key, Answer]) -> dict[str, Any]:
    """Everything as plain JSON types; a figure that has no questions is None."""
    scored = [_scored(questions, cell, answers) for cell in cells]
    langs = _langs(questions, scored)
    figures = {str(one.cell): _figures(one, langs) for one in scored}
    differences = {name: _differences(scored, name) for name in TESTED}
    about = {str(one.cell): _about(one) for one in scored}
    return {
        "kind": "answers",
        "collection": questions.name,
        "questions": len(questions.questions),
        "unanswerable": sum(not one.answerable for one in questions.questions),
        "without_relevant": sum(one.answerable and not one.relevant for one in questions.questions),
        "verdict": verdict(cells, figures, differences["F1"]),
        "cells": about,
        "figures": figures,
        "differences": differences,
        "worst": worst(questions, scored),
        "sample": sample(questions, scored),
    }


def _scored(questions: QuestionSet, cell: Cell, answers: Mapping[Key, Answer]) -> Scored:
    found = tuple(answers.get((str(cell), one.id)) for one in questions.questions)
    each = zip(questions.questions, found, strict=True)
    return Scored(cell, found, tuple(score(one, answer) if answer else None for one, answer in each))


def _langs(questions: QuestionSet, scored: Sequence[Scored]) -> list[str]:
    """Each question's language: as it was asked in, by the first cell that asked it."""
    langs = []
    for place, question in enumerate(questions.questions):
        answer = next((one.answers[place] for one in scored if one.answers[place]), None)
        langs.append(language(question, answer) if answer else question.lang)
    return langs


def _figures(one: Scored, langs: Sequence[str]) -> dict[str, dict[str, Any]]:
    asked = np.array([score is not None for score in one.scores])
    values = {measure: one.values(measure) for measure in MEASURES}
    found: dict[str, dict[str, Any]] = {}
    known = sorted(set(langs))
    for lang in ["all", *known]:
        inside = asked & np.array([lang in ("all", own) for own in langs])
        if lang != "all" and len(known) == 1:
            found[lang] = found["all"]
        elif inside.any():
            found[lang] = {"questions": int(inside.sum())}
            found[lang] |= {name: _mean(values[name][inside]) for name in MEASURES}
            found[lang]["BLEU"] = _bleu(one.counts()[inside])
    return found


def _mean(values: Values) -> dict[str, float] | None:
    there = values[~np.isnan(values)]
    return _rounded(vars(mean(there)) | {"of": len(there)}) if len(there) else None


def _bleu(counts: Values) -> dict[str, float] | None:
    there = counts[~np.isnan(counts[:, 0])]
    return _rounded(vars(bleu_mean(there)) | {"of": len(there)}) if len(there) else None


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value if isinstance(value, int) else round(value, 4) for name, value in values.items()}


def _differences(scored: Sequence[Scored], measure: str) -> dict[str, dict[str, float]]:
    """Conditions of one generator, and generators under one condition: the first named less the second, paired."""
    found = {}
    for one, other in itertools.combinations(scored, 2):
        if one.cell.generator != other.cell.generator and one.cell.condition != other.cell.condition:
            continue
        mine, theirs = one.values(measure), other.values(measure)
        both = ~np.isnan(mine) & ~np.isnan(theirs)
        if both.any():
            gap = difference(mine[both], theirs[both])
            found[f"{one.cell} - {other.cell}"] = _rounded(vars(gap) | {"of": int(both.sum())})
    return found


def _about(one: Scored) -> dict[str, Any]:
    """Who wrote under which condition, how long it took and how much was read and written."""
    there = [(score, answer) for score, answer in zip(one.scores, one.answers, strict=True) if score and answer]
    scores = [score for score, _ in there]
    made = {(a.provenance.model, a.provenance.revision, a.provenance.prompt) for _, a in there if a.state == "done"}
    count = max(len(scores), 1)
    return {
        "generator": one.cell.generator,
        "condition": one.cell.condition,
        "asks": one.cell.asks,
        "asked": len(scores),
        "failed": sum(answer.state != "done" for _, answer in there),
        "made_by": [dict(zip(("model", "revision", "prompt"), names, strict=True)) for names in sorted(made)],
        "ms": {"p50": percentile([s.ms for s in scores], 0.5), "p95": percentile([s.ms for s in scores], 0.95)},
        "tokens": {
            "read": round(sum(s.read for s in scores) / count, 1),
            "written": round(sum(s.written for s in scores) / count, 1),
            "counted": sum(s.counted for s in scores),
        },
    }
