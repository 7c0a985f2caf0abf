"""Why two answers to one question differ."""

from __future__ import annotations

from typing import Any

import pytest

from citewell.compare import PassageChange, compare, passage_changes
from citewell.errors import Conflict
from citewell.records import Answer, AnswerState, PassageMark, Provenance, Question


def mark(name: str, text: str = "") -> PassageMark:
    return PassageMark(id=name, hash=text or name)


MADE = Provenance(index_version="v1", passages=(mark("d#0"), mark("d#1")), model="m", revision="r1", prompt="answer-1")


def answer(text: str = "Two years.", *, made: Provenance = MADE, **more: Any) -> Answer:
    fields: dict[str, Any] = {"id": "a", "state": AnswerState.DONE, "question": Question(text="q"), "generator": "g"}
    return Answer(**(fields | {"answer": text, "provenance": made} | more))


def with_(**update: Any) -> Provenance:
    return MADE.model_copy(update=update)


def test_equal_answers() -> None:
    found = compare(answer(), answer(id="b"))
    assert (found.before, found.after, found.same, found.changes, found.passages) == ("a", "b", True, (), ())
    assert found.verdict == "the same answer"


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (answer("x", made=with_(passages=(mark("d#0"),))), "evidence"),
        (answer("x", made=with_(revision="r2")), "revision"),
        (answer("x", made=with_(model="n")), "model"),
        (answer("x", made=with_(prompt="answer-2")), "prompt"),
        (answer("x", made=with_(prompt_hash="abc")), "wording of the prompt"),
        (answer("x", made=with_(sampling={"method": "greedy", "max_new_tokens": 9})), "sampling"),
        (answer("x", made=with_(seed=7)), "seed"),
        (answer("x", generator="h"), "generator"),
        (answer("x", question=Question(text="p")), "question"),
        (answer("x", question=Question(text="q", k=2)), "search"),
    ],
)
def test_each_part_is_named_as_the_reason(after: Answer, what: str) -> None:
    found = compare(answer(), after)
    assert [change.what for change in found.changes] == [what]
    assert found.verdict == f"another answer, because these differ: {what}"
    assert found.changes[0].before != found.changes[0].after


def test_the_same_text_of_other_evidence() -> None:
    found = compare(answer(), answer(made=with_(passages=(mark("d#0", "new words"), mark("e#0")), index_version="v2")))
    assert found.verdict == "the same answer, although these differ: evidence"
    assert [(change.what, change.before, change.after) for change in found.changes] == [
        ("index version", "v1", "v2"),
        ("evidence", "2 passages", "2 passages: 1 gone, 1 new, 1 changed"),
    ]
    assert set(found.passages) == {
        PassageChange("d#1", "gone"),
        PassageChange("e#0", "new"),
        PassageChange("d#0", "changed"),
    }


def test_another_number_of_the_index_explains_nothing_by_itself() -> None:
    found = compare(answer(), answer("x", made=with_(index_version="v2")))
    assert "not deterministic" in found.verdict


@pytest.mark.parametrize(
    ("sampling", "seed", "chance"),
    [
        ({}, None, False),
        ({"method": "greedy"}, None, False),
        ({"method": "sample", "temperature": 0.7}, None, True),
        ({"method": "sample", "temperature": 0.7}, 5, False),
    ],
)
def test_chance_is_told_from_what_nobody_recorded(sampling: dict[str, Any], seed: int | None, chance: bool) -> None:
    made = with_(sampling=sampling, seed=seed)
    verdict = compare(answer(made=made), answer("x", made=made)).verdict
    assert ("by chance" in verdict) == chance
    assert ("nothing that is recorded differs" in verdict) != chance


def test_passages_in_another_order_are_moved() -> None:
    found = passage_changes((mark("a"), mark("b"), mark("c")), (mark("b"), mark("a"), mark("c")))
    assert found == (PassageChange("a", "moved"), PassageChange("b", "moved"))
    assert passage_changes((mark("a"), mark("b")), (mark("b"),)) == (PassageChange("a", "gone"),)


def test_a_record_of_before_says_that_it_does_not_know() -> None:
    found = compare(answer(made=Provenance()), answer("x"))
    assert ("revision", "not recorded", "r1") in [(c.what, c.before, c.after) for c in found.changes]


def test_an_answer_that_is_not_written_is_not_compared() -> None:
    with pytest.raises(Conflict, match="answer b is running"):
        compare(answer(), answer(id="b", state=AnswerState.RUNNING))
