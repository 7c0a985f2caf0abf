"""Deletes over HTTP, on both indices: no leg, cache or ledger has the document any more, and the receipt says so."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from citewell.config import Settings, load_settings
from citewell.embed.cache import CachedEmbedder
from citewell.service.app import create_app
from tests.hashing import HashingEmbedder
from tests.service.small import assert_error, small_engine

GONE = "\n\n".join(f"The lighthouse of bay {n} is painted red and white, and its keeper drinks tea." for n in range(60))
MODES = ("bm25", "dense", "hybrid")


@pytest.fixture(params=["embedded", "served"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    named: dict[str, Any] = {"data_dir": tmp_path, "stack": request.param}
    if request.param == "served":
        named |= {name: request.getfixturevalue(name) for name in ("elasticsearch_url", "index_name")}
    return load_settings(**named)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "vectors.sqlite"


@pytest.fixture
def http(settings: Settings, cache: Path) -> Iterator[FlaskClient]:
    with small_engine(settings, CachedEmbedder(HashingEmbedder(), file=cache, questions=100)) as engine:
        yield create_app(settings, engine).test_client()


def found(http: FlaskClient, mode: str) -> set[str]:
    body = {"question": "Who drinks tea in the lighthouse?", "mode": mode, "k": 100, "lang": "en"}
    response = http.post("/v1/search", json=body)
    assert response.status_code == 200, response.text
    return {hit["passage"]["doc_id"] for hit in response.get_json()["hits"]}


def vectors(file: Path) -> int:
    with sqlite3.connect(file) as database:
        return int(database.execute("SELECT count(*) FROM vectors").fetchone()[0])


def test_a_deleted_document_is_nowhere_and_its_receipt_says_so(http: FlaskClient, cache: Path) -> None:
    documents = [{"id": "gone", "text": GONE}, {"id": "kept", "text": "The tea of the lighthouse is cold."}]
    loaded = http.post("/v1/documents", json=documents).get_json()
    passages = {outcome["doc_id"]: outcome["passages"] for outcome in loaded["outcomes"]}
    assert passages["gone"] > 1
    assert passages["kept"] == 1
    assert [found(http, mode) for mode in MODES] == [{"gone", "kept"}] * 3
    assert vectors(cache) == passages["gone"] + 1
    answer = http.delete("/v1/documents/gone")
    assert answer.status_code == 200
    assert answer.get_json()["receipt"] == {
        "passages_removed": passages["gone"],
        "passages_left": 0,
        "in_ledger": False,
        "vectors_kept": 0,
        "answers_removed": 0,
    }
    assert [found(http, mode) for mode in MODES] == [{"kept"}] * 3, "also for a question whose vector is cached"
    assert vectors(cache) == 1
    assert_error(http.get("/v1/documents/gone"), 404, "unknown_document")
    assert_error(http.delete("/v1/documents/gone"), 404, "unknown_document")
