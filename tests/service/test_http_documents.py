"""/v1/documents: load, read, delete."""

import gzip
import json
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from citewell.engine import Engine
from citewell.records import LedgerEntry, Outcome
from tests.service.small import DOCUMENTS, assert_error

NDJSON = "application/x-ndjson"


def post_lines(http: FlaskClient, *lines: str | bytes, **headers: str) -> list[Outcome]:
    body = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    response = http.post("/v1/documents", data=body, content_type=NDJSON, headers=headers)
    assert response.status_code == 200, response.text
    return [Outcome.model_validate(outcome) for outcome in response.get_json()["outcomes"]]


def test_a_json_list_gives_an_outcome_each(http: FlaskClient) -> None:
    response = http.post("/v1/documents", json=DOCUMENTS)
    assert response.status_code == 200
    body = response.get_json()
    assert body["counts"] == {"added": 3, "changed": 0, "unchanged": 0, "failed": 0}
    assert [outcome["doc_id"] for outcome in body["outcomes"]] == [document["id"] for document in DOCUMENTS]


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/jsonl", "application/ndjson; charset=utf-8"])
def test_ndjson_gives_the_same(http: FlaskClient, kind: str) -> None:
    body = "\r\n".join(json.dumps(document) for document in DOCUMENTS) + "\n\n"
    response = http.post("/v1/documents", data=body, content_type=kind)
    assert response.get_json()["counts"]["added"] == 3


def test_outcomes_come_as_ndjson_when_asked_for(http: FlaskClient) -> None:
    response = http.post("/v1/documents", json=DOCUMENTS, headers={"Accept": NDJSON})
    assert response.mimetype == NDJSON
    assert [Outcome.from_json(line).status for line in response.text.splitlines()] == ["added"] * 3


def test_loading_again_is_unchanged_and_edits_are_changed(loaded: FlaskClient) -> None:
    edited = [DOCUMENTS[0], {**DOCUMENTS[1], "text": "Returns take forty days."}]
    counts = loaded.post("/v1/documents", json=edited).get_json()["counts"]
    assert counts == {"added": 0, "changed": 1, "unchanged": 1, "failed": 0}


def test_bad_items_fail_among_the_others(http: FlaskClient) -> None:
    outcomes = post_lines(
        http,
        '{"id": "good-1", "text": "A word."}',
        "{not json",
        '{"id": "no-text"}',
        '{"text": "no id"}',
        '["a list"]',
        b'{"id": "latin", "text": "caf\xe9"}',
        '{"id": "long", "text": "' + "x" * 2001 + '"}',
        '{"id": "half", "text": "\\ud800"}',
        '{"id": "\\ud800", "text": "a word"}',
        '{"id": "nan", "text": "a word", "metadata": {"x": NaN}}',
        '{"id": "wrong", "text": "a word", "metadata": [1]}',
        "[" * 10_000,
        '{"id": "line", "text": "' + "y" * 120_000 + '"}',
        "null",
        '{"_id": 7, "text": "A number as id."}',
    )
    assert [outcome.status for outcome in outcomes] == ["added", *["failed"] * 13, "added"]
    assert all(outcome.reason and outcome.remedy and outcome.code for outcome in outcomes[1:-1])
    ids = [outcome.doc_id for outcome in outcomes]
    assert ids[:5] == ["good-1", "line 2", "no-text", "line 4", "line 5"]
    assert outcomes[6].code == outcomes[12].code == "too_large"
    assert ids[-1] == "7"
    assert http.get("/v1/documents/7").status_code == 200


def test_a_document_without_id_takes_its_url(http: FlaskClient) -> None:
    post_lines(http, '{"url": "https://example.org/a//b?c=d", "text": "A page."}')
    response = http.get("/v1/documents/" + quote("https://example.org/a//b?c=d", safe=""))
    assert response.get_json()["document"]["url"] == "https://example.org/a//b?c=d"


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        ("", "application/json", 400, "invalid_document"),
        ("[", "application/json", 400, "invalid_document"),
        ("{}", "application/json", 400, "bad_input"),
        ("3", "application/json", 400, "bad_input"),
        ("[]", "application/json", 400, "bad_input"),
        ("[" * 100_000, "application/json", 400, "invalid_document"),
        ("", NDJSON, 400, "bad_input"),
        ("\n \n", NDJSON, 400, "bad_input"),
        ("[]", "text/plain", 415, "unsupported_media"),
        ("[]", "", 415, "unsupported_media"),
        ("a=b", "application/x-www-form-urlencoded", 415, "unsupported_media"),
        ("x" * 300_001, "application/json", 413, "too_large"),
    ],
)
def test_what_is_no_load_is_refused(http: FlaskClient, body: str, kind: str, status: int, code: str) -> None:
    assert_error(http.post("/v1/documents", data=body, content_type=kind), status, code)


def test_lines_have_a_limit_each_and_no_limit_together(http: FlaskClient) -> None:
    good = [json.dumps({"id": f"d{n}", "text": "word " * 300}) for n in range(250)]
    assert sum(map(len, good)) > 300_000, "more than `request_limit`"
    outcomes = post_lines(http, *good[:200], "x" * 300_001, *good[200:])
    assert [outcome.status for outcome in outcomes] == [*["added"] * 200, "failed", *["added"] * 50]
    assert (outcomes[200].doc_id, outcomes[200].code) == ("line 201", "too_large")


def test_a_compressed_body_is_told_apart(http: FlaskClient) -> None:
    outcomes = post_lines(http, gzip.compress(b'{"id": "a", "text": "b"}'))
    assert {outcome.status for outcome in outcomes} == {"failed"}


def test_more_documents_than_one_object_can_tell_of(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citewell.service.documents.MAX_DOCUMENTS", 2)
    assert_error(http.post("/v1/documents", json=DOCUMENTS), 413, "too_large")
    response = http.post(
        "/v1/documents", json=[{"id": f"d{n}", "text": "w"} for n in range(3)], headers={"Accept": NDJSON}
    )
    assert response.status_code == 200
    assert [json.loads(line)["doc_id"] for line in response.data.splitlines()] == ["d0", "d1", "d2"]


def test_an_index_that_goes_away_midway_is_told_in_the_last_line(http: FlaskClient, engine: Engine) -> None:
    body = "\n".join(json.dumps({"id": f"d{n}", "text": f"Number {n}."}) for n in range(300))
    response = http.post("/v1/documents", data=body, content_type=NDJSON, headers={"Accept": NDJSON}, buffered=False)
    lines = response.iter_encoded()
    first = json.loads(next(lines))
    assert first["status"] == "added"
    engine.library.index().close()
    rest = b"".join(lines).splitlines()
    response.close()
    assert json.loads(rest[-1])["error"]["code"] in ("index_unavailable", "internal")


# One document


@pytest.mark.parametrize(
    "doc_id",
    [
        "plain",
        "a/b/c.md",
        "/rooted",
        "ends/",
        "a//b",
        "https://example.org/x?y=z#part",
        "日本語/ガイド.md",
        "space and % sign",
        "quote\"'; DROP",
        "line\nbreak",
        "..",
        "a/../b",
        "+&=",
        "é" * 512,
    ],
)
def test_ids_of_every_kind_are_read_and_deleted(http: FlaskClient, doc_id: str) -> None:
    assert post_lines(http, json.dumps({"id": doc_id, "text": "Some words."}))[0].status == "added"
    path = "/v1/documents/" + quote(doc_id, safe="")
    entry = LedgerEntry.model_validate(http.get(path).get_json())
    assert entry.doc_id == doc_id
    assert entry.document is not None
    assert entry.document.text == "Some words."
    response = http.delete(path)
    assert response.status_code == 200
    assert response.get_json()["status"] == "deleted"
    receipt = response.get_json()["receipt"]
    assert receipt == {"passages_removed": 1, "passages_left": 0, "in_ledger": False, "answers_removed": 0}
    assert_error(http.get(path), 404, "unknown_document")
    assert_error(http.delete(path), 404, "unknown_document")


def test_slashes_need_no_escape(loaded: FlaskClient) -> None:
    assert loaded.get("/v1/documents/guides/warranty.md").get_json()["document"]["title"] == "Warranty"


def test_a_deleted_document_is_not_found_any_more(loaded: FlaskClient) -> None:
    question = {"question": "How long does the warranty of a lamp last?"}
    assert loaded.post("/v1/search", json=question).get_json()["hits"][0]["passage"]["doc_id"] == "guides/warranty.md"
    loaded.delete("/v1/documents/guides/warranty.md")
    hits = loaded.post("/v1/search", json=question).get_json()["hits"]
    assert "guides/warranty.md" not in {hit["passage"]["doc_id"] for hit in hits}
