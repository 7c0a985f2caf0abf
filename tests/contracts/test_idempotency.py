"""A request that comes again makes no second answer, on both columns and over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest
import redis

from citewell.client import Client
from citewell.errors import KeyReused, ServiceUnavailable
from citewell.records import Filters, Question, Terms
from citewell.service.app import create_app
from tests.service.small import assert_error
from tests.service.wsgi import exact_path
from tests.stacks import COLUMNS, Column, column


@pytest.fixture(params=COLUMNS)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Column]:
    url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
    with column(request.param, tmp_path, url) as made:
        yield made


def keyed(key: str, **more: Any) -> Terms:
    return Terms(idempotency_key=key, **more)


def test_the_same_request_gets_the_same_answer(stack: Column) -> None:
    stack.start_workers()
    first = stack.engine.submit(Question(text="say: once"), terms=keyed("k1"))
    assert stack.engine.answer(first.id, 30).answer == "once"
    again = stack.engine.submit(Question(text="say: once"), terms=keyed("k1"))
    assert (again.id, again.answer, again.attempt) == (first.id, "once", 1)
    assert len([event for event in stack.engine.events(first.id) if event.kind == "final"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"question": Question(text="say: else")},
        {"question": Question(text="say: once", k=7)},
        {"question": Question(text="say: once", filters=Filters(lang=("en",)))},
        {"question": Question(text="say: once"), "generator": "extractive"},
    ],
)
def test_another_request_with_the_key_is_refused(stack: Column, other: dict[str, Any]) -> None:
    first = stack.engine.submit(Question(text="say: once"), terms=keyed("k1"))
    with pytest.raises(KeyReused, match=first.id) as caught:
        stack.engine.submit(**other, terms=keyed("k1"))
    assert caught.value.remedy
    assert stack.store.get(first.id) == first


def test_keys_belong_to_their_caller(stack: Column) -> None:
    mine = stack.engine.submit(Question(text="say: mine"), terms=keyed("k1", caller="me"))
    yours = stack.engine.submit(Question(text="say: yours"), terms=keyed("k1", caller="you"))
    assert mine.id != yours.id
    assert stack.engine.submit(Question(text="say: mine"), terms=keyed("k1", caller="me")).id == mine.id


def test_without_a_key_every_request_is_its_own(stack: Column) -> None:
    assert stack.engine.submit(Question(text="say: a")).id != stack.engine.submit(Question(text="say: a")).id


def test_fifty_at_once_are_one_run(stack: Column) -> None:
    """Each comes with the others into retrieval, store and queue; one is created, queued and run."""
    start = Barrier(50)

    def ask(_: int) -> str:
        start.wait(30)
        return stack.engine.submit(Question(text="say: a|b; sleep: 0.1"), terms=keyed("k1")).id

    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(ask, range(50)))
    assert len(ids) == 1
    (answer_id,) = ids
    if stack.in_processes:
        assert stack.engine.queue.depth() == 1
    stack.start_workers(2)
    answer = stack.engine.answer(answer_id, 60)
    assert (answer.answer, answer.attempt) == ("ab", 1)
    kinds = [event.kind for event in stack.engine.events(answer_id)]
    assert (kinds.count("state"), kinds.count("final")) == (2, 1)


def test_of_two_requests_at_once_with_one_key_one_is_refused(stack: Column) -> None:
    for number in range(10):
        start = Barrier(2)

        def ask(text: str, start: Barrier = start, key: str = f"k{number}") -> str:
            start.wait(30)
            try:
                return stack.engine.submit(Question(text=text), terms=keyed(key)).question.text
            except KeyReused:
                return "refused"

        with ThreadPoolExecutor(2) as pool:
            told = sorted(pool.map(ask, ["say: a", "say: b"]))
        assert told[0] == "refused"
        assert told[1] in ("say: a", "say: b")


def test_a_key_lives_as_long_as_its_answer(tmp_path: Path, redis_db_url: str) -> None:
    with column("redis", tmp_path, redis_db_url) as stack:
        first = stack.engine.submit(Question(text="say: old"), terms=keyed("k1"))
        with redis.Redis.from_url(redis_db_url, decode_responses=True) as client:
            keys = set(client.scan_iter(f"*{{{first.id}}}"))
            assert {str(key).split(":")[1] for key in keys} == {"answer", "job", "events"}, "the key needs no other"
            client.delete(*keys)
        fresh = stack.engine.submit(Question(text="say: new"), terms=keyed("k1"))
        assert (fresh.id, fresh.question.text, fresh.state) == (first.id, "say: new", "queued")
    with column("sqlite", tmp_path, answer_ttl=1) as stack:
        first = stack.engine.submit(Question(text="say: old"), terms=keyed("k1"))
        with pytest.raises(KeyReused):
            stack.engine.submit(Question(text="say: new"), terms=keyed("k1"))
        time.sleep(1.1)
        fresh = stack.engine.submit(Question(text="say: new"), terms=keyed("k1"))
        assert (fresh.id, fresh.question.text) == (first.id, "say: new")


class TestHttp:
    @pytest.fixture
    def locked(self, tmp_path: Path) -> Iterator[Column]:
        with column("sqlite", tmp_path, api_key="s3cret") as made:
            yield made

    def test_the_header(self, stack: Column) -> None:
        http = create_app(stack.settings, stack.engine).test_client()
        body = {"question": "say: x"}
        first = http.post("/v1/answers", json=body, headers={"Idempotency-Key": "a-b"})
        again = http.post("/v1/answers", json=body, headers={"Idempotency-Key": "a-b"})
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.get_json()["id"] == again.get_json()["id"]
        refused = http.post("/v1/answers", json={"question": "say: y"}, headers={"Idempotency-Key": "a-b"})
        assert first.get_json()["id"] in assert_error(refused, 409, "key_reused")["message"]

    @pytest.mark.parametrize("key", ["", "a b", "x" * 256, "ü"])
    def test_what_is_no_key_is_refused(self, stack: Column, key: str) -> None:
        http = create_app(stack.settings, stack.engine).test_client()
        response = http.post("/v1/answers", json={"question": "say: x"}, headers={"Idempotency-Key": key})
        assert_error(response, 400, "bad_input")

    def test_the_api_key_is_the_scope_and_stays_secret(self, locked: Column) -> None:
        http = create_app(locked.settings, locked.engine).test_client()
        headers = {"Idempotency-Key": "k1", "Authorization": "Bearer s3cret"}
        answer_id = http.post("/v1/answers", json={"question": "say: x"}, headers=headers).get_json()["id"]
        assert answer_id != Terms(idempotency_key="k1").answer_id(), "nobody computes it without the API key"
        record = http.get(f"/v1/answers/{answer_id}", headers=headers).text
        assert "s3cret" not in record
        assert "k1" not in record

    def test_a_client_that_lost_the_response_asks_once(self, stack: Column) -> None:
        transport = Breaking(httpx.WSGITransport(exact_path(create_app(stack.settings, stack.engine))), times=2)
        with Client("http://localhost", transport=transport) as client:
            answer = client.submit(Question(text="say: x"))
        assert transport.posted == 3
        created = [event for event in stack.store.events(answer.id) if event.kind == "state"]
        assert len(created) == 1
        if stack.in_processes:
            assert stack.engine.queue.depth() == 1

    def test_a_client_gives_up_in_the_end(self, stack: Column) -> None:
        transport = Breaking(httpx.WSGITransport(exact_path(create_app(stack.settings, stack.engine))), times=9)
        with Client("http://localhost", transport=transport) as client, pytest.raises(ServiceUnavailable):
            client.submit(Question(text="say: x"))
        assert transport.posted == 3


class Breaking(httpx.BaseTransport):
    """A way to the service on which the first responses to posts are lost, after the service has done its work."""

    def __init__(self, way: httpx.BaseTransport, times: int) -> None:
        self._way = way
        self._times = times
        self.posted = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._way.handle_request(request)
        if request.method == "POST":
            self.posted += 1
            if self.posted <= self._times:
                response.close()
                raise httpx.ReadError("the connection was reset", request=request)
        return response
