"""Follow-up questions over HTTP and the client."""

from __future__ import annotations

from flask.testing import FlaskClient

from citewell.client import Client
from citewell.records import Answer, Question, Turn
from tests.service.small import assert_error

BEFORE = [{"question": "How long does the warranty of a lamp last?", "answer": "Two years [1]."}]


def test_a_follow_up_is_found_by_its_conversation_and_the_record_shows_it(loaded: FlaskClient) -> None:
    body = {"question": "Why?", "lang": "en", "conversation": BEFORE}
    answer_id = loaded.post("/v1/answers", json=body).get_json()["id"]
    answer = Answer.from_json(loaded.get(f"/v1/answers/{answer_id}?wait=20").data)
    assert answer.question.text == "Why?"
    assert answer.question.rewriting is not None
    assert answer.question.standalone == "How long does the warranty of a lamp last? Why?" == answer.evidence.asked
    assert answer.evidence.hits[0].passage.doc_id == "guides/warranty.md"
    assert [turn.answer for turn in answer.question.conversation] == [""]


def test_a_search_takes_a_conversation_and_says_what_it_looked_for(loaded: FlaskClient) -> None:
    found = loaded.post("/v1/search", json={"question": "Why?", "lang": "en", "conversation": BEFORE}).get_json()
    assert found["asked"] == "How long does the warranty of a lamp last? Why?"
    assert loaded.post("/v1/search", json={"question": "lamp"}).get_json()["asked"] == ""


def test_a_conversation_of_the_wrong_shape_is_refused_by_name(loaded: FlaskClient) -> None:
    for wrong, named in (([{"answer": "x"}], "question"), ([{"question": "x", "who": "y"}], "who"), ([{}] * 101, "")):
        response = loaded.post("/v1/answers", json={"question": "Why?", "conversation": wrong})
        assert_error(response, 400, "bad_input")
        assert "conversation" in response.text and named in response.text


def test_the_client_sends_the_conversation(client: Client, loaded: FlaskClient) -> None:
    turns = (Turn(question=BEFORE[0]["question"]),)
    answer = client.ask(Question(text="Why?", lang="en", conversation=turns), wait_s=20)
    assert answer.question.standalone == "How long does the warranty of a lamp last? Why?"
