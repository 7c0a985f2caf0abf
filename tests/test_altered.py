"""Questions that look as if their passage answered them: how each is made, and that none is answered by the rest."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from citewell.evaluate.overlap import normalized
from citewell.train.altered import Alterations
from citewell.train.marked import Marked, Span, Text, read_set
from citewell.train.neighbours import Neighbours
from tests.judged import SHARED

MILL = Text(
    "mill",
    "Mills",
    "The first mill was built by Ada Moor in 1612. It burned in 1703, and Jane Orr of Esk paid for a second. "
    "People came from far away to see the wheels turn.",
)
TOWER = Text(
    "tower", "Mills", "The tower mill of Lorn was built by Piet Holm in 1810, and had four sails and a gallery."
)

NEAR = {"mill": ("farm", "sails"), "burn": ("sink",), "paid": ("asked",)}


def near(word: str) -> tuple[str, ...]:
    return NEAR.get(word, ())


def asked(text: str, answer: str, passage: Text = MILL, lang: str = "en") -> Marked:
    start = passage.text.index(answer)
    return Marked("q", text, lang, (answer,), (Span(passage.id, start, start + len(answer)),), (passage.id,))


def made(question: Marked, tries: int = 60) -> dict[str, tuple[Marked, Text]]:
    """What comes of a question under many seeds, by way and words."""
    found: dict[str, tuple[Marked, Text]] = {}
    for seed in range(tries):
        for one, text in Alterations({"mill": MILL, "tower": TOWER}, near, seed).of([question]):
            found.setdefault(f"{one.id.rpartition('~')[2]}: {one.text}", (one, text))
    return found


def test_each_way_makes_a_question_without_an_answer() -> None:
    found = made(asked("When did the first mill of Ada Moor burn?", "1703"))
    assert "turned: When did the last mill of Ada Moor burn?" in found
    assert "negated: When didn't the first mill of Ada Moor burn?" in found
    assert "exchanged: When did the first mill of Jane Orr of Esk burn?" in found
    assert "exchanged: When did the first mill of Piet Holm burn?" in found
    question, rest = found["cut: When did the first mill of Ada Moor burn?"]
    assert rest.text == (
        "The first mill was built by Ada Moor in 1612. People came from far away to see the wheels turn."
    )
    assert question.passages == (rest.id,)
    for one, text in found.values():
        assert one.spans == ()
        assert one.answers == ()
        assert one.passages == (text.id,)


def test_a_word_is_exchanged_for_one_near_it_but_not_for_one_of_the_answers_sentence() -> None:
    found = made(asked("When did the first mill of Ada Moor burn?", "1703"))
    assert "near: When did the first farm of Ada Moor burn?" in found
    assert "near: When did the first sails of Ada Moor burn?" in found
    assert "near: When did the first mill of Ada Moor sink?" in found
    there = made(asked("What did the mill have?", "four sails", TOWER))
    assert "near: What did the farm have?" in there
    assert not [key for key in there if key.startswith("near") and "sails" in key]


def test_words_near_a_word_are_neither_its_forms_nor_its_equals_and_end_alike() -> None:
    degrees = {
        "pond": 0,
        "lake": 63,
        "ponds": 63,
        "mere": 40,
        "hill": 85,
        "kind": 63,
        "lakes": 63,
        "boat": 63,
        "bay": 63,
    }
    angles = np.radians(list(degrees.values()))
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = Neighbours({word: row for row, word in enumerate(degrees)}, rows, set(degrees) - {"boat"})
    assert found("pond") == ("lake",)
    assert found("ponds") == ()
    assert found("boat") == ()
    assert found("kind") == ()


def test_a_name_is_never_exchanged_for_the_answer() -> None:
    found = made(asked("Who paid for the mill that Ada Moor planned?", "Jane Orr of Esk"))
    assert any(key.startswith("exchanged") for key in found)
    assert not [key for key in found if "Jane Orr" in key]


def test_a_passage_that_says_it_twice_is_not_cut() -> None:
    twice = Text("mill", "Mills", f"{MILL.text} In 1703 it burned, as all know.")
    one = asked("When was the fire?", "1703", twice)
    for seed in range(20):
        for question, text in Alterations({"mill": twice}, near, seed).of([one]):
            assert not question.id.endswith("~cut")
            assert text.text == twice.text


def test_other_languages_are_not_negated_or_turned() -> None:
    spanish = Text(
        "m", "Molinos", "El molino de Ada Moor ardió en 1703. Jane Orr pagó otro, que duró hasta 1890 sin fuego."
    )
    one = asked("¿En qué año was ardió first el molino de Ada Moor?", "1703", spanish, "es")
    ways = {
        question.id.rpartition("~")[2]
        for seed in range(40)
        for question, _ in Alterations({"m": spanish}, lambda word: (word, "otro"), seed).of([one])
    }
    assert ways == {"exchanged"}


def test_the_same_seed_makes_the_same() -> None:
    questions = [asked("When did the first mill of Ada Moor burn?", "1703")] * 20
    texts = {"mill": MILL, "tower": TOWER}
    assert Alterations(texts, near, 5).of(questions) == Alterations(texts, near, 5).of(questions)
    assert Alterations(texts, near, 5).of(questions) != Alterations(texts, near, 6).of(questions)


def test_real_questions_of_each_kind_and_none_is_answered_by_what_is_left() -> None:
    if not SHARED.is_dir():
        pytest.skip("the test collections are not there")
    whole = read_set(SHARED / "squad1-en-dev")
    questions = whole.questions[::10]
    words = sorted({word for question in questions for word in re.findall("[a-z]{4,}", question.text)})
    rows = np.random.default_rng(3).normal(size=(len(words), 8)).astype(np.float32)
    neighbours = Neighbours({word: row for row, word in enumerate(words)}, rows, set(words))
    found = Alterations(whole.texts, neighbours, 13).of(questions)
    ways = Counter(question.id.rpartition("~")[2] for question, _ in found)
    assert len(found) > 0.9 * len(questions)
    assert min(ways[way] for way in ("exchanged", "near", "cut", "turned", "negated")) > 0.02 * len(found)
    by_id = {question.id: question for question in questions}
    for question, text in found:
        before = by_id[question.id.rpartition("~")[0]]
        if question.id.endswith("~cut"):
            assert question.text == before.text
            assert not any(normalized(answer) in normalized(text.text) for answer in before.answers)
        else:
            assert question.text != before.text
            assert text.text == whole.texts[before.spans[0].passage].text
