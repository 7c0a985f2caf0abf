"""Hits become evidence: nothing twice, neighbours joined with their offsets, within bounds, and all of it on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from citewell.config import Settings
from citewell.evidence import Bounds, build
from citewell.records import Document, Hit, Passage, Question
from citewell.split import Splitter
from tests.hashing import HashingEmbedder
from tests.service.small import small_engine

PARAGRAPHS = [
    "The first chapter tells how the lamp is mounted on a wall and which screws hold it there.",
    "The second chapter lists the bulbs that fit, with their wattage, and warns of bright ones.",
    "The third chapter explains how glass is cleaned without leaving streaks or scratches on it.",
    "The fourth chapter names the dealers who repair the lamp and says how long they need for it.",
]
LAMP = Document(id="lamp", text="\n\n".join(PARAGRAPHS), lang="en")
WIDE = Bounds(tokens=10_000)


@pytest.fixture(scope="module")
def passages() -> list[Passage]:
    found = list(Splitter(HashingEmbedder().describe().tokenizer, 20, 0, speaks=lambda lang: True).split(LAMP))
    assert [passage.text for passage in found] == PARAGRAPHS
    return found


def hits(*passages: Passage) -> list[Hit]:
    return [Hit(passage=passage, rank=n, score=1 / n, fused_rank=n) for n, passage in enumerate(passages, start=1)]


def other(name: str, text: str) -> Passage:
    return Passage(id=f"{name}#0", doc_id=name, ordinal=0, start=0, end=len(text), text=text, lang="en")


KETTLE = other("kettle", "A kettle boils a litre of water in three minutes.")
TENT = other("tent", "Tents are to be dried before they are packed.")


def test_neighbours_become_one_span_with_its_offsets(passages: list[Passage]) -> None:
    built, record = build(hits(passages[1], KETTLE, passages[2], TENT), 3, WIDE)
    assert [hit.passage.id for hit in built] == ["lamp#1-2", "kettle#0", "tent#0"]
    span = built[0].passage
    assert span.text == LAMP.text[span.start : span.end] == "\n\n".join(PARAGRAPHS[1:3])
    assert built[0].merged == ("lamp#2",)
    assert built[0].score == 1.0
    assert [hit.rank for hit in built] == [1, 2, 3]
    assert record["merged"] == 1


def test_a_passage_between_two_spans_makes_them_one(passages: list[Passage]) -> None:
    built, _ = build(hits(passages[3], KETTLE, passages[1], passages[2], passages[0]), 3, WIDE)
    assert [hit.passage.id for hit in built] == ["lamp#0-3", "kettle#0"]
    assert built[0].passage.text == LAMP.text
    assert set(built[0].merged) == {"lamp#0", "lamp#1", "lamp#2"}


def test_overlapping_neighbours_are_joined_without_repeating_what_they_share() -> None:
    first = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=15, text="one two three f", lang="en")
    second = Passage(id="d#1", doc_id="d", ordinal=1, start=8, end=23, text="three four five", lang="en")
    built, _ = build(hits(second, first), 5, WIDE)
    assert built[0].passage.text == "one two three four five"[:8] + "three four five"
    assert (built[0].passage.start, built[0].passage.end) == (0, 23)


def test_passages_of_two_versions_of_a_document_are_not_joined(passages: list[Passage]) -> None:
    moved = passages[2].model_copy(update={"start": passages[2].start + 7, "end": passages[2].end + 7})
    built, _ = build(hits(passages[1], moved), 5, WIDE)
    assert [hit.passage.id for hit in built] == ["lamp#1", "lamp#2"]


def test_a_span_has_the_heading_of_its_beginning_and_one_page(passages: list[Passage]) -> None:
    paged = [p.model_copy(update={"page": 3 if n < 2 else 4, "heading": f"H{n}"}) for n, p in enumerate(passages)]
    built, _ = build(hits(paged[1], paged[2], paged[0], paged[3]), 5, WIDE)
    assert [(hit.passage.id, hit.passage.page, hit.passage.heading) for hit in built] == [
        ("lamp#0-1", 3, "H0"), ("lamp#2-3", 4, "H2")
    ]  # fmt: skip


def test_a_near_duplicate_gives_its_place_away_and_is_named() -> None:
    again = other("copy", KETTLE.text.upper() + "!")
    built, record = build(hits(KETTLE, again, TENT), 2, WIDE)
    assert [hit.passage.doc_id for hit in built] == ["kettle", "tent"]
    assert built[0].duplicates == ("copy#0",)
    assert record["duplicates"] == 1


def test_another_number_is_another_statement() -> None:
    text = (
        "Whoever cancels the booking of a guided tour in writing has to do so at the latest {} days before it begins."
    )
    built, _ = build(hits(other("old", text.format(14)), other("new", text.format(30))), 5, WIDE)
    assert [hit.passage.doc_id for hit in built] == ["old", "new"]


def test_what_says_more_is_no_duplicate() -> None:
    longer = other("longer", KETTLE.text + " It switches itself off afterwards, and a lamp shows that it did.")
    built, _ = build(hits(KETTLE, longer), 5, WIDE)
    assert len(built) == 2
    built, _ = build(hits(longer, KETTLE), 5, WIDE)
    assert [(hit.passage.id, hit.duplicates) for hit in built] == [("longer#0", ("kettle#0",))]


def test_a_document_gives_at_most_so_many_passages(passages: list[Passage]) -> None:
    built, record = build(hits(passages[0], passages[2], passages[3], TENT), 5, Bounds(10_000, per_document=2))
    assert [hit.passage.id for hit in built] == ["lamp#0", "lamp#2", "tent#0"]
    assert record["over_document_limit"] == 1


def test_the_budget_ends_the_evidence_but_keeps_the_best(passages: list[Passage]) -> None:
    built, record = build(hits(passages[0], KETTLE, TENT), 5, Bounds(tokens=1))
    assert [hit.passage.id for hit in built] == ["lamp#0"]
    assert record["stopped"] == "tokens"
    _, record = build(hits(passages[0], KETTLE, TENT), 2, WIDE)
    assert record["stopped"] == "places"
    assert build([], 5, WIDE)[0] == ()


def test_a_japanese_near_duplicate_is_found_without_spaces() -> None:
    text = "返品は商品の到着から三十日以内にお申し込みください。送料はお客様の負担となります。"
    first = other("ja", text).model_copy(update={"lang": "ja"})
    again = other("ja2", text.replace("。", "．")).model_copy(update={"lang": "ja"})
    built, _ = build(hits(first, again), 5, WIDE)
    assert [hit.duplicates for hit in built] == [("ja2#0",)]


def test_an_answer_s_evidence_is_built_and_its_citation_points_into_the_joined_span(tmp_path: Path) -> None:
    copy = LAMP.model_copy(update={"id": "copy"})
    with small_engine(Settings(data_dir=tmp_path, passage_tokens=20)) as engine:
        assert {outcome.status for outcome in engine.put([LAMP, copy])} == {"added"}
        question = Question(text="How is glass cleaned without leaving streaks or scratches?", lang="en", k=3)
        answer = engine.ask(question)
        plain = engine.search(question)
    assert len(plain.hits) == 3
    assert plain.building == {}
    assert answer.evidence.building["duplicates"] == 4
    (hit,) = answer.evidence.hits
    assert hit.passage.text == LAMP.text
    (citation,) = answer.citations
    assert LAMP.text[citation.start : citation.end] == citation.quote == PARAGRAPHS[2]
