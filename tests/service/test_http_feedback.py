"""Judging answers over HTTP and at the client, figures, and the judged set that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from citewell.client import Client
from citewell.engine import Engine
from citewell.errors import BadInput
from citewell.evaluate.collection import from_folder
from citewell.evaluate.exported import export
from citewell.feedback import figures
from citewell.keys import hash_of, new_key
from citewell.records import Answer, Feedback, Opinion, PassageMark, Question
from citewell.service.app import create_app
from citewell.train.marked import read_set
from tests.service.small import DOCUMENTS, assert_error

WARRANTY = "How long does the warranty of every lamp last?"


def ask(http: FlaskClient, question: str = WARRANTY, **more: Any) -> Answer:
    sent = http.post("/v1/answers", json={"question": question, "lang": "en"} | more)
    assert sent.status_code == 202, sent.text
    return Answer.model_validate(http.get(f"/v1/answers/{sent.get_json()['id']}?wait=30").get_json())


def rate(http: FlaskClient, answer_id: str, **body: Any) -> Any:
    return http.post(f"/v1/answers/{answer_id}/feedback", json=body)


def test_a_judgement_is_kept_and_replaced(loaded: FlaskClient, engine: Engine) -> None:
    answer = ask(loaded)
    first = rate(loaded, answer.id, rating=2, comment="too short", correct_passages=["guides/returns.md#0"])
    assert first.status_code == 201
    assert first.get_json() | {"given_at": 0} == {
        "answer_id": answer.id, "rating": 2, "comment": "too short",
        "correct_passages": ["guides/returns.md#0"], "given_at": 0,
    }  # fmt: skip
    assert rate(loaded, answer.id, rating=5).status_code == 200
    (kept,) = engine.feedback.given()
    assert (kept.rating, kept.comment, kept.generator) == (5, "", "extractive")
    assert kept.question == answer.question
    assert [span.doc_id for span in kept.cited] == [c.doc_id for c in answer.citations] != []
    assert kept.answer_ms == pytest.approx((answer.finished_at - answer.created_at) * 1000, abs=1)
    assert kept.tokens_read > 0 < kept.tokens_written


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({}, "rating"),
        ({"rating": 0}, "rating"),
        ({"rating": 6}, "rating"),
        ({"rating": "5"}, "rating"),
        ({"rating": True}, "rating"),
        ({"rating": 3, "stars": 3}, "stars"),
        ({"rating": 3, "comment": "x" * 10_001}, "comment"),
        ({"rating": 3, "correct_passages": ["guides/warranty.md#0"] * 51}, "correct_passages"),
        ({"rating": 3, "correct_passages": ["guides/warranty.md#7"]}, "guides/warranty.md#7"),
        ({"rating": 3, "correct_passages": ["nothing.md#0", "x"]}, "nothing.md#0"),
    ],
)
def test_what_is_no_judgement_is_refused_and_nothing_kept(
    loaded: FlaskClient, engine: Engine, body: dict[str, Any], what: str
) -> None:
    answer = ask(loaded)
    error = assert_error(rate(loaded, answer.id, **body), 400, "bad_input")
    assert what in error["message"]
    assert list(engine.feedback.given()) == []


def test_only_an_answer_that_is_done_is_judged(loaded: FlaskClient) -> None:
    assert_error(rate(loaded, "f" * 32, rating=3), 404, "unknown_answer")
    sent = loaded.post("/v1/answers", json={"question": "sleep: 30; say: x", "generator": "scripted"}).get_json()
    error = assert_error(rate(loaded, sent["id"], rating=3), 409, "conflict")
    assert "cannot be judged" in error["message"]
    loaded.delete(f"/v1/answers/{sent['id']}")
    assert "cancelled" in assert_error(rate(loaded, sent["id"], rating=3), 409, "conflict")["message"]


def test_the_client_says_the_same(loaded: FlaskClient, client: Client) -> None:
    answer = ask(loaded)
    told = client.rate(answer.id, Opinion(rating=4, comment="¡Sí!"))
    assert (told["rating"], told["comment"]) == (4, "¡Sí!")
    with pytest.raises(BadInput, match="no passage"):
        client.rate(answer.id, Opinion(rating=4, correct_passages=("a#0",)))


def test_callers_stand_beside_each_other_and_see_what_they_may(engine: Engine) -> None:
    keys = {name: new_key() for name in ("public", "staff", "watcher")}
    scopes = {"public": ["query"], "staff": ["query"], "watcher": ["admin"]}
    tables = {
        name: {"hash": hash_of(key.encode()), "scopes": scopes[name], "groups": ["staff"] if name == "staff" else []}
        for name, key in keys.items()
    }
    settings = engine.settings.model_validate(engine.settings.model_dump() | {"keys": tables})
    http = create_app(settings, engine).test_client()
    sent = {name: {"Authorization": f"Bearer {key}"} for name, key in keys.items()}
    list(engine.put([]))
    documents = [document | {"groups": ["staff"]} for document in DOCUMENTS[:1]] + DOCUMENTS[1:]
    loader = create_app(engine.settings, engine).test_client()
    assert loader.post("/v1/documents", json=documents).status_code == 200

    def asked(name: str) -> str:
        found = http.post("/v1/answers", json={"question": WARRANTY, "lang": "en"}, headers=sent[name]).get_json()["id"]
        http.get(f"/v1/answers/{found}?wait=30", headers=sent[name])
        return str(found)

    secret, open_ = asked("staff"), asked("public")
    path = f"/v1/answers/{secret}/feedback"
    assert http.post(path, json={"rating": 5}, headers=sent["staff"]).status_code == 201
    assert_error(http.post(path, json={"rating": 1}, headers=sent["public"]), 404, "unknown_answer")
    named = {"rating": 1, "correct_passages": ["guides/warranty.md#0"]}
    path = f"/v1/answers/{open_}/feedback"
    assert_error(http.post(path, json=named, headers=sent["public"]), 400, "bad_input")
    assert http.post(path, json={"rating": 1}, headers=sent["public"]).status_code == 201
    assert http.post(path, json=named, headers=sent["staff"]).status_code == 201
    assert len(list(engine.feedback.given())) == 3
    assert_error(http.get("/v1/feedback", headers=sent["staff"]), 403, "forbidden")
    (row,) = http.get("/v1/feedback?by=all", headers=sent["watcher"]).get_json()["figures"]
    assert (row["judged"], row["rating"], row["good"]) == (3, 2.33, 0.333)


def feedback(generator: str, at: float, rating: int, ms: float = 100.0) -> Feedback:
    question = Question(text="?", lang="en")
    return Feedback(
        answer_id="a", rating=rating, question=question, generator=generator, asked_at=at, answer_ms=ms, tokens_read=10,
        tokens_written=4,
    )  # fmt: skip


def test_figures_by_generator_and_time() -> None:
    day, monday = 86_400.0, 4 * 86_400.0  # 5 January 1970 was a Monday
    given = [
        feedback("b", monday + 6.9 * day, 1), feedback("a", monday, 5, 10), feedback("a", monday + 10, 4, 30),
        feedback("a", monday + 11, 1, 20), feedback("a", monday + 7 * day, 3), feedback("a", monday + 40 * day, 2),
    ]  # fmt: skip
    by_day = figures(given)
    assert [(row.generator, row.start, row.judged) for row in by_day] == [
        ("a", "1970-01-05", 3), ("a", "1970-01-12", 1), ("a", "1970-02-14", 1), ("b", "1970-01-11", 1),
    ]  # fmt: skip
    first = by_day[0]
    assert (first.rating, first.good, first.p50_ms, first.p95_ms) == (3.33, 0.667, 20.0, 30.0)
    assert (first.tokens_read, first.tokens_written, first.abstained) == (10, 4, 0)
    assert [(row.start, row.judged) for row in figures(given, "week")][-1] == ("1970-01-05", 1)
    assert [(row.start, row.judged) for row in figures(given, "month")] == [
        ("1970-01-01", 4), ("1970-02-01", 1), ("1970-01-01", 1),
    ]  # fmt: skip
    assert [(row.start, row.judged) for row in figures(given, "all")] == [("", 5), ("", 1)]


@pytest.mark.parametrize("query", ["by=year", "days=0", "days=-1", "days=x", "days=nan"])
def test_figures_of_no_time_are_refused(http: FlaskClient, query: str) -> None:
    assert_error(http.get(f"/v1/feedback?{query}"), 400, "bad_input")


def test_feedback_becomes_a_set_that_evaluation_and_training_read(
    loaded: FlaskClient, engine: Engine, tmp_path: Path
) -> None:
    good = ask(loaded)
    rate(loaded, good.id, rating=5)
    again = ask(loaded, f" {WARRANTY.replace(' ', '  ')}")
    rate(loaded, again.id, rating=1)  # the same question: the good word stands
    named = ask(loaded, "May I bring a kettle back?")
    rate(loaded, named.id, rating=1, correct_passages=["guides/returns.md#0"])
    refused = ask(loaded, "Quién fundó Roma en Italia?", lang="es")
    assert refused.abstained
    rate(loaded, refused.id, rating=5)
    bad = ask(loaded, "How long does a kettle last?")
    rate(loaded, bad.id, rating=1)
    found = export(engine.feedback.given(), engine.document, tmp_path / "set")
    assert (found.judged, found.unanswerable) == (2, 1)
    assert found.left_out == {"nobody rated its answer well or named a passage": 1}
    judged = {q.text: q.relevant for q in from_folder(tmp_path / "set").questions}
    assert judged[WARRANTY] == {c.doc_id: 1 for c in good.citations}
    assert judged["May I bring a kettle back?"] == {"guides/returns.md": 1}
    marked = {q.text: q for q in read_set(tmp_path / "set").questions}
    assert marked[WARRANTY].answers == tuple(dict.fromkeys(c.quote for c in good.citations))
    assert "Quién fundó Roma en Italia?" not in marked, "nothing was found that could be a passage of it"
    rows = [json.loads(line) for line in (tmp_path / "set" / "queries.jsonl").read_text("utf-8").splitlines()]
    assert [row["text"] for row in rows if row.get("answerable") is False] == ["Quién fundó Roma en Italia?"]
    changed = [{"id": c.doc_id, "title": "", "text": "Another text altogether."} for c in good.citations]
    assert loaded.post("/v1/documents", json=changed).status_code == 200
    assert loaded.delete("/v1/documents/guides/returns.md").status_code == 200
    later = export(engine.feedback.given(), engine.document, tmp_path / "set")
    assert later.left_out["its documents are gone"] == 1
    rows = [json.loads(line) for line in (tmp_path / "set" / "queries.jsonl").read_text("utf-8").splitlines()]
    assert [row["answers"] for row in rows if row["text"] == WARRANTY] == [[]], "what reads differently is no answer"


def test_an_export_never_takes_another_folders_place(loaded: FlaskClient, engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no feedback"):
        export(engine.feedback.given(), engine.document, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    rate(loaded, ask(loaded).id, rating=5)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "queries.jsonl").write_text("mine")
    with pytest.raises(BadInput, match="something else"):
        export(engine.feedback.given(), engine.document, tmp_path / "mine")
    assert (tmp_path / "mine" / "queries.jsonl").read_text() == "mine"


def test_a_refusal_that_was_right_is_a_question_without_an_answer(
    loaded: FlaskClient, engine: Engine, tmp_path: Path
) -> None:
    question = Question(text="Who made the lamp?", lang="en")
    marks = (PassageMark(id="guides/warranty.md#0", hash="x"), PassageMark(id="gone.md#0-2", hash="y"))
    kept = Feedback(answer_id="a", rating=4, question=question, generator="g", abstained=True, evidence=marks)
    assert export([kept], engine.document, tmp_path / "set").unanswerable == 1
    (marked,) = read_set(tmp_path / "set").questions
    assert (marked.text, marked.spans, marked.passages) == (question.text, (), ("guides/warranty.md",))
