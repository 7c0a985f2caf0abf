"""Questions asked again, on both columns of answers: threads over SQLite, and workers over Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from citewell.compare import compare
from citewell.errors import UnknownAnswer, UnknownGenerator
from citewell.records import Answer, Document, Evidence, Job, Question
from tests.stacks import COLUMNS, Column, column


@pytest.fixture(params=COLUMNS)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Column]:
    url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
    with column(request.param, tmp_path, url) as made:
        made.start_workers()
        yield made


def load(stack: Column, **texts: str) -> None:
    documents = [Document(id=name, text=text, lang="en") for name, text in texts.items()]
    assert {outcome.status for outcome in stack.engine.put(documents)} <= {"added", "changed"}


def done(stack: Column, answer: Answer) -> Answer:
    found = stack.engine.answer(answer.id, 60)
    assert found.state == "done", found
    return found


def test_a_question_asked_again(stack: Column) -> None:
    load(stack, lamp="The lamp has a warranty of two years.", tent="The tent is green.")
    first = done(stack, stack.engine.submit(Question(text="say: lamp warranty", lang="en", k=1)))
    assert first.provenance.index_version
    assert (first.provenance.revision, first.replay_of) == ("script-1", "")
    assert [mark.id for mark in first.provenance.passages] == ["lamp#0"]

    again = done(stack, stack.engine.replay(first.id))
    assert again.id != first.id
    assert again.replay_of == first.id
    assert again.question == first.question
    assert compare(first, again).verdict == "the same answer"


def test_recorded_evidence_and_the_index_as_it_is_now(stack: Column) -> None:
    load(stack, lamp="The lamp has a warranty of two years.")
    first = done(stack, stack.engine.submit(Question(text="say: lamp warranty", lang="en", k=2)))
    load(stack, other="The lamp has a warranty for its cable, too: lamp warranty.")

    recorded = done(stack, stack.engine.replay(first.id, recorded=True))
    assert recorded.evidence.hits == first.evidence.hits
    assert compare(first, recorded).changes == ()

    now = done(stack, stack.engine.replay(first.id))
    found = compare(first, now)
    assert {(change.id, change.status) for change in found.passages} >= {("other#0", "new")}
    assert "evidence" in found.verdict


def test_what_cannot_be_asked_again(stack: Column) -> None:
    with pytest.raises(UnknownAnswer):
        stack.engine.replay("nobody")
    stack.store.create(Job(answer_id="old", question=Question(text="say: x"), evidence=Evidence(), generator="gone"))
    with pytest.raises(UnknownGenerator, match="gone"):
        stack.engine.replay("old", recorded=True)
