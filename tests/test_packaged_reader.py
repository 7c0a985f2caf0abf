"""The reader that comes with the product: whole, small, of clean data, and what English questions are answered by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from citewell import parts
from citewell.config import load_settings
from citewell.engine import build
from citewell.generate.extractive import polar
from citewell.generate.reader import PACKAGED_READER
from citewell.records import Document, Question
from citewell.train.marked import read_set
from tests.judged import SHARED, shared_sets

DEV = ("squad1-en-dev", "squad2-en-dev", "squad1-es-dev", "jaquad-ja-dev")
TEXT = (
    "The Harrow Bridge was designed by Agnes Moor. Building began in 1904 and took six years. "
    "It is 312 metres long, and carries trams and bicycles. Lorries are not allowed on it."
)


def test_its_files_are_small_and_say_what_they_are() -> None:
    files = {file.name: file.stat().st_size for file in PACKAGED_READER.iterdir()}
    assert max(files.values()) <= 25_000_000
    described = json.loads((PACKAGED_READER / "reader.json").read_text("utf-8"))
    assert described["languages"] == ["en"]
    card = (PACKAGED_READER / "README.md").read_text("utf-8")
    assert described["command"] in card
    for licence in described["licences"]:
        assert licence in card
    reader = parts.reader(load_settings(reader="packaged"))
    assert reader is not None
    reader.load()
    assert reader.revision == described["sha256"]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Who designed the Harrow Bridge?", "Agnes Moor"),
        ("When did the building of the bridge begin?", "1904"),
        ("How long is the Harrow Bridge?", "312 metres"),
    ],
)
def test_a_first_answer_is_short_exact_and_cited(question: str, words: str, tmp_path: Path) -> None:
    with build(load_settings(data_dir=tmp_path, reader="packaged"), "all") as engine:
        list(engine.put([Document(id="bridge", title="Harrow Bridge", text=TEXT, lang="en")]))
        answer = engine.ask(Question(text=question, lang="en"))
        assert answer.exact[0].text.startswith(words)
        assert TEXT[answer.exact[0].start : answer.exact[0].end] == answer.exact[0].text
        assert words in answer.sentences[0].text
        assert answer.citations[0].support == 1.0
        unknown = engine.ask(Question(text="Which orchestra played at the opening of the opera house?", lang="en"))
        assert unknown.abstained
        assert unknown.exact == ()


def test_a_question_for_yes_or_no_gets_a_sentence(tmp_path: Path) -> None:
    with build(load_settings(data_dir=tmp_path, reader="packaged"), "all") as engine:
        list(engine.put([Document(id="bridge", title="Harrow Bridge", text=TEXT, lang="en")]))
        answer = engine.ask(Question(text="Are lorries allowed on the bridge?", lang="en"))
        assert "Lorries are not allowed on it." in answer.answer
        assert answer.exact == ()


@pytest.mark.parametrize(
    ("question", "lang", "expected"),
    [
        ("Can I return a lamp?", "en", True),
        ("“Isn’t it closed on Mondays?”", "en", True),
        ("Which lamps can I return?", "en", False),
        ("Island hopping: where does it start?", "en", False),
        ("Is het open?", "nl", False),
    ],
)
def test_what_asks_for_yes_or_no(question: str, lang: str, expected: bool) -> None:
    assert polar(question, lang) is expected


def test_without_it_sentences_are_ranked(tmp_path: Path) -> None:
    with build(load_settings(data_dir=tmp_path, reader=""), "all") as engine:
        list(engine.put([Document(id="bridge", title="Harrow Bridge", text=TEXT, lang="en")]))
        answer = engine.ask(Question(text="Who designed the Harrow Bridge?", lang="en"))
        assert "Agnes Moor" in answer.answer
        assert answer.exact == ()


def test_nothing_it_is_measured_with_was_in_its_training() -> None:
    """As its command says: the training sets, less what the sets kept out hold."""
    command = json.loads((PACKAGED_READER / "reader.json").read_text("utf-8"))["command"]
    if not SHARED.is_dir():
        pytest.skip("the test collections are not there")
    apart = set[str]().union(*(read_set(path).hashes() for path in shared_sets(command, "--without")))
    trained = set[str]().union(*(read_set(path).without(apart).hashes() for path in shared_sets(command, "--train")))
    assert len(trained) > 100_000
    for name in DEV:
        measured = read_set(SHARED / name).hashes()
        assert len(measured) > 2_000
        assert not trained & measured, name
