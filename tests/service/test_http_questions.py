"""/v1/search, and every wrong way to ask, which /v1/answers shares."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from citewell.records import Answer, Evidence
from tests.service.small import assert_error

ROUTES = ("/v1/search", "/v1/answers")


def test_search_brings_passages_with_both_legs(loaded: FlaskClient) -> None:
    response = loaded.post("/v1/search", json={"question": "How long does the warranty of a lamp last?", "k": 2})
    assert response.status_code == 200
    evidence = Evidence.from_json(response.data)
    assert len(evidence.hits) == 2
    assert evidence.hits[0].passage.doc_id == "guides/warranty.md"
    assert set(evidence.hits[0].legs) == {"bm25", "dense"}
    assert evidence.fusion["method"] == "minmax"


@pytest.mark.parametrize("mode", ["bm25", "dense"])
def test_one_leg_alone(loaded: FlaskClient, mode: str) -> None:
    evidence = Evidence.from_json(loaded.post("/v1/search", json={"question": "warranty lamp", "mode": mode}).data)
    assert evidence.mode == mode
    assert {leg for hit in evidence.hits for leg in hit.legs} == {mode}


def test_mode_none_searches_nothing_and_the_generator_still_answers(loaded: FlaskClient) -> None:
    body = {"question": "say: The warranty lasts two years.", "mode": "none", "generator": "scripted", "lang": "en"}
    assert loaded.post("/v1/search", json={"question": "warranty lamp", "mode": "none"}).get_json()["hits"] == []
    answer_id = loaded.post("/v1/answers", json=body).get_json()["id"]
    answer = Answer.from_json(loaded.get(f"/v1/answers/{answer_id}?wait=20").data)
    assert (answer.state, answer.answer) == ("done", "The warranty lasts two years.")
    assert answer.evidence.hits == () and answer.citations == ()
    assert [one.supported for one in answer.sentences] == [False]


def test_filters_narrow_the_search(loaded: FlaskClient) -> None:
    body = {"question": "garantía warranty", "filters": {"lang": "es"}}
    evidence = Evidence.from_json(loaded.post("/v1/search", json=body).data)
    assert [hit.passage.doc_id for hit in evidence.hits] == ["guides/garantia.md"]


def test_search_on_an_empty_index_finds_nothing(http: FlaskClient) -> None:
    assert http.post("/v1/search", json={"question": "anything"}).get_json()["hits"] == []


BAD_BODIES: list[tuple[Any, str, str]] = [
    ({}, "bad_input", "question"),
    ({"question": ""}, "invalid_question", "empty"),
    ({"question": " \n "}, "invalid_question", "empty"),
    ({"question": "?!"}, "invalid_question", "empty"),
    ({"question": "x" * 301}, "invalid_question", "301"),
    ({"question": 3}, "bad_input", "`question`"),
    ({"question": None}, "bad_input", "`question`"),
    ({"question": ["x"]}, "bad_input", "`question`"),
    ({"question": "x", "k": "5"}, "bad_input", "`k`"),
    ({"question": "x", "k": 0}, "bad_input", "`k`"),
    ({"question": "x", "k": 1001}, "bad_input", "`k`"),
    ({"question": "x", "k": 1.5}, "bad_input", "`k`"),
    ({"question": "x", "k": True}, "bad_input", "`k`"),
    ({"question": "x", "mode": "magic"}, "bad_input", "'hybrid', 'bm25', 'dense' or 'none'"),
    ({"question": "x", "mode": 1}, "bad_input", "`mode`"),
    ({"question": "x", "lang": 1}, "bad_input", "`lang`"),
    ({"question": "x", "filters": []}, "bad_input", "`filters`"),
    ({"question": "x", "filters": {"colour": "red"}}, "invalid_filter", "`colour`"),
    ({"question": "x", "filters": {"lang": {"a": 1}}}, "invalid_filter", "`lang`"),
    ({"question": "x", "filters": {"lang": 1}}, "invalid_filter", "`lang`"),
    ({"question": "x", "filters": {"lang": []}}, "invalid_filter", "`lang`"),
    ({"question": "x", "topk": 5}, "bad_input", "`topk` is no field"),
    ({"question": "x", "groups": ["all"]}, "bad_input", "`groups` is no field"),
    ([], "bad_input", "object"),
    ("question", "bad_input", "object"),
    (None, "bad_input", "object"),
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("body", "code", "word"), BAD_BODIES)
def test_bad_bodies_are_named(http: FlaskClient, route: str, body: Any, code: str, word: str) -> None:
    response = http.post(route, data=json.dumps(body), content_type="application/json")
    assert word in assert_error(response, 400, code)["message"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (b"", "application/json", 400, "bad_input"),
        (b"{", "application/json", 400, "bad_input"),
        (b"{'question': 'x'}", "application/json", 400, "bad_input"),
        (b'{"question": "caf\xe9"}', "application/json", 400, "bad_input"),
        (b'{"question": "\\ud800 x"}', "application/json", 400, "bad_input"),
        (b'{"question": "x", "filters": {"metadata.a": NaN}}', "application/json", 400, "invalid_filter"),
        (b'{"filters":' * 10_000, "application/json", 400, "bad_input"),
        (b'{"question": "x"}', "text/plain", 415, "unsupported_media"),
        (b'{"question": "x"}', "", 415, "unsupported_media"),
        (b"question=x", "application/x-www-form-urlencoded", 415, "unsupported_media"),
        (b" " * 300_001, "application/json", 413, "too_large"),
    ],
)
def test_bodies_that_are_no_json(http: FlaskClient, route: str, data: bytes, kind: str, status: int, code: str) -> None:
    assert_error(http.post(route, data=data, content_type=kind), status, code)


def test_a_refused_question_is_not_told_back(http: FlaskClient) -> None:
    secret = {"question": ["my secret question"]}
    assert "secret" not in http.post("/v1/search", json=secret).text


def test_unknown_generators_name_those_there_are(http: FlaskClient) -> None:
    response = http.post("/v1/answers", json={"question": "x y", "generator": "oracle"})
    assert "extractive" in assert_error(response, 404, "unknown_generator")["remedy"]
    assert_error(http.post("/v1/search", json={"question": "x", "generator": "extractive"}), 400, "bad_input")


@pytest.mark.parametrize("text", ["nul \x00 byte", "emoji 🧭 flag 🇪🇸", "العربية", "a' OR '1'='1", '* " ( : ~ ^ AND OR'])
def test_odd_questions_are_only_text(loaded: FlaskClient, text: str) -> None:
    assert loaded.post("/v1/search", json={"question": text}).status_code == 200
