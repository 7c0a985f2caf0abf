"""Asking every question of an evaluation, once, of an engine in this process or of a running service."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from citewell.client import Client
from citewell.engine import Engine
from citewell.errors import NotFound, Overloaded, Unavailable, UnknownGenerator
from citewell.evaluate.conditions import Cell
from citewell.evaluate.journal import Journal
from citewell.evaluate.questions import QuestionSet
from citewell.records import Answer, Question, Terms, text_hash

# Seconds between two tries of a service that takes no more questions.
_PAUSE_S = 1.0
# What an index tells of itself that a change of its documents shows in.
_CHANGES = ("index_version", "documents", "passages")


@dataclass(frozen=True)
class Pace:
    """`at_once` questions are under way at a time; one without an answer after `wait_s` seconds ends the run."""

    at_once: int = 4
    wait_s: float = 600.0


@dataclass(frozen=True)
class AnswerPlan:
    """Who answers under which conditions, from at most `k` passages; `fine_tuned` names a generator's partner."""

    generators: Sequence[str]
    conditions: Sequence[str] = ("rag",)
    fine_tuned: Mapping[str, str] = field(default_factory=dict)
    k: int = 5
    pace: Pace = Pace()


@dataclass(frozen=True)
class _Asked:
    cell: Cell
    question_id: str
    answer_id: str


def check(engine: Engine | Client, cells: Sequence[Cell]) -> dict[str, Any]:
    """What of the index shows that its documents have changed, as far as the engine tells.

    Raises `UnknownGenerator`, and `NotFound` where there is nothing to search.
    """
    known = sorted(row["name"] for row in engine.catalogue())
    for cell in cells:
        if cell.asks not in known:
            raise UnknownGenerator(
                f"there is no generator `{cell.asks}`", remedy=f"Choose among {', '.join(known)}, or add a table."
            )
    index = engine.check().get("index", {})
    if any(cell.searches for cell in cells) and index.get("ok") and index.get("documents") == 0:
        raise NotFound(
            f"the index `{index.get('index', '')}` holds no documents", remedy="Load some: `citewell ingest`."
        )
    return {name: index[name] for name in _CHANGES if name in index}


def ask_all(
    engine: Engine | Client,
    asked: Sequence[tuple[Cell, str, Question]],
    journal: Journal,
    pace: Pace,
    tell: Callable[[int], None],
) -> None:
    """Bring an answer to each question into the journal; what is there already is not asked again.

    Raises what asking raises, and `Unavailable` when an answer does not come; running it again goes on from there.
    """
    under_way: deque[_Asked] = deque()
    for cell, question_id, question in asked:
        if (str(cell), question_id) in journal.answers:
            continue
        while len(under_way) >= pace.at_once:
            _take(engine, under_way, journal, pace)
            tell(len(journal.answers))
        answer = _submit(engine, cell, question, text_hash(f"{journal.run}/{cell}/{question_id}"), pace)
        under_way.append(_Asked(cell, question_id, answer.id))
    while under_way:
        _take(engine, under_way, journal, pace)
        tell(len(journal.answers))


def questions_of(cells: Sequence[Cell], questions: QuestionSet, k: int) -> list[tuple[Cell, str, Question]]:
    """Question by question, so that an evaluation that is cut short has all cells of some questions."""
    each = ((cell, one.id, cell.question(one, k)) for one in questions.questions for cell in cells)
    return [(cell, key, question) for cell, key, question in each if question is not None]


def _take(engine: Engine | Client, under_way: deque[_Asked], journal: Journal, pace: Pace) -> None:
    oldest = under_way.popleft()
    answer: Answer = engine.answer(oldest.answer_id, pace.wait_s)
    if not answer.state.final:
        raise Unavailable(
            f"answer {answer.id} by `{answer.generator}` is still {answer.state.value} after {pace.wait_s:g} seconds",
            remedy="`citewell doctor` tells who works; the same command again goes on from here.",
        )
    journal.add(str(oldest.cell), oldest.question_id, answer)


def _submit(engine: Engine | Client, cell: Cell, question: Question, key: str, pace: Pace) -> Answer:
    """The record; a service that takes no more questions just now is asked again, for `pace.wait_s` at most."""
    terms = Terms(idempotency_key=key, caller="evaluation", priority="batch", cache="none")
    deadline = time.monotonic() + pace.wait_s
    while True:
        try:
            return engine.submit(question, cell.asks, terms)
        except Overloaded:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_PAUSE_S)
