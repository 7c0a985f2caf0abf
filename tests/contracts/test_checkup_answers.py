"""Every fault of the answers is made in SQLite or Redis itself, seen by the doctor, repaired, and then gone."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from citewell import checkup
from citewell.answers import findings as wrong
from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.checkup import Result
from citewell.config import Settings, load_settings
from citewell.errors import UnknownAnswer
from citewell.jobs import CeleryQueue
from citewell.ports import Answers
from citewell.priorities import queue_name
from citewell.records import AnswerState, Draft, Evidence, Job, JobMessage, Lease, Question

Store = SqliteAnswers | RedisAnswers


@pytest.fixture(params=["embedded", "served"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    named: dict[str, Any] = {"stack": request.param, "data_dir": tmp_path, "lease_seconds": 5.0}
    if request.param == "served":
        named["redis_url"] = request.getfixturevalue("redis_db_url")
    return load_settings(**named)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    made: Store = RedisAnswers(settings) if settings.stack == "served" else SqliteAnswers(settings)
    made.load()
    yield made
    made.close()


class Hand:
    """Writes to the store's files and keys directly, past the product."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self.embedded = settings.stack == "embedded"
        self._path = settings.data_dir / "answers.sqlite"
        self.client = stack.enter_context(redis.Redis.from_url(settings.redis_url, decode_responses=True))

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()

    def set_lease(self, answer_id: str, until: float) -> None:
        if self.embedded:
            self.sql("UPDATE answers SET lease_until = ?, due_at = 4e9 WHERE id = ?", until, answer_id)
        else:
            self.client.hset(f"citewell:answer:{{{answer_id}}}", "lease_until", repr(until))

    def forget_job(self, answer_id: str) -> None:
        if self.embedded:
            self.sql("DELETE FROM jobs WHERE answer_id = ?", answer_id)
        else:
            self.client.delete(f"citewell:job:{{{answer_id}}}")

    def forget_answer(self, answer_id: str) -> None:
        if self.embedded:
            self.sql("DELETE FROM answers WHERE id = ?", answer_id)  # this connection does not cascade
        else:
            self.client.delete(f"citewell:answer:{{{answer_id}}}")

    def forget_sweep(self, answer_id: str) -> None:
        if self.embedded:
            self.sql("UPDATE answers SET due_at = 4e9 WHERE id = ?", answer_id)
        else:
            self.client.zrem("citewell:due:queued", answer_id)
            self.client.zrem("citewell:due:running", answer_id)


@pytest.fixture
def hand(settings: Settings, store: Store) -> Iterator[Hand]:
    with ExitStack() as stack:
        yield Hand(settings, stack)


def asked(store: Answers, answer_id: str, **more: Any) -> None:
    store.create(Job(answer_id=answer_id, question=Question(text="why?"), evidence=Evidence(), **more))


def leased(store: Answers, answer_id: str, seconds: float = 60.0) -> Lease:
    lease = store.lease(answer_id, "worker", seconds).lease
    assert lease is not None
    return lease


def looked(store: Answers, *, fix: bool = False) -> list[Result]:
    return list(checkup.look(store.inspection(), fix=fix))


def kinds(results: list[Result]) -> set[tuple[str, str]]:
    return {(result.finding.kind, result.finding.name) for result in results}


def fixed(store: Answers) -> None:
    """Everything found can be repaired, and then nothing is found."""
    results = looked(store, fix=True)
    assert results
    assert all(result.fixed for result in results), results
    assert looked(store) == []


def test_healthy_answers_are_no_findings(store: Store) -> None:
    for answer_id in ("queued", "running", "done", "cancelled", "returned"):
        asked(store, answer_id)
    leased(store, "running")
    store.finish(leased(store, "done"), Draft(text="because"), {})
    store.cancel("cancelled")
    store.release(leased(store, "returned"))
    assert looked(store) == []


@pytest.mark.parametrize(("until", "kind"), [(0.0, wrong.NO_LEASE), (-60.0, wrong.EXPIRED)])
def test_an_answer_stuck_in_running_is_queued_again(store: Store, hand: Hand, until: float, kind: str) -> None:
    asked(store, "a1")
    lease = leased(store, "a1")
    hand.set_lease("a1", until and time.time() + until)
    assert kinds(looked(store)) == {(kind, "a1")}
    assert store.get("a1").state is AnswerState.RUNNING, "without fix nothing is changed"
    fixed(store)
    assert store.get("a1").state is AnswerState.QUEUED
    assert [message.answer_id for message in store.due(queued=False)] == ["a1"]
    assert store.finish(leased(store, "a1"), Draft(text="because"), {}).attempt == lease.attempt + 1


def test_an_answer_stuck_at_its_last_attempt_is_failed(store: Store, hand: Hand) -> None:
    asked(store, "a1", max_attempts=1)
    leased(store, "a1")
    hand.set_lease("a1", 0.0)
    fixed(store)
    answer = store.get("a1")
    assert answer.state is AnswerState.FAILED
    assert answer.error is not None
    assert answer.error.code == "max_attempts"


def test_an_answer_that_no_sweep_would_find(store: Store, hand: Hand) -> None:
    asked(store, "a1")
    hand.forget_sweep("a1")
    assert kinds(looked(store)) == {(wrong.UNWATCHED, "a1")}
    fixed(store)
    assert [message.answer_id for message in store.due(queued=True)] == ["a1"]


def test_an_answer_without_its_job_goes(store: Store, hand: Hand) -> None:
    asked(store, "a1")
    asked(store, "a2")
    hand.forget_job("a1")
    assert kinds(looked(store)) == {(wrong.NO_JOB, "a1")}
    results = looked(store, fix=True)
    assert all(result.fixed for result in results)
    looked(store, fix=True)  # what named the answer
    assert looked(store) == []
    with pytest.raises(UnknownAnswer):
        store.get("a1")
    assert store.get("a2").state is AnswerState.QUEUED


def test_what_belongs_to_no_answer_goes(store: Store, hand: Hand) -> None:
    asked(store, "a1")
    asked(store, "a2")
    hand.forget_answer("a1")
    found = looked(store)
    assert {finding.finding.kind for finding in found} == {wrong.ORPHAN}
    assert len(found) == (2 if hand.embedded else 3)  # job, events; in Redis also the hint of when to look
    fixed(store)
    assert store.get("a2").state is AnswerState.QUEUED


def test_many_answers_are_looked_through_page_by_page(store: Store, hand: Hand) -> None:
    for number in range(450):
        asked(store, f"a{number:03d}")
    for number in (3, 201, 449):
        hand.forget_sweep(f"a{number:03d}")
    assert kinds(looked(store)) == {(wrong.UNWATCHED, f"a{number:03d}") for number in (3, 201, 449)}
    fixed(store)


class TestRedis:
    @pytest.fixture
    def settings(self, redis_db_url: str) -> Settings:
        return load_settings(stack="served", redis_url=redis_db_url, lease_seconds=5.0)

    def test_keys_without_a_time_to_live_get_one(self, store: Store, hand: Hand, settings: Settings) -> None:
        asked(store, "a1")
        keys = {"citewell:answer:{a1}", "citewell:due:queued", "citewell:of-a-newer-release"}
        hand.client.set("citewell:of-a-newer-release", "x")
        hand.client.set("citewell2:other", "not ours")
        for key in keys:
            hand.client.persist(key)
        assert kinds(looked(store)) == {(wrong.NO_TTL, key) for key in keys}
        fixed(store)
        assert all(0 < cast(int, hand.client.ttl(key)) <= settings.answer_ttl for key in keys)
        assert hand.client.ttl("citewell2:other") == -1

    def test_messages_whose_answer_is_gone_leave_the_queue(self, store: Store, hand: Hand, settings: Settings) -> None:
        with closing(CeleryQueue(settings)) as queue:
            for number in range(450):
                queue.submit(JobMessage(answer_id=f"a{number}"))
            for number in (0, 210):
                asked(store, f"a{number}")
            name = queue_name("citewell", "extractive")
            assert len(looked(store)) == 448
            assert hand.client.llen(name) == 450
            fixed(store)
            assert queue.depth() == 2

    def test_a_message_that_is_taken_meanwhile_does_no_harm(self, store: Store, hand: Hand, settings: Settings) -> None:
        with closing(CeleryQueue(settings)) as queue:
            queue.submit(JobMessage(answer_id="gone"))
        (result,) = looked(store)
        hand.client.delete(queue_name("citewell", "extractive"))
        store.inspection().repair(result.finding)
        assert looked(store) == []
