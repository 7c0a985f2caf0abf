"""Answers that nobody waits for any more, and questions that let others go first, on both columns."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from citewell import checkup
from citewell.answers import sqlite_file
from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.config import load_settings
from citewell.errors import LeaseLost
from citewell.jobs import TASK, CeleryQueue, InlineQueue
from citewell.ports import Answers
from citewell.priorities import TURN, InteractiveFirst, queue_name
from citewell.records import Answer, AnswerState, Draft, Evidence, Job, JobMessage, Priority, Question, Terms
from citewell.service.app import create_app
from tests.contracts.test_answers import Clock, granted
from tests.service.small import assert_error
from tests.stacks import COLUMNS, Column, column, timed_store


@pytest.fixture(params=COLUMNS)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Column]:
    url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
    with column(request.param, tmp_path, url) as made:
        yield made


class TestExpiry:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture(params=COLUMNS)
    def store(self, request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Answers]:
        url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
        with timed_store(request.param, tmp_path, url, clock) as store:
            yield store

    def ask(self, store: Answers, answer_id: str = "a1", expires_in: float = 30.0) -> Answer:
        job = Job(answer_id=answer_id, question=Question(text="?"), evidence=Evidence(), expires_in=expires_in)
        return store.create(job)

    def test_the_record_says_until_when(self, store: Answers, clock: Clock) -> None:
        assert self.ask(store).expires_at == clock.now + 30
        assert self.ask(store, "a2", 0.0).expires_at == 0.0

    def test_it_is_never_leased_after_it(self, store: Answers, clock: Clock) -> None:
        self.ask(store)
        clock.now += 30
        assert store.lease("a1", "w", 10).status == "final"
        answer = store.get("a1")
        assert (answer.state, answer.attempt, answer.finished_at) == (AnswerState.EXPIRED, 0, clock.now)
        assert [event.kind for event in store.events("a1")] == ["state", "final"]
        assert store.events("a1")[-1].data["answer"]["state"] == "expired"

    def test_until_then_it_is(self, store: Answers, clock: Clock) -> None:
        self.ask(store)
        clock.now += 29.9
        assert store.finish(granted(store), Draft(text="in time"), {}).state is AnswerState.DONE
        clock.now += 100
        assert store.get("a1").answer == "in time"
        assert store.due(queued=True) == []
        assert store.get("a1").state is AnswerState.DONE

    def test_readers_see_it_without_any_worker(self, store: Answers, clock: Clock) -> None:
        for answer_id in ("a1", "a2"):
            self.ask(store, answer_id)
        clock.now += 31
        assert store.get("a1").state is AnswerState.EXPIRED
        assert store.events("a2")[-1].kind == "final"
        assert store.cancel("a1").state is AnswerState.EXPIRED

    def test_who_waits_for_events_is_told(self, store: Answers, clock: Clock) -> None:
        self.ask(store)
        last = store.events("a1")[-1].id

        def pass_time() -> None:
            clock.now += 31

        timer = threading.Timer(0.3, pass_time)
        timer.start()
        assert [event.kind for event in store.events("a1", last, 20)] == ["final"]
        timer.join()

    def test_the_sweep_drops_it_and_stops_who_writes_it(self, store: Answers, clock: Clock) -> None:
        self.ask(store, "queued")
        self.ask(store, "running")
        self.ask(store, "patient", 0.0)
        lease = granted(store, "running", seconds=100)
        clock.now += 31
        assert [message.answer_id for message in store.due(queued=True)] == ["patient"]
        with pytest.raises(LeaseLost, match="expired"):
            store.renew(lease, 10)
        with pytest.raises(LeaseLost):
            store.finish(lease, Draft(text="too late"), {})
        assert {store.get(name).state for name in ("queued", "running")} == {AnswerState.EXPIRED}
        assert len([event for event in store.events("running") if event.kind == "final"]) == 1

    def test_the_doctor_finds_nothing(self, store: Answers, clock: Clock) -> None:
        for number in range(5):
            self.ask(store, f"a{number}", 10.0 * (number + 1))
        clock.now += 31
        store.due(queued=True)
        assert list(checkup.look(store.inspection(), fix=False)) == []


def test_nobody_waits_for_it_any_more(stack: Column) -> None:
    """With real workers: one that is queued behind others, and one in the middle of its text."""
    stack.start_workers()
    warm = stack.engine.submit(Question(text="say: warm"))
    assert stack.engine.answer(warm.id, 60).answer == "warm"
    slow = [stack.engine.submit(Question(text="sleep: 0.2; echo: 20")) for _ in range(2)]
    running = stack.engine.submit(Question(text="sleep: 0.2; echo: 1000"), terms=Terms(expires_in=7))
    queued = stack.engine.submit(Question(text="say: never"), terms=Terms(expires_in=1))
    dropped = stack.engine.answer(queued.id, 30)
    assert (dropped.state, dropped.attempt) == (AnswerState.EXPIRED, 0)
    stopped = stack.engine.answer(running.id, 30)
    assert (stopped.state, stopped.attempt, stopped.answer) == (AnswerState.EXPIRED, 1, "")
    assert {stack.engine.answer(answer.id, 30).state for answer in slow} == {AnswerState.DONE}
    after = stack.engine.submit(Question(text="say: free again"))
    assert stack.engine.answer(after.id, 30).answer == "free again"


def message(answer_id: str, priority: Priority = "interactive") -> JobMessage:
    return JobMessage(answer_id=answer_id, generator="scripted", priority=priority)


class TestPriority:
    def order(self, stack: Column, wanted: list[tuple[str, Priority]]) -> list[str]:
        """The order in which one thread takes questions that all waited before it began."""
        ids = {}
        for name, priority in wanted:
            answer = stack.engine.submit(Question(text=f"say: {name}"), terms=Terms(priority=priority))
            ids[answer.id] = name
        if not stack.in_processes:
            stack.engine.queue._open = True  # type: ignore[attr-defined]
            for (answer_id, _), (_, priority) in zip(ids.items(), wanted, strict=True):
                stack.engine.queue.submit(message(answer_id, priority))
            stack.engine.queue._open = False  # type: ignore[attr-defined]
        stack.start_workers()
        done = [stack.engine.answer(answer_id, 60) for answer_id in ids]
        assert {answer.state for answer in done} == {AnswerState.DONE}
        return [ids[answer.id] for answer in sorted(done, key=lambda answer: answer.started_at)]

    @pytest.fixture(params=COLUMNS)
    def single(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Column]:
        url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
        with column(request.param, tmp_path, url, workers=1, lease_seconds=30.0) as made:
            yield made

    def test_interactive_ones_first_and_none_starves(self, single: Column) -> None:
        batch: list[tuple[str, Priority]] = [(f"b{n}", "batch") for n in range(4)]
        wanted = batch + [(f"i{n:02d}", "interactive") for n in range(20)]
        took = self.order(single, wanted)
        # A worker of Celery's holds two messages of the beginning: one that runs and one ahead.
        first = took.index("b0")
        assert TURN - 2 <= first <= TURN
        assert took.index("b1") - first == TURN
        assert [name for name in took if name[0] == "i"] == sorted(name for name in took if name[0] == "i")

    def test_batch_alone_is_not_held_back(self, single: Column) -> None:
        assert self.order(single, [(f"b{n}", "batch") for n in range(5)]) == [f"b{n}" for n in range(5)]

    def test_the_order_of_queues(self) -> None:
        order = InteractiveFirst()
        plain, batch, other = "p.a", "p.a:batch", "p.b"
        order.update([batch, plain, other])
        took = []
        for _ in range(2 * TURN):
            first = order.consume(3)[0]
            took.append(first)
            order.rotate(first)
        assert [n for n, name in enumerate(took) if name == batch] == [TURN - 1, 2 * TURN - 1]
        assert took[:4] == [plain, other, plain, other], "queues of one priority take turns"
        order.rotate("p.gone")
        assert len(order.consume(3)) == 3

    def test_messages_lie_in_their_queue_and_count_together(self, redis_db_url: str) -> None:
        with closing(CeleryQueue(load_settings(redis_url=redis_db_url), ("scripted",))) as queue:
            queue.submit(message("a1"))
            queue.submit(message("a2", "batch"))
            assert (queue.depth(), queue.depth("scripted")) == (2, 2)
            names = {queue_name("citewell", "scripted"), queue_name("citewell", "scripted", "batch")}
            assert set(queue.info()["queues"]) == names

    def test_a_lost_batch_message_comes_again_as_one(self, stack: Column) -> None:
        stack.engine.submit(Question(text="say: x"), terms=Terms(priority="batch"))
        deadline = time.monotonic() + 10
        while not (found := stack.store.due(queued=True)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert [m.priority for m in found] == ["batch"]

    def test_what_runs_is_not_interrupted(self) -> None:
        ran: list[str] = []
        queue = InlineQueue(lambda m: ran.append(m.answer_id), lambda queued: [], threads=1, poll_s=0.1)
        queue.load()
        queue.submit(message("a", "batch"))
        deadline = time.monotonic() + 5
        while not ran and time.monotonic() < deadline:
            time.sleep(0.01)
        queue.close()
        assert ran == ["a"]


class TestNeighbours:
    """Records, messages and files of the release before and of the next one."""

    def test_a_file_of_the_first_schema_is_upgraded(self, tmp_path: Path) -> None:
        store = SqliteAnswers(load_settings(data_dir=tmp_path))
        with sqlite3.connect(tmp_path / "answers.sqlite") as file:
            for statement in sqlite_file._SCHEMA:
                file.execute(statement)
            file.execute("PRAGMA user_version = 1")
            job = Job(answer_id="old", question=Question(text="?"), evidence=Evidence())
            file.execute(
                "INSERT INTO answers VALUES ('old', 'extractive', 'queued', 0, 0, 0, 0, 0, 4e9, ?)",
                (Answer.queued(job).to_json(),),
            )
            file.execute("INSERT INTO jobs VALUES ('old', ?)", (job.to_json(),))
        file.close()
        store.load()
        assert store.due(queued=True) == [JobMessage(answer_id="old")]
        assert store.finish(granted(store, "old"), Draft(text="x"), {}).state is AnswerState.DONE
        store.close()

    def test_an_answer_that_an_older_release_put_into_redis(self, redis_db_url: str) -> None:
        store = RedisAnswers(load_settings(redis_url=redis_db_url))
        store.create(Job(answer_id="old", question=Question(text="?"), evidence=Evidence()))
        with redis.Redis.from_url(redis_db_url, decode_responses=True) as client:
            client.hdel("citewell:answer:{old}", "priority", "expires_at")
            for key, field in (("citewell:answer:{old}", "record"), ("citewell:job:{old}", "")):
                text = client.hget(key, field) if field else client.get(key)
                record = {k: v for k, v in json.loads(str(text)).items() if k not in ("priority", "expires_at")}
                client.hset(key, field, json.dumps(record)) if field else client.set(key, json.dumps(record), ex=99)
            client.zadd("citewell:due:queued", {"old": 1})
        assert store.events("old")
        assert store.due(queued=True) == [JobMessage(answer_id="old")]
        assert store.finish(granted(store, "old"), Draft(text="x"), {}).state is AnswerState.DONE
        store.close()

    @pytest.mark.parametrize("more", [{"schema_version": 9, "priority": "someday", "added": 1}, {"priority": None}])
    def test_a_message_of_a_newer_release_costs_nothing(self, tmp_path: Path, redis_db_url: str, more: Any) -> None:
        """One that cannot be read is dropped, and the store brings its answer back."""
        with column("redis", tmp_path, redis_db_url) as stack:
            answer = stack.engine.submit(Question(text="say: still here"))
            with redis.Redis.from_url(redis_db_url) as client:
                client.delete(queue_name("citewell", "scripted"))
            payload = {"answer_id": answer.id, "generator": "scripted", **more}
            with closing(CeleryQueue(stack.settings, ("scripted",))) as queue:
                queue._publisher.app().send_task(TASK, args=[payload], queue=queue_name("citewell", "scripted"))
            stack.start_workers()
            done = stack.engine.answer(answer.id, 30)
            assert (done.answer, done.attempt) == ("still here", 1)


class TestHttp:
    def test_expires_in_and_priority(self, stack: Column) -> None:
        http = create_app(stack.settings, stack.engine).test_client()
        body = {"question": "say: x", "expires_in": 0.5, "priority": "batch"}
        answer_id = http.post("/v1/answers", json=body).get_json()["id"]
        record = http.get(f"/v1/answers/{answer_id}").get_json()
        assert record["priority"] == "batch"
        assert record["expires_at"] - record["created_at"] == pytest.approx(0.5, abs=1)
        record = http.get(f"/v1/answers/{answer_id}?wait=10").get_json()
        assert record["state"] == "expired"

    @pytest.mark.parametrize(
        "wrong", [{"expires_in": 0}, {"expires_in": -1}, {"expires_in": 1e9}, {"expires_in": "1"}, {"priority": "high"}]
    )
    def test_nonsense_is_refused(self, stack: Column, wrong: dict[str, Any]) -> None:
        http = create_app(stack.settings, stack.engine).test_client()
        response = http.post("/v1/answers", json={"question": "say: x", **wrong})
        assert next(iter(wrong)) in assert_error(response, 400, "bad_input")["message"]
