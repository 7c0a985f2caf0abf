"""Measuring: retrieval figures, answer figures, reports, the gate, and the tuning of fusion.

`get_retrieval_score` and `get_answer_score` give a program the figures that `citewell eval` shows a person.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from citewell.client import Client
    from citewell.engine import Engine
    from citewell.evaluate.asking import AnswerPlan
    from citewell.evaluate.collection import Collection
    from citewell.evaluate.questions import QuestionSet

__all__ = ["get_answer_score", "get_retrieval_score"]


def get_retrieval_score(
    engine: Engine, collection: Collection, modes: Sequence[str] = ("bm25", "dense", "hybrid")
) -> dict[str, Any]:
    """The report of `citewell eval retrieval`: `["figures"][MODE][LANG or "all"]["nDCG@10"]["value"]` and so on.

    Raises `BadInput` for an unknown mode and what a search raises.
    """
    from citewell.evaluate.retrieval import measure, report

    return report(collection, [measure(engine, collection, modes)])


def _quiet(_: int) -> None:
    """Nobody watches how far it is."""


def get_answer_score(
    engine: Engine | Client,
    questions: QuestionSet,
    plan: AnswerPlan,
    file: Path | None = None,
    tell: Callable[[int], None] = _quiet,
) -> dict[str, Any]:
    """The report of `citewell eval answers`: `["figures"]["GENERATOR CONDITION"][LANG or "all"]["F1"]["value"]`, …

    `engine` is an engine of this process with the role `all` or `api`, or a client of a running service. Answers are
    kept in `file` as they come: with the same file an evaluation that broke off goes on. `tell` hears how many there
    are. Raises `BadInput`, `UnknownGenerator`, `NotFound` for an empty index, `Conflict` where the index has changed
    since the answers of `file`, and what asking raises.
    """
    from citewell.evaluate.answers import answer_report
    from citewell.evaluate.asking import ask_all, check, questions_of
    from citewell.evaluate.conditions import ORACLE, cells
    from citewell.evaluate.journal import Journal

    asked = cells(plan.generators, plan.conditions, plan.fine_tuned)
    if ORACLE in plan.conditions:
        questions.needs_gold()
    index = check(engine, asked)
    with contextlib.ExitStack() as life:
        folder = Path(life.enter_context(tempfile.TemporaryDirectory())) if file is None else None
        kept = Journal(file or (folder or Path()) / "answers.jsonl", index)
        journal = life.enter_context(contextlib.closing(kept))
        tell(len(journal.answers))
        ask_all(engine, questions_of(asked, questions, plan.k), journal, plan.pace, tell)
        return answer_report(questions, asked, journal.answers)
