"""`get_answer_score` of an engine and of a service: the same figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from citewell.client import Client
from citewell.engine import Engine
from citewell.errors import NotFound, UnknownGenerator
from citewell.evaluate import get_answer_score, get_retrieval_score
from citewell.evaluate.asking import AnswerPlan
from citewell.evaluate.collection import Collection, JudgedQuestion
from citewell.evaluate.questions import AnswerQuestion, QuestionSet

SET = QuestionSet(
    "small",
    (
        AnswerQuestion(
            "lamp", "How long does the warranty of a lamp last?", "en", ("two years",), ("guides/warranty.md",)
        ),
        AnswerQuestion("kettle", "When may I return a kettle?", "en", ("thirty days",), ("guides/returns.md",)),
        AnswerQuestion("moon", "Who sells astronaut helmets?", "en", answerable=False),
    ),
)
PLAN = AnswerPlan(("extractive",), ("rag", "closed-book", "oracle"))


def without_times(report: dict[str, Any]) -> dict[str, Any]:
    """What two runs must have in common: not the milliseconds and not the ids of the answers."""
    cells = {cell: {k: v for k, v in about.items() if k != "ms"} for cell, about in report["cells"].items()}
    shown = {
        name: [one | {"given": [given | {"id": ""} for given in one["given"]]} for one in report[name]]
        for name in ("worst", "sample")
    }
    return report | shown | {"cells": cells}


def test_an_engine_and_a_service_give_the_same_figures(loaded: FlaskClient, engine: Engine, client: Client) -> None:
    here = get_answer_score(engine, SET, PLAN)
    there = get_answer_score(client, SET, PLAN)
    assert without_times(here) == without_times(there)
    rag, closed, oracle = (here["figures"][f"extractive {name}"]["all"] for name in PLAN.conditions)
    assert rag["holds"]["value"] == oracle["holds"]["value"] == 1
    assert closed["refused"]["value"] == closed["wrong refusals"]["value"] == closed["right refusals"]["value"] == 1
    assert closed["F1"]["value"] == 0 and closed["supported"] is None and closed["evidence recall"] is None
    assert oracle["citation precision"]["value"] == oracle["citation recall"]["value"] == 1
    assert oracle["questions"] == 2, "no document is relevant to the third"
    assert here["cells"]["extractive rag"]["tokens"]["read"] > here["cells"]["extractive closed-book"]["tokens"]["read"]


def test_a_scripted_generator_is_asked_once_by_cell(loaded: FlaskClient, engine: Engine, tmp_path: Path) -> None:
    asked = QuestionSet(
        "script", (AnswerQuestion("1", "say: The warranty lasts two years. [1]", "en", ("two years",)),)
    )
    plan = AnswerPlan(("scripted",), ("rag", "closed-book"))
    file = tmp_path / "answers.jsonl"
    seen: list[int] = []
    first = get_answer_score(engine, asked, plan, file, seen.append)
    assert seen == [0, 1, 2]
    again: list[int] = []
    assert get_answer_score(engine, asked, plan, file, again.append) == first, "the same ids: nothing was asked"
    assert again == [2]
    assert first["figures"]["scripted closed-book"]["all"]["supported"]["value"] == 0
    assert first["figures"]["scripted closed-book"]["all"]["holds"]["value"] == 1


def test_an_answer_that_failed_counts_as_wrong(loaded: FlaskClient, engine: Engine) -> None:
    asked = QuestionSet("script", (AnswerQuestion("1", "fail: no luck", "en", ("two years",)),))
    found = get_answer_score(engine, asked, AnswerPlan(("scripted",)))
    assert found["cells"]["scripted rag"]["failed"] == 1
    assert found["figures"]["scripted rag"]["all"]["F1"]["value"] == 0
    assert found["worst"][0]["given"][0]["error"] == "no luck"


def test_what_cannot_be_asked_is_told_first(engine: Engine) -> None:
    with pytest.raises(UnknownGenerator, match="no generator `gpt`"):
        get_answer_score(engine, SET, AnswerPlan(("gpt",)))
    with pytest.raises(NotFound, match="holds no documents"):
        get_answer_score(engine, SET, AnswerPlan(("extractive",)))


def test_the_retrieval_score_is_the_reports(loaded: FlaskClient, engine: Engine) -> None:
    judged = tuple(JudgedQuestion(q.id, q.text, q.lang, dict.fromkeys(q.relevant, 1)) for q in SET.questions[:2])
    found = get_retrieval_score(engine, Collection("small", judged), ["bm25"])
    assert found["figures"]["bm25"]["all"]["nDCG@10"]["value"] == 1
