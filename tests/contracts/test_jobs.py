"""Messages reach a worker and answers reach an end, whatever dies on the way.

The Celery half runs real worker processes with a scripted generator (`tests/scripted_worker.py`) on a real Redis.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.config import Settings, load_settings
from citewell.errors import QueueUnavailable, StoreUnavailable
from citewell.jobs import TASK, CeleryQueue, InlineQueue, broker_url
from citewell.ports import Answers
from citewell.priorities import queue_name
from citewell.records import Answer, AnswerState, Evidence, Job, JobMessage, Question
from citewell.run import Runner
from citewell.workers.sweeper import Periodic
from tests.scripted import ScriptedGenerator, quote_nothing
from tests.stacks import Workers


def ask(store: Answers, text: str, answer_id: str = "a1", **more: Any) -> JobMessage:
    job = Job(answer_id=answer_id, question=Question(text=text), evidence=Evidence(), **more)
    store.create(job)
    return JobMessage(answer_id=answer_id, generator=job.generator)


def final(store: Answers, answer_id: str = "a1", within_s: float = 30.0) -> Answer:
    deadline = time.monotonic() + within_s
    while not (answer := store.get(answer_id)).state.final:
        assert time.monotonic() < deadline, f"still {answer.state}, attempt {answer.attempt}"
        time.sleep(0.05)
    return answer


def until(holds: Callable[[], object], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestInlineQueue:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteAnswers]:
        store = SqliteAnswers(load_settings(data_dir=tmp_path, lease_seconds=0.5))
        store.load()
        yield store
        store.close()

    @pytest.fixture
    def open_queue(self, store: SqliteAnswers) -> Iterator[Callable[..., InlineQueue]]:
        with ExitStack() as stack:

            def open_one(threads: int = 2) -> InlineQueue:
                generators = {"extractive": ScriptedGenerator()}
                runner = Runner(store, generators, quote_nothing, owner="w", lease_seconds=0.5)
                queue = InlineQueue(runner.run, store.due, threads=threads, poll_s=0.1)
                queue.load()
                stack.callback(runner.stop)
                stack.callback(queue.close)
                return queue

            yield open_one

    def test_submitted_is_answered(self, store: SqliteAnswers, open_queue: Callable[..., InlineQueue]) -> None:
        queue = open_queue()
        started = time.monotonic()
        for number in range(10):
            queue.submit(ask(store, "say: a|b", f"a{number}"))
        assert {final(store, f"a{number}").answer for number in range(10)} == {"ab"}
        assert time.monotonic() - started < 5
        assert queue.info() == {"queue": "inline", "depth": 0, "threads": 2}

    def test_depth_counts_what_waits(self, store: SqliteAnswers, open_queue: Callable[..., InlineQueue]) -> None:
        queue = open_queue(threads=1)
        for number in range(4):
            queue.submit(ask(store, "sleep: 0.3; say: a", f"a{number}"))
        until(lambda: store.get("a0").state is AnswerState.RUNNING)
        assert queue.depth() == 3
        queue.submit(JobMessage(answer_id="a3"))
        assert queue.depth() == 3

    def test_queued_elsewhere_is_found(self, store: SqliteAnswers, open_queue: Callable[..., InlineQueue]) -> None:
        ask(store, "say: found")
        open_queue()
        assert final(store).answer == "found"

    def test_an_answer_whose_worker_died_is_run_again(
        self, store: SqliteAnswers, open_queue: Callable[..., InlineQueue]
    ) -> None:
        ask(store, "say: again")
        store.lease("a1", "a process that died", 0.5)
        open_queue()
        answer = final(store)
        assert (answer.answer, answer.attempt) == ("again", 2)

    def test_a_run_that_raises_leaves_the_thread_alive(self) -> None:
        done = threading.Event()

        def run(message: JobMessage) -> None:
            if message.answer_id == "bad":
                raise StoreUnavailable("away")
            if message.answer_id == "worse":
                raise ValueError("worse")
            done.set()

        queue = InlineQueue(run, lambda queued: [], threads=1, poll_s=0.1)
        queue.load()
        for answer_id in ("bad", "worse", "good"):
            queue.submit(JobMessage(answer_id=answer_id))
        assert done.wait(5)
        queue.close()

    def test_a_store_that_is_away_does_not_end_the_sweeper(self) -> None:
        calls = []

        def due(*, queued: bool) -> list[JobMessage]:
            calls.append(queued)
            if len(calls) < 3:
                raise StoreUnavailable("away")
            return [JobMessage(answer_id="a1")] if len(calls) == 3 else []

        ran = threading.Event()
        queue = InlineQueue(lambda message: ran.set(), due, threads=1, poll_s=0.02)
        queue.load()
        assert ran.wait(5)
        assert all(calls)
        queue.close()

    @pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("unforeseen")])
    def test_whatever_fails_in_a_sweep_or_beside_it_both_go_on(self, error: Exception) -> None:
        swept, beside = [], []

        def due(*, queued: bool) -> list[JobMessage]:
            swept.append(queued)
            raise error

        def called() -> None:
            beside.append(1)
            raise error

        queue = InlineQueue(lambda message: None, due, threads=1, poll_s=0.02, beside=called)
        queue.load()
        until(lambda: len(swept) > 3 and len(beside) > 3)
        queue.close()

    @pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("unforeseen")])
    def test_what_a_worker_repeats_goes_on(self, error: Exception) -> None:
        calls = []

        def call() -> None:
            calls.append(1)
            raise error

        periodic = Periodic("sweeper", call, 0.02)
        periodic.start()
        until(lambda: len(calls) > 3)
        periodic.stop()

    def test_close_waits_for_what_runs_and_keeps_what_waits(
        self, store: SqliteAnswers, open_queue: Callable[..., InlineQueue]
    ) -> None:
        queue = open_queue(threads=1)
        for number in range(3):
            queue.submit(ask(store, "sleep: 0.5; say: a", f"a{number}"))
        until(lambda: store.get("a0").state is AnswerState.RUNNING)
        queue.close()
        states = [store.get(f"a{number}").state for number in range(3)]
        assert states == [AnswerState.DONE, AnswerState.QUEUED, AnswerState.QUEUED]
        with pytest.raises(QueueUnavailable):
            queue.submit(JobMessage(answer_id="a4"))
        with pytest.raises(QueueUnavailable):
            queue.info()
        queue.close()
        assert not [t for t in threading.enumerate() if t.name.startswith("answers-")]

    def test_a_forgotten_close_does_not_hold_up_the_interpreter(self) -> None:
        code = (
            "from citewell.jobs import InlineQueue\nInlineQueue(print, lambda queued: [], threads=2, poll_s=0.2).load()"
        )
        subprocess.run([sys.executable, "-c", code], timeout=30, check=True)


class TestCeleryQueue:
    @pytest.fixture
    def settings(self, redis_db_url: str) -> Settings:
        return load_settings(redis_url=redis_db_url)

    def test_a_message_lies_in_its_generators_queue(self, settings: Settings) -> None:
        queue = CeleryQueue(settings, ("extractive", "transformers"))
        queue.load()
        queue.submit(JobMessage(answer_id="a1"))
        queue.submit(JobMessage(answer_id="a2", generator="transformers"))
        queue.submit(JobMessage(answer_id="a3", generator="transformers"))
        assert (queue.depth(), queue.depth("extractive"), queue.depth("transformers")) == (3, 1, 2)
        info = queue.info()
        assert info["queues"] == {"citewell.extractive": 1, "citewell.transformers": 2}
        assert info["workers"] == []
        with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
            raw = json.loads(str(client.lindex("citewell.extractive", 0)))
        assert raw["content-type"] == "application/json"
        assert raw["headers"]["task"] == TASK
        queue.close()
        queue.close()

    def test_a_server_that_is_away_is_told_quickly(self) -> None:
        queue = CeleryQueue(load_settings(redis_url="redis://:geheim@127.0.0.1:1/0"))
        for call in (queue.load, queue.info, queue.depth, lambda: queue.submit(JobMessage(answer_id="a1"))):
            started = time.monotonic()
            with pytest.raises(QueueUnavailable, match=r"127\.0\.0\.1:1") as caught:
                call()
            assert "geheim" not in str(caught.value)
            assert time.monotonic() - started < 8
        queue.close()

    def test_a_restart_of_the_server(self, local_redis: Callable[..., Any]) -> None:
        server = local_redis(appendonly=True)
        queue = CeleryQueue(load_settings(redis_url=server.url))
        queue.submit(JobMessage(answer_id="a1"))
        server.kill()
        started = time.monotonic()
        with pytest.raises(QueueUnavailable):
            queue.submit(JobMessage(answer_id="a2"))
        assert time.monotonic() - started < 8
        server.start()
        queue.submit(JobMessage(answer_id="a3"))
        assert queue.depth() == 2
        queue.close()

    def test_many_threads_submit(self, settings: Settings) -> None:
        queue = CeleryQueue(settings)

        def submit_ten(number: int) -> None:
            for other in range(10):
                queue.submit(JobMessage(answer_id=f"{number}-{other}"))

        threads = [threading.Thread(target=submit_ten, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert queue.depth() == 200
        queue.close()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("redis://h:1/2", "redis://h:1/2"),
            ("rediss://u:p@h/0", "rediss://u:p@h/0"),
            ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ],
    )
    def test_the_address_in_celerys_spelling(self, given: str, expected: str) -> None:
        assert broker_url(given) == expected


class TestWorkers:
    @pytest.fixture
    def settings(self, redis_db_url: str) -> Settings:
        return load_settings(redis_url=redis_db_url, lease_seconds=1.5, workers=2)

    @pytest.fixture
    def workers(self, settings: Settings, tmp_path: Path) -> Iterator[Workers]:
        workers = Workers(tmp_path, redis_url=settings.redis_url, lease_seconds=1.5, workers=2)
        yield workers
        workers.close()
        print(workers.logs())

    @pytest.fixture
    def store(self, settings: Settings) -> Iterator[RedisAnswers]:
        store = RedisAnswers(settings)
        yield store
        store.close()

    @pytest.fixture
    def queue(self, settings: Settings) -> Iterator[CeleryQueue]:
        queue = CeleryQueue(settings)
        yield queue
        queue.close()

    def test_questions_are_answered_one_after_the_other_without_delay(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        workers.start()
        queue.submit(ask(store, "say: warm", "warm"))
        final(store, "warm")
        started = time.monotonic()
        for number in range(20):
            queue.submit(ask(store, "sleep: 0.01; say: a|b", f"a{number}"))
        answers = [final(store, f"a{number}") for number in range(20)]
        assert {(a.state, a.answer, a.attempt) for a in answers} == {(AnswerState.DONE, "ab", 1)}
        # Ten rounds of two threads; a worker that polled its queue once a second would take ten.
        assert time.monotonic() - started < 6
        until(lambda: queue.depth() == 0)

    def test_the_worker_is_listed_while_it_lives(
        self, workers: Workers, queue: CeleryQueue, settings: Settings
    ) -> None:
        process = workers.start()
        until(lambda: [w["state"] for w in queue.info()["workers"]] == ["ready"])
        (worker,) = queue.info()["workers"]
        assert worker["name"].endswith(f":{process.pid}")
        assert worker["generators"] == ["extractive"]
        assert worker["concurrency"] == 2
        with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
            for key in client.scan_iter("citewell:*"):
                assert int(str(client.ttl(key))) > 0, key
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert queue.info()["workers"] == []

    def test_a_killed_workers_answer_is_finished_by_another(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        first = workers.start()
        message = ask(store, "sleep: 0.2; say: a|b|c|d|e")
        queue.submit(message)
        until(lambda: [e for e in store.events("a1") if e.kind == "delta"])
        first.kill()
        first.wait()
        killed = time.monotonic()
        workers.start()
        answer = final(store)
        assert (answer.state, answer.answer, answer.attempt) == (AnswerState.DONE, "abcde", 2)
        assert time.monotonic() - killed < 20  # the broker alone would take 60
        texts = {1: "", 2: ""}
        for event in store.events("a1"):
            if event.kind == "delta":
                texts[event.data["attempt"]] += event.data["text"]
        assert "abcde".startswith(texts[1])
        assert texts[2] == "abcde"

    def test_a_second_worker_takes_over_without_a_restart(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue, tmp_path: Path
    ) -> None:
        workers.start()
        workers.start()
        until(lambda: [w["state"] for w in queue.info()["workers"]] == ["ready", "ready"])
        queue.submit(ask(store, f"say: a; die once: {tmp_path / 'died'}; say: b"))
        answer = final(store)
        assert (answer.answer, answer.attempt) == ("ab", 2)
        assert [p.poll() is None for p in workers.processes].count(True) == 1

    def test_an_answer_that_kills_every_worker_is_failed(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        queue.submit(ask(store, "say: a; die: now", max_attempts=2))
        for _ in range(2):
            assert workers.start().wait(30) == -signal.SIGKILL
        survivor = workers.start()
        answer = final(store)
        assert answer.state is AnswerState.FAILED
        assert answer.error is not None
        assert answer.error.code == "max_attempts"
        assert survivor.poll() is None

    def test_a_lost_message_is_queued_again(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue, settings: Settings
    ) -> None:
        queue.submit(ask(store, "say: kept"))
        with redis.Redis.from_url(settings.redis_url) as client:
            client.delete(queue_name("citewell", "extractive"))
        workers.start()
        assert final(store).answer == "kept"

    def test_a_message_that_comes_twice_is_answered_once(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        workers.start()
        message = ask(store, "sleep: 0.3; say: a|b|c")
        for _ in range(3):
            queue.submit(message)
        assert final(store).attempt == 1
        queue.submit(message)
        until(lambda: queue.depth() == 0)
        kinds = [event.kind for event in store.events("a1")]
        assert kinds.count("final") == 1
        assert kinds.count("state") == 2

    def test_messages_of_another_shape_do_no_harm(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        queue._publisher.app().send_task(TASK, args=[{"nonsense": True}], queue="citewell.extractive")
        newer = {"answer_id": "a1", "generator": "extractive", "schema_version": 7, "added_later": [1]}
        ask(store, "say: still here")
        queue._publisher.app().send_task(TASK, args=[newer], queue="citewell.extractive")
        process = workers.start()
        assert final(store).answer == "still here"
        assert process.poll() is None

    def test_sigterm_lets_the_running_answer_end(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        process = workers.start()
        queue.submit(ask(store, "sleep: 0.6; say: a|b|c|d|e|f"))
        until(lambda: store.get("a1").state is AnswerState.RUNNING)
        process.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # until then its loop may still take a message, and would answer it
        queue.submit(ask(store, "say: later", "a2"))
        assert process.wait(20) == 0
        assert (store.get("a1").answer, store.get("a1").attempt) == ("abcdef", 1)
        assert store.get("a2").state is AnswerState.QUEUED
        workers.start()
        assert final(store, "a2").answer == "later"

    def test_after_the_drain_the_rest_is_given_back(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        process = workers.start(drain_s=0.5)
        queue.submit(ask(store, "sleep: 0.2; echo: 15", max_attempts=1))
        until(lambda: store.get("a1").state is AnswerState.RUNNING)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert store.get("a1").state is AnswerState.QUEUED
        workers.start()
        answer = final(store)
        assert (answer.state, answer.attempt) == (AnswerState.DONE, 2)

    def test_a_cancelled_answer_frees_its_worker(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue
    ) -> None:
        workers.start(workers=1)
        queue.submit(ask(store, "sleep: 30; say: never"))
        until(lambda: store.get("a1").state is AnswerState.RUNNING)
        store.cancel("a1")
        queue.submit(ask(store, "say: next", "a2"))
        assert final(store, "a2").answer == "next"

    @pytest.mark.parametrize("broken", ["expected", "no such layer"])
    def test_a_worker_without_its_model_leaves_and_takes_nothing(
        self, workers: Workers, store: RedisAnswers, queue: CeleryQueue, broken: str
    ) -> None:
        queue.submit(ask(store, "say: x"))
        assert workers.start(broken=broken).wait(30) == 1
        assert queue.depth() == 1
        assert store.get("a1").state is AnswerState.QUEUED
        assert "worker_cannot_start" in workers.logs()

    def test_celerys_own_commands_find_the_app(self, workers: Workers, queue: CeleryQueue, settings: Settings) -> None:
        workers.start()
        until(lambda: [w["state"] for w in queue.info()["workers"]] == ["ready"])
        command = [sys.executable, "-m", "celery", "-A", "citewell.workers.app", "inspect", "ping", "--timeout", "10"]
        environment = os.environ | {"CITEWELL_REDIS_URL": settings.redis_url}
        command += ["-d", f"celery@{socket.gethostname()}"]
        ping = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ping.returncode == 0, ping.stderr
        assert "pong" in ping.stdout

    def test_a_worker_outlives_its_redis(self, tmp_path: Path, local_redis: Callable[..., Any]) -> None:
        server = local_redis(appendonly=True)
        settings = load_settings(redis_url=server.url)
        workers = Workers(tmp_path, redis_url=server.url, lease_seconds=1.5, workers=2)
        process = workers.start()
        queue, store = CeleryQueue(settings), RedisAnswers(settings)
        until(lambda: queue.info()["workers"])
        server.kill()
        time.sleep(1)
        server.start()
        queue.submit(ask(store, "say: back again"))
        assert final(store, within_s=60).answer == "back again"
        assert process.poll() is None
        workers.close()
        store.close()
        queue.close()
