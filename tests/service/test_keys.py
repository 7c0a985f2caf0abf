"""Keys with scopes and groups, on both stacks: what a caller may do, and that it sees nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from citewell.answers.redis import RedisAnswers
from citewell.config import Settings, load_settings
from citewell.engine import Engine, Models
from citewell.errors import ConfigError
from citewell.generate.extractive import ExtractiveGenerator
from citewell.jobs import CeleryQueue
from citewell.keys import hash_of, new_key
from citewell.quoting import Quoting
from citewell.records import JobMessage
from citewell.service.app import create_app
from citewell.service.auth import SCOPES, scope_of
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.service.small import assert_error, small_engine

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "all.md", "title": "Leave", "text": "Everyone has thirty days of leave a year."},
    {"id": "staff.md", "title": "Leave", "text": "Staff carry over nine days of leave.", "groups": ["staff"]},
    {"id": "hr.md", "title": "Leave", "text": "The budget of leave days is secret.", "groups": ["hr", "board"]},
]
QUESTION = {"question": "How many days of leave?"}
STACKS = ("embedded", "served")
NAMES = ("public", "staff", "hr", "loader", "all", "watcher")
KEYS = {name: new_key() for name in NAMES}


def _table(name: str, **more: Any) -> dict[str, Any]:
    return {"hash": hash_of(KEYS[name].encode()), **more}


TABLES = {
    "public": _table("public"),
    "staff": _table("staff", groups=["staff", "it"]),
    "hr": _table("hr", scopes=["query"], groups=["hr"]),
    "loader": _table("loader", scopes=["ingest"]),
    "all": _table("all", groups=["*"]),
    "watcher": _table("watcher", scopes=["admin"]),
}


class Site:
    """A service with those keys and documents; answers are written when they are asked for."""

    def __init__(self, settings: Settings, engine: Engine, worker: Engine | None) -> None:
        self.engine = engine
        self.app: Flask = create_app(settings, engine)
        self._http = self.app.test_client()
        self._worker = worker

    def call(self, key: str, method: str, path: str, **more: Any) -> TestResponse:
        headers = more.pop("headers", {}) | {"Authorization": f"Bearer {KEYS.get(key, key)}"}
        return self._http.open(path, method=method, headers=headers, **more)

    def found(self, key: str) -> set[str]:
        response = self.call(key, "POST", "/v1/search", json=QUESTION)
        assert response.status_code == 200, response.text
        assert all(set(hit["legs"]) <= {"bm25", "dense"} for hit in response.get_json()["hits"])
        return {hit["passage"]["doc_id"] for hit in response.get_json()["hits"]}

    def ask(self, key: str, **more: Any) -> dict[str, Any]:
        """The final record, as the asker sees it."""
        return self.written(key, self.call(key, "POST", "/v1/answers", json=QUESTION | more))

    def written(self, key: str, response: TestResponse) -> dict[str, Any]:
        assert response.status_code == 202, response.text
        answer_id = response.get_json()["id"]
        if self._worker is not None:
            self._worker.run(JobMessage(answer_id=answer_id))
        record = self.call(key, "GET", f"/v1/answers/{answer_id}?wait=30").get_json()
        assert record["state"] == "done", record
        return dict(record)


@pytest.fixture(params=STACKS)
def site(request: pytest.FixtureRequest, tmp_path: Path, index_name: str) -> Iterator[Site]:
    given: dict[str, Any] = {
        "data_dir": tmp_path,
        "keys": TABLES,
        "api_key": "one for all",
        "tuned": {"en": {"fusion": "minmax"}},
    }
    with ExitStack() as stack:
        if request.param == "embedded":
            settings = load_settings(**given)
            made = Site(settings, stack.enter_context(small_engine(settings)), None)
        else:
            settings = load_settings(
                **given,
                stack="served",
                index_name=index_name,
                elasticsearch_url=request.getfixturevalue("elasticsearch_url"),
                redis_url=request.getfixturevalue("redis_db_url"),
            )
            api, worker = (stack.enter_context(_served(settings, role)) for role in ("api", "worker"))
            made = Site(settings, api, worker)
        loaded = made.call("loader", "POST", "/v1/documents", json=DOCUMENTS)
        assert loaded.get_json()["counts"]["added"] == len(DOCUMENTS)
        yield made


def _served(settings: Settings, role: Any) -> Engine:
    embedder = HashingEmbedder()
    store = RedisAnswers(settings)
    return Engine(
        settings,
        role,
        models=Models(embedder, {"extractive": ExtractiveGenerator(embedder)}),
        library=library(settings, embedder, quoting=Quoting(store)),
        store=store,
        make_queue=lambda _: CeleryQueue(settings, ("extractive",)),
    )


# Groups


def test_a_search_finds_what_the_key_may_see(site: Site) -> None:
    seen = {"public": {"all.md"}, "staff": {"all.md", "staff.md"}, "hr": {"all.md", "hr.md"}}
    everything = {document["id"] for document in DOCUMENTS}
    for key, expected in (seen | {"all": everything, "one for all": everything}).items():
        assert site.found(key) == expected, key


def test_a_document_of_others_is_as_unknown_as_one_that_never_was(site: Site) -> None:
    assert site.call("hr", "GET", "/v1/documents/hr.md").get_json()["document"]["groups"] == ["board", "hr"]
    assert site.call("one for all", "GET", "/v1/documents/hr.md").status_code == 200
    for key in ("public", "staff"):
        hidden = site.call(key, "GET", "/v1/documents/hr.md")
        assert_error(hidden, 404, "unknown_document")
        assert hidden.text == site.call(key, "GET", "/v1/documents/no.md").text.replace("no.md", "hr.md")


def test_an_answer_is_there_for_those_who_may_see_its_evidence(site: Site) -> None:
    record = site.ask("staff")
    assert {hit["passage"]["doc_id"] for hit in record["evidence"]["hits"]} == {"all.md", "staff.md"}
    assert "hr.md" not in json.dumps(record)
    for key in ("staff", "all", "one for all"):
        assert site.call(key, "GET", f"/v1/answers/{record['id']}").get_json() == record, key
        assert site.call(key, "GET", f"/v1/answers/{record['id']}/events").text.count("event: final") == 1
    before = [event.kind for event in site.engine.events(record["id"])]
    for method, path in _routes_of_an_answer(site.app):
        for key in ("public", "hr"):
            hidden = site.call(key, method, path.replace("<answer_id>", record["id"]), json={})
            never = site.call(key, method, path.replace("<answer_id>", "f" * 32), json={})
            assert hidden.status_code >= 400, (method, path)
            assert (hidden.status_code, hidden.text) == (never.status_code, never.text.replace("f" * 32, record["id"]))
            assert record["answer"] not in hidden.text
    assert site.call("hr", "GET", f"/v1/answers/{record['id']}").status_code == 404
    assert [event.kind for event in site.engine.events(record["id"])] == before


def _routes_of_an_answer(app: Flask) -> list[tuple[str, str]]:
    found = [
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if "<answer_id>" in rule.rule
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    assert len(found) >= 4
    return found


def test_nobody_waits_for_an_answer_of_others(site: Site) -> None:
    queued = site.call("staff", "POST", "/v1/answers", json=QUESTION).get_json()["id"]
    started = time.monotonic()
    assert_error(site.call("public", "GET", f"/v1/answers/{queued}?wait=40"), 404, "unknown_answer")
    assert_error(site.call("public", "DELETE", f"/v1/answers/{queued}"), 404, "unknown_answer")
    assert time.monotonic() - started < 30
    assert site.engine.answer(queued).state != "cancelled"


def test_an_answer_of_what_everyone_may_see_is_there_for_all(site: Site) -> None:
    record = site.ask("staff", filters={"doc_id": "all.md"})
    for key in ("public", "hr"):
        assert site.call(key, "GET", f"/v1/answers/{record['id']}").get_json()["answer"] == record["answer"]


def test_a_replay_searches_as_its_caller(site: Site) -> None:
    public = site.ask("public")
    again = site.written("staff", site.call("staff", "POST", f"/v1/answers/{public['id']}/replay", json={}))
    assert {hit["passage"]["doc_id"] for hit in again["evidence"]["hits"]} == {"all.md", "staff.md"}
    operator = site.call("one for all", "POST", f"/v1/answers/{public['id']}/replay", json={})
    same = site.written("one for all", operator)
    assert same["question"]["groups"] == []
    assert {hit["passage"]["doc_id"] for hit in same["evidence"]["hits"]} == {"all.md"}


@pytest.mark.parametrize("mode", ["exact", "semantic"])
def test_a_cached_answer_stays_in_its_groups(site: Site, mode: str) -> None:
    first = site.ask("staff", cache=mode)
    assert site.ask("staff", cache=mode)["cached_from"] == first["id"]
    for key in ("public", "hr", "all"):
        other = site.ask(key, cache=mode)
        assert other["cached_from"] == "", key
        assert {hit["passage"]["doc_id"] for hit in other["evidence"]["hits"]} == site.found(key)
    # Also where all of them have the same evidence.
    only = {"filters": {"doc_id": "all.md"}, "cache": mode}
    shared = site.ask("staff", **only)
    assert [site.ask(key, **only)["cached_from"] for key in ("public", "hr", "staff")] == ["", "", shared["id"]]


def test_an_idempotency_key_belongs_to_its_api_key(site: Site) -> None:
    headers = {"Idempotency-Key": "same"}
    ids = [
        site.call(key, "POST", "/v1/answers", json=QUESTION, headers=headers).get_json()["id"]
        for key in ("staff", "hr", "public", "staff")
    ]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3


# Scopes


def test_a_key_does_what_it_is_for(site: Site) -> None:
    wanted = [
        ("query", "POST", "/v1/search", QUESTION),
        ("query", "POST", "/v1/answers", QUESTION),
        ("query", "GET", "/v1/documents/all.md", None),
        ("query", "GET", "/v1/generators", None),
        ("ingest", "POST", "/v1/documents", DOCUMENTS),
        ("ingest", "DELETE", "/v1/documents/all.md", None),
        ("admin", "GET", "/v1/info", None),
    ]
    for scope, method, path, body in wanted:
        for key in ("public", "loader", "watcher"):
            response = site.call(key, method, path, json=body)
            if scope in TABLES[key].get("scopes", ["query"]):
                assert response.status_code in (200, 202), (key, path, response.text)
            else:
                error = assert_error(response, 403, "forbidden")
                assert f"`{scope}`" in error["message"]
                assert f"`{key}`" in error["message"]
        assert_error(site.call("cw_wrong", method, path, json=body), 401, "unauthorized")
    assert site.call("one for all", "GET", "/v1/info").status_code == 200
    assert site.call("public", "GET", "/nope").status_code == 404


def test_readiness_tells_reasons_to_admins_alone(site: Site) -> None:
    assert site.call("public", "GET", "/readyz").get_json()["backends"]["index"] == {"ok": True}
    assert "documents" in site.call("watcher", "GET", "/readyz").get_json()["backends"]["index"]


def test_every_route_says_what_a_key_must_be_for(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    app = create_app(settings, small_engine(settings))
    for rule in app.url_map.iter_rules():
        named = rule.endpoint in SCOPES or rule.endpoint.partition(".")[0] in SCOPES
        assert named or rule.rule in ("/healthz", "/readyz"), f"{rule.endpoint} stands not in SCOPES of service/auth.py"
    assert scope_of("a.new.one") == "admin", "what is forgotten stays shut"


# The table


@pytest.mark.parametrize(
    "table",
    [
        {"hash": "cw_the_key_itself"},
        {"hash": hash_of(b"x"), "scopes": ["all"]},
        {"hash": hash_of(b"x"), "scopes": []},
        {"hash": hash_of(b"x"), "groups": [""]},
        {"hash": hash_of(b"x"), "group": ["a"]},
        {},
    ],
)
def test_a_table_that_is_none_stops_the_start(tmp_path: Path, table: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"keys\.shop"):
        load_settings(data_dir=tmp_path, keys={"shop": table})


def test_two_keys_of_one_hash_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one hash"):
        load_settings(data_dir=tmp_path, keys={"a": _table("staff"), "b": _table("staff")})


def test_groups_have_no_order() -> None:
    for given in (["b", "a", "b"], ["a", "b"]):
        settings = load_settings(keys={"a": {"hash": hash_of(b"x"), "groups": given}})
        assert settings.keys["a"].visible_groups() == ("a", "b")
