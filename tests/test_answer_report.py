"""The report on answers, from records alone: what each figure counts, what is said of it, and bad question files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from citewell.errors import BadInput, Conflict
from citewell.evaluate.answers import answer_report
from citewell.evaluate.conditions import Cell, cells, covers
from citewell.evaluate.journal import Journal
from citewell.evaluate.pages import as_html, as_markdown
from citewell.evaluate.questions import AnswerQuestion, QuestionSet, read_questions
from citewell.evaluate.scoring import score
from citewell.records import Answer, AnswerState, Citation, Evidence, Failure, Hit, Passage, Question, Sentence

RAG, CLOSED = Cell("gen", "rag", "gen"), Cell("gen", "closed-book", "gen")
LAMP = AnswerQuestion("lamp", "How long is the warranty?", "en", ("two years",), ("a", "b"))
MOON = AnswerQuestion("moon", "Who sells the moon?", "en", answerable=False)


def answer(*sentences: str, cites: Sequence[str] = (), read: Sequence[str] = ("a#0", "c#0"), **fields: Any) -> Answer:
    """A record whose first sentences are supported by a passage each."""
    built: list[Sentence] = []
    text = ""
    for number, one in enumerate(sentences):
        whole = f"{one} [1]" if number < len(cites) else one
        start = len(text) + bool(text)
        text = f"{text} {whole}".strip()
        built.append(Sentence(text=one, start=start, end=start + len(whole), supported=number < len(cites)))
    passages = [
        Passage(id=key, doc_id=key.rpartition("#")[0], ordinal=0, start=0, end=9, text="Some text", lang="en")
        for key in read
    ]
    return Answer(
        id="x",
        state=fields.pop("state", AnswerState.DONE),
        question=Question(text="?", lang="en"),
        generator="gen",
        answer=text,
        sentences=tuple(built),
        citations=tuple(
            Citation(
                marker=1, sentence=n, passage_id=key, doc_id=key.rpartition("#")[0], quote="text",
                start=5, end=9, passage_start=5, passage_end=9, support=1.0,
            )
            for n, key in enumerate(cites)
        ),
        evidence=Evidence(
            hits=tuple(Hit(passage=p, rank=n, score=1.0) for n, p in enumerate(passages, start=1)),
            mode="hybrid" if read else "none",
        ),
        timings_ms={"retrieve": 10.0, "build": 1.0, "generate": 20.0, "cite": 2.0, "queue": 500.0, "total": 533.0},
        **fields,
    )  # fmt: skip


REFUSAL = answer("The documents do not answer this question.", abstained=True)


def test_what_each_figure_counts() -> None:
    found = score(LAMP, answer("It lasts two years.", "It is red.", cites=("a#0",)))
    values = found.values
    assert values["EM"] == 0
    assert values["holds"] == 1
    assert values["F1"] == pytest.approx(2 * (2 / 7) * 1 / (2 / 7 + 1))
    assert values["supported"] == 0.5
    assert values["citation precision"] == 1
    assert values["citation recall"] == values["evidence recall"] == 0.5
    assert values["refused"] == values["wrong refusals"] == 0
    assert values["right refusals"] != values["right refusals"], "there is none for a question that has an answer"
    assert found.ms == 33, "its own time, not the time in the line"


def test_refusals_failures_and_unanswerable_questions() -> None:
    refused = score(LAMP, REFUSAL).values
    assert (refused["F1"], refused["holds"], refused["refused"], refused["wrong refusals"]) == (0, 0, 1, 1)
    assert refused["citation recall"] == 0
    right = score(MOON, REFUSAL).values
    assert right["right refusals"] == 1
    assert right["F1"] != right["F1"]
    failed = answer(state=AnswerState.FAILED, error=Failure(code="generation_failed", message="broken"))
    values = score(LAMP, failed).values
    assert (values["F1"], values["refused"]) == (0, 0)


@pytest.mark.parametrize(
    ("gold", "passage", "expected"),
    [
        ("a", ("a", "a#3"), True),
        ("a#3", ("a", "a#3"), True),
        ("a#3", ("a", "a#2-4"), True),
        ("a#5", ("a", "a#2-4"), False),
        ("b#3", ("a", "a#3"), False),
        ("a#1", ("a#1", "a#1#0"), True),
    ],
)
def test_a_judgement_means_a_document_or_a_passage(gold: str, passage: tuple[str, str], expected: bool) -> None:
    assert covers(gold, *passage) is expected


def report(given: dict[Cell, list[Answer]], questions: Sequence[AnswerQuestion]) -> dict[str, Any]:
    answers = {
        (str(cell), question.id): one
        for cell, row in given.items()
        for question, one in zip(questions, row, strict=True)
    }
    return answer_report(QuestionSet("set", tuple(questions)), list(given), answers)


def lamps(count: int) -> list[AnswerQuestion]:
    return [AnswerQuestion(f"q{n}", f"Question {n}?", "en", ("two years",), ("a",)) for n in range(count)]


def test_the_report_says_in_words_what_helps() -> None:
    right, wrong = answer("two years", cites=("a#0",)), answer("a red kettle", read=())
    found = report({RAG: [right] * 12, CLOSED: [wrong] * 12}, lamps(12))
    assert found["verdict"][0].startswith("Retrieval helps `gen`: F1 1.000 with it, 0.000 without")
    assert "p < .001" in found["verdict"][0]
    turned = report({RAG: [wrong] * 12, CLOSED: [right] * 12}, lamps(12))
    assert turned["verdict"][0].startswith("Retrieval harms `gen`")
    same = report({RAG: [right] * 12, CLOSED: [right] * 12}, lamps(12))
    assert same["verdict"][0].startswith("Retrieval does not surely change `gen`")
    assert any("fine-tuning helps was not measured" in said for said in same["verdict"])


def test_fine_tuning_and_both_are_told_apart() -> None:
    asked = cells(["gen"], ["rag", "closed-book", "fine-tuned", "fine-tuned+rag"], {"gen": "tuned"})
    assert [cell.asks for cell in asked] == ["gen", "gen", "tuned", "tuned"]
    right, wrong = answer("two years"), answer("a red kettle")
    rows = dict(zip(asked, ([right] * 12, [wrong] * 12, [wrong] * 12, [right] * 12), strict=True))
    said = report(rows, lamps(12))["verdict"]
    assert said[0].startswith("Retrieval helps")
    assert said[1].startswith("Fine-tuning does not surely change")
    assert said[2].startswith("Fine-tuning on top of retrieval does not surely change")
    assert said[3].startswith("Retrieval on top of fine-tuning helps")


def test_the_worst_come_first_and_wrong_answers_before_refusals() -> None:
    good, wrong = answer("two years", cites=("a#0",)), answer("a red kettle", cites=("c#0",))
    found = report({RAG: [good, REFUSAL, wrong, good]}, lamps(4))
    assert [one["id"] for one in found["worst"]] == ["q2", "q1", "q0", "q3"]
    assert [one["id"] for one in found["sample"]] == ["q0", "q2", "q3"]
    cited = found["sample"][0]["given"][0]["citations"][0]
    assert (cited["before"], cited["quote"], cited["after"]) == ("Some ", "text", "")


def test_a_document_cannot_write_into_the_page() -> None:
    nasty = answer("<script>alert(1)</script> two years", cites=("a#0",))
    found = report({RAG: [nasty], CLOSED: [REFUSAL]}, lamps(1))
    page = as_html(found)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "src=" not in page, "it needs nothing else"
    assert "<script" not in as_markdown(found)


def test_an_unanswered_oracle_cell_stands_as_it_is() -> None:
    """A condition that has no meaning for a question leaves it out, and pairs compare what both have."""
    oracle = Cell("gen", "oracle", "gen")
    one, two = lamps(2)
    answers = {("gen rag", "q0"): REFUSAL, ("gen rag", "q1"): REFUSAL, ("gen oracle", "q1"): answer("two years")}
    found = answer_report(QuestionSet("set", (one, two)), [RAG, oracle], answers)
    assert found["figures"]["gen oracle"]["all"]["questions"] == 1
    assert found["differences"]["F1"]["gen rag - gen oracle"]["of"] == 1
    json.dumps(found, allow_nan=False)
    assert oracle.question(MOON, 5) is None
    asked = oracle.question(LAMP, 1)
    assert asked is not None and asked.filters.doc_id == ("a", "b") and asked.k == 2
    closed = CLOSED.question(LAMP, 5)
    assert closed is not None and closed.mode == "none"


def test_a_journal_drops_a_line_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "answers.jsonl"
    journal = Journal(file)
    for number in range(3):
        journal.add("gen rag", f"q{number}", answer("two years"))
    journal.close()
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    again = Journal(file)
    assert (again.run, again.started, sorted(again.answers)) == (
        journal.run, journal.started, [("gen rag", "q0"), ("gen rag", "q1")],
    )  # fmt: skip
    again.add("gen rag", "q2", answer("two years"))
    again.close()
    assert file.read_bytes() == whole
    file.write_bytes(whole[:20])
    fresh = Journal(file)
    assert fresh.answers == {} and fresh.run != journal.run
    fresh.close()


def test_a_journal_goes_on_with_the_documents_that_it_began_with(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    begun = Journal(file, {"documents": 3, "passages": 7})
    begun.add("gen rag", "q0", answer("two years"))
    begun.close()
    for index in ({"documents": 3, "passages": 7}, {}):  # a service that does not tell is taken at its word
        again = Journal(file, index)
        assert len(again.answers) == 1
        again.close()
    whole = file.read_bytes()
    with pytest.raises(Conflict, match="changed since this evaluation began: documents 3, now 4") as caught:
        Journal(file, {"documents": 4, "passages": 7})
    assert "--fresh" in caught.value.remedy
    assert file.read_bytes() == whole


def test_questions_in_their_layouts(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    rows: list[dict[str, Any]] = [
        {"question": "Who?", "answers": ["me"], "relevant": ["d#1"], "lang": "en"},
        {"_id": "b", "text": "What?", "answers": ["it"], "relevant": {"d": 2, "e": 0}},
        {"id": "c", "text": "Why?", "answerable": False, "context_ids": ["d"]},
        {"id": "d", "text": "When?", "answers": []},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("d\tdoc\t1\n", "utf-8")
    found = read_questions(file, qrels).questions
    assert found[0] == AnswerQuestion("1", "Who?", "en", ("me",), ("d#1",))
    assert found[1].relevant == ("d",)
    assert (found[2].answerable, found[2].near) == (False, ("d",))
    assert (found[3].answers, found[3].relevant) == ((), ("doc",))
    assert [one.id for one in read_questions(file, qrels, limit=2).questions] == ["1", "c"], "evenly spread"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "Who?"}', "line 1: the question `1` has neither `answers` nor `relevant`"),
        ('{"text": "Who?", "answers": "me"}', "`answers` is no list of texts"),
        ('{"text": "Who?", "answers": [], "relevant": ["d"]}', "has `answers`"),
        ('{"answers": ["me"]}', "line 1: a question needs a `text`"),
        ('{"text": "Who?", "answers": ["me"], "relevant": {"d": "yes"}}', "no whole number"),
        ('{"text": "Who?", "answerable": "no"}', "true or false"),
        ("1\tWho?", "line 1: no JSON"),
        ("[]", "not a JSON object"),
        (
            '{"id": "1", "text": "A?", "answers": ["b"]}\n{"id": 1, "text": "A?", "answers": ["b"]}',
            "line 2: the id `1`",
        ),
    ],
)
def test_a_bad_question_is_told_by_line(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(line + "\n", "utf-8")
    with pytest.raises(BadInput, match=said):
        read_questions(file)


def test_conditions_that_cannot_be_are_told() -> None:
    with pytest.raises(BadInput, match="no condition `openbook`"):
        cells(["gen"], ["openbook"], {})
    with pytest.raises(BadInput, match="needs to know which generator"):
        cells(["gen"], ["fine-tuned"], {})
    with pytest.raises(BadInput, match="not among the generators"):
        cells(["gen"], ["fine-tuned"], {"other": "tuned"})
    with pytest.raises(BadInput, match="names none"):
        QuestionSet("set", (AnswerQuestion("1", "Who?", answers=("me",)),)).needs_gold()
