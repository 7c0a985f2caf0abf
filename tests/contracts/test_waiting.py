"""Where a question stands in the line, how long it will wait, and that none is taken in that would wait too long."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from citewell import checkup
from citewell.answers.redis import RedisAnswers
from citewell.config import load_settings
from citewell.errors import Overloaded, StoreUnavailable
from citewell.ports import Answers, Line
from citewell.records import Answer, AnswerState, Draft, Evidence, Failure, Job, Priority, Question, Terms, Waiting
from citewell.service.app import create_app
from citewell.waiting import ask_again_in, estimate
from tests.contracts.test_answers import Clock, granted
from tests.service.small import assert_error
from tests.stacks import COLUMNS, Column, column, timed_store


class TestEstimate:
    @pytest.mark.parametrize(
        ("line", "slots", "expected"),
        [
            (Line(0, 0, 2.0), 2, Waiting(position=1, starts_in_s=0.0, done_in_s=2.0)),
            (Line(0, 1, 2.0), 2, Waiting(position=1, starts_in_s=0.0, done_in_s=2.0)),
            (Line(0, 2, 2.0), 2, Waiting(position=1, starts_in_s=1.0, done_in_s=3.0)),
            (Line(9, 2, 2.0), 2, Waiting(position=10, starts_in_s=10.0, done_in_s=12.0)),
            (Line(9, 2, 0.0), 2, Waiting(position=10)),
            (Line(9, 0, 2.0), 0, Waiting(position=10)),
        ],
    )
    def test_from_a_line(self, line: Line, slots: int, expected: Waiting) -> None:
        assert estimate(line, slots) == expected

    def test_when_to_ask_again(self) -> None:
        assert ask_again_in(None) == ask_again_in(Waiting(position=3)) == 1
        assert ask_again_in(Waiting(position=1, starts_in_s=0, done_in_s=2.1)) == 3
        assert ask_again_in(Waiting(position=1, starts_in_s=900, done_in_s=902)) == 30


class TestLines:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture(params=COLUMNS)
    def store(self, request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Answers]:
        url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
        with timed_store(request.param, tmp_path, url, clock) as store:
            yield store

    def ask(
        self, store: Answers, clock: Clock, answer_id: str, priority: Priority = "interactive", **more: Any
    ) -> None:
        clock.now += 1
        evidence = Evidence()
        store.create(
            Job(answer_id=answer_id, question=Question(text="?"), evidence=evidence, priority=priority, **more)
        )

    def test_those_asked_before_are_ahead(self, store: Answers, clock: Clock) -> None:
        for name in ("a", "b", "c"):
            self.ask(store, clock, name)
        self.ask(store, clock, "other", generator="transformers")
        lines = [store.line("extractive", "interactive", name).ahead for name in ("a", "b", "c", "")]
        assert lines == [0, 1, 2, 3]
        assert store.line("transformers", "interactive").ahead == 1
        assert store.line("nobody", "interactive") == Line(0, 0, 0.0)

    def test_batch_ones_wait_for_all_interactive_ones(self, store: Answers, clock: Clock) -> None:
        for name, priority in (("b1", "batch"), ("i1", "interactive"), ("b2", "batch"), ("i2", "interactive")):
            self.ask(store, clock, name, priority)  # type: ignore[arg-type]
        assert [store.line("extractive", "batch", name).ahead for name in ("b1", "b2", "")] == [2, 3, 4]
        assert [store.line("extractive", "interactive", name).ahead for name in ("i1", "i2", "")] == [0, 1, 2]

    def test_moves_are_followed(self, store: Answers, clock: Clock) -> None:
        for name in ("a", "b", "c", "d"):
            self.ask(store, clock, name)
        lease = granted(store, "a")
        assert store.line("extractive", "interactive") == Line(3, 1, 0.0)
        store.release(lease)
        assert store.line("extractive", "interactive", "a") == Line(0, 0, 0.0), "its place is the old one"
        store.finish(granted(store, "a"), Draft(text="x"), {"generate": 1500.0, "cite": 500.0})
        store.cancel("b")
        assert store.line("extractive", "interactive", "d") == Line(1, 0, 2.0)

    def test_a_lapsed_lease_runs_no_more(self, store: Answers, clock: Clock) -> None:
        self.ask(store, clock, "a")
        lease = granted(store, "a")
        clock.now += 9
        store.renew(lease, 10)
        clock.now += 9
        assert store.line("extractive", "interactive").running == 1
        clock.now += 2
        assert store.line("extractive", "interactive").running == 0

    def test_the_pace_follows_what_was_finished_lately(self, store: Answers, clock: Clock) -> None:
        def finish(name: str, seconds: float, result: Draft | Failure | None = None) -> float:
            self.ask(store, clock, name)
            store.finish(granted(store, name), result or Draft(text="x"), {"generate": seconds * 1000})
            return store.line("extractive", "interactive").seconds

        assert finish("a", 1.0) == pytest.approx(1.0)
        assert finish("b", 3.0) == pytest.approx(2.0)
        assert finish("failed", 99.0, Failure(code="x", message="y")) == pytest.approx(2.0)
        for number in range(60):
            pace = finish(f"n{number}", 10.0)
        assert pace == pytest.approx(10.0, abs=0.2)

    def test_the_doctor_finds_nothing_wrong_with_lines(self, store: Answers, clock: Clock) -> None:
        for name in ("a", "b", "c"):
            self.ask(store, clock, name)
        store.finish(granted(store, "a"), Draft(text="x"), {"generate": 5.0})
        granted(store, "b")
        assert list(checkup.look(store.inspection(), fix=False)) == []

    def test_what_a_killed_process_left_in_a_line_ends_with_its_time_to_live(
        self, redis_db_url: str, clock: Clock
    ) -> None:
        store = RedisAnswers(load_settings(redis_url=redis_db_url, answer_ttl=100), clock=clock)
        with redis.Redis.from_url(redis_db_url) as client:
            client.zadd("citewell:line:{extractive}:interactive", {"gone": clock.now - 101, "fresh": clock.now - 99})
        assert store.line("extractive", "interactive").ahead == 1
        store.close()


@pytest.fixture(params=COLUMNS)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Column]:
    url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
    with column(request.param, tmp_path, url, max_wait=2.0) as made:
        yield made


def submitted(stack: Column, text: str, count: int) -> list[Answer]:
    return [stack.engine.submit(Question(text=text)) for _ in range(count)]


def test_a_queued_record_says_where_it_stands(stack: Column) -> None:
    first = stack.engine.submit(Question(text="say: x"))
    assert stack.engine.answer(first.id).waiting == Waiting(position=1)
    stack.start_workers()
    stack.engine.answer(first.id, 30)
    learned = submitted(stack, "sleep: 0.5; say: a", 4)
    assert all(stack.engine.answer(answer.id, 30).state is AnswerState.DONE for answer in learned)
    many = submitted(stack, "sleep: 0.5; say: a", 8)
    last = stack.engine.answer(many[-1].id)
    assert last.state is AnswerState.QUEUED
    assert last.waiting is not None
    assert 3 <= last.waiting.position <= 8
    assert last.waiting.starts_in_s is not None
    assert last.waiting.done_in_s is not None
    assert 0.3 < last.waiting.starts_in_s < last.waiting.done_in_s < 10
    assert stack.store.get(many[-1].id).waiting is None, "it is looked up, not stored"
    http = create_app(stack.settings, stack.engine).test_client()
    response = http.get(f"/v1/answers/{many[-1].id}")
    if response.get_json()["state"] == "queued":
        assert response.get_json()["waiting"]["position"] >= 1
        assert int(response.headers["Retry-After"]) >= 1
    assert stack.engine.answer(many[-1].id, 60).waiting is None


def test_without_a_worker_there_is_no_estimate_and_no_endless_line(tmp_path: Path, redis_db_url: str) -> None:
    with column("redis", tmp_path, redis_db_url, max_wait=5.0) as stack:
        stack.store.create(Job(answer_id="a", question=Question(text="?"), evidence=Evidence(), generator="scripted"))
        stack.store.finish(granted(stack.store, "a"), Draft(text="x"), {"generate": 1000.0})
        first = stack.engine.submit(Question(text="say: x"))
        assert stack.engine.answer(first.id).waiting == Waiting(position=1)
        with pytest.raises(Overloaded, match="no worker lives") as caught:
            submitted(stack, "say: x", 20)
        assert caught.value.detail == {"retry_after_s": 1, "waiting": 6}
        assert stack.engine.submit(Question(text="say: x"), "extractive"), "another generator's line is its own"


def test_a_line_that_cannot_be_looked_at_does_not_hide_the_record(stack: Column, monkeypatch: Any) -> None:
    answer = stack.engine.submit(Question(text="say: x"))

    def away(*_: Any) -> Line:
        raise StoreUnavailable("away")

    monkeypatch.setattr(stack.store, "line", away)
    assert stack.engine.answer(answer.id).waiting is None


def test_under_load_what_is_accepted_is_answered_in_time(stack: Column) -> None:
    """Twenty callers ask as fast as they can, four times what two threads can answer, and back off when told to."""
    stack.start_workers()
    for answer in submitted(stack, "sleep: 0.1; say: a", 4):
        assert stack.engine.answer(answer.id, 30).state is AnswerState.DONE
    app = create_app(stack.settings, stack.engine)
    until = time.monotonic() + 10
    accepted: list[tuple[str, float | None]] = []
    refused: list[int] = []

    def call(number: int) -> None:
        http, chance = app.test_client(), random.Random(number)
        while time.monotonic() < until:
            response = http.post("/v1/answers", json={"question": "sleep: 0.1; say: a"})
            if response.status_code == 202:
                record = http.get(response.get_json()["links"]["self"]).get_json()
                accepted.append((record["id"], (record["waiting"] or {}).get("starts_in_s")))
                time.sleep(chance.uniform(0, 0.1))
                continue
            assert "max_wait" in assert_error(response, 503, "overloaded")["message"]
            refused.append(int(response.headers["Retry-After"]))
            time.sleep(min(refused[-1], 1) * chance.uniform(0.5, 1))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(call, range(20)))
    assert len(accepted) > 20
    assert len(refused) > 10
    assert min(refused) >= 1
    done = [stack.engine.answer(answer_id, 60) for answer_id, _ in accepted]
    assert {answer.state for answer in done} == {AnswerState.DONE}, "what is accepted is answered"
    waits = [answer.started_at - answer.created_at for answer in done]
    errors = [abs(wait - told) for wait, (_, told) in zip(waits, accepted, strict=True) if told is not None]
    print(
        f"{len(accepted)} accepted, {len(refused)} refused; waited {statistics.median(waits):.2f} s at the median, "
        f"{max(waits):.2f} s at most; estimates off by {statistics.median(errors):.2f} s at the median"
    )
    # Callers that come at once see the same line; a busy machine answers more slowly than it did a moment ago.
    assert max(waits) < 10 * stack.settings.max_wait
    fresh = stack.engine.submit(Question(text="say: welcome"), terms=Terms(priority="batch"))
    assert stack.engine.answer(fresh.id, 30).answer == "welcome"
