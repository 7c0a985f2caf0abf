"""What every answer store promises, on SQLite files and a real Redis."""

import json
import resource
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.config import Settings, load_settings
from citewell.errors import BadInput, LeaseLost, StoreUnavailable, UnknownAnswer
from citewell.ports import Answers
from citewell.records import (
    Answer,
    AnswerState,
    Citation,
    Draft,
    Evidence,
    Failure,
    Hit,
    Job,
    JobMessage,
    Lease,
    Passage,
    Question,
    Sentence,
)

Make = Callable[..., Answers]


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def make_job(answer_id: str = "a1", **more: Any) -> Job:
    passage = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=5, text="Text.")
    evidence = Evidence(hits=(Hit(passage=passage, rank=1, score=1.0),), lang="en", timings_ms={"search": 4.0})
    return Job(answer_id=answer_id, question=Question(text="why?"), evidence=evidence, **more)


def granted(store: Answers, answer_id: str = "a1", owner: str = "w1", seconds: float = 10.0) -> Lease:
    grant = store.lease(answer_id, owner, seconds)
    assert grant.status == "granted"
    assert grant.lease is not None
    return grant.lease


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "redis"])
def make(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Make]:
    """Opens another store on the same data."""
    given: dict[str, Any] = {"data_dir": tmp_path / "data"}
    kind: Callable[..., Answers] = SqliteAnswers
    if request.param == "redis":
        given["redis_url"] = request.getfixturevalue("redis_db_url")
        kind = RedisAnswers
    with ExitStack() as stack:

        def make_one(**more: Any) -> Answers:
            store = kind(load_settings(**given, **more), clock=clock)
            stack.callback(store.close)
            store.load()
            return store

        yield make_one


@pytest.fixture
def store(make: Make) -> Answers:
    return make()


class TestAnswers:
    def test_create_stores_the_job_as_queued(self, store: Answers, clock: Clock) -> None:
        answer = store.create(make_job(created_at=clock.now - 1))
        assert answer.state is AnswerState.QUEUED
        assert answer.question.text == "why?"
        assert answer.evidence.hits[0].passage.text == "Text."
        assert answer.created_at == clock.now - 1
        assert store.get("a1") == answer

    def test_create_stamps_a_job_without_a_time(self, store: Answers, clock: Clock) -> None:
        assert store.create(make_job()).created_at == clock.now

    def test_create_is_idempotent(self, store: Answers) -> None:
        store.create(make_job())
        granted(store)
        again = store.create(make_job(generator="other"))
        assert again.state is AnswerState.RUNNING
        assert again.generator == "extractive"
        assert [event.data["state"] for event in store.events("a1")] == ["queued", "running"]

    def test_what_one_store_writes_another_reads(self, make: Make) -> None:
        make().create(make_job())
        assert make().get("a1").state is AnswerState.QUEUED

    def test_the_whole_way_of_an_answer(self, store: Answers, clock: Clock) -> None:
        store.create(make_job(created_at=clock.now))
        clock.now += 2
        lease = granted(store)
        assert (lease.attempt, lease.owner, lease.expires_at) == (1, "w1", clock.now + 10)
        assert lease.job == make_job(created_at=clock.now - 2)
        assert store.get("a1").state is AnswerState.RUNNING
        assert store.get("a1").started_at == clock.now
        store.emit(lease, "One.\n\nTwo ")
        store.emit(lease, "línea ünd 日本")
        clock.now += 3
        answer = store.finish(lease, a_draft(), {"generate": 12.5})
        assert answer.state is AnswerState.DONE
        assert (answer.answer, answer.citations, answer.sentences) == (
            a_draft().text,
            a_draft().citations,
            a_draft().sentences,
        )
        assert answer.timings_ms == {"search": 4.0, "queue": 2000.0, "generate": 12.5, "total": 5000.0}
        assert answer.finished_at == clock.now
        assert store.get("a1") == answer
        events = store.events("a1")
        assert [event.kind for event in events] == ["state", "state", "delta", "delta", "final"]
        assert events[0].data == {"state": "queued", "attempt": 0}
        assert events[1].data == {"state": "running", "attempt": 1}
        assert events[2].data == {"text": "One.\n\nTwo ", "attempt": 1}
        assert events[3].data["text"] == "línea ünd 日本"
        assert Answer.model_validate(events[4].data["answer"]) == answer

    def test_an_abstention_is_done(self, store: Answers) -> None:
        store.create(make_job())
        answer = store.finish(granted(store), Draft(text="No.", abstained=True), {})
        assert (answer.state, answer.abstained) == (AnswerState.DONE, True)

    def test_a_failure_is_final_and_says_why(self, store: Answers) -> None:
        store.create(make_job())
        failure = Failure(code="generation_failed", message="it broke", remedy="mend it")
        answer = store.finish(granted(store), failure, {"generate": 1.0})
        assert answer.state is AnswerState.FAILED
        assert store.get("a1").error == failure
        assert store.events("a1")[-1].data["answer"]["error"]["code"] == "generation_failed"

    def test_unknown_answers(self, store: Answers) -> None:
        for ask in (store.get, store.events, store.cancel):
            with pytest.raises(UnknownAnswer, match="nobody"):
                ask("nobody")
        assert store.lease("nobody", "w", 10).status == "final"
        orphan = Lease(answer_id="nobody", owner="w", attempt=1, expires_at=0, job=make_job("nobody"))
        assert_refused(store, orphan)


class TestLeases:
    def test_a_living_lease_is_busy_even_for_its_owner(self, store: Answers, clock: Clock) -> None:
        store.create(make_job())
        granted(store, owner="w1")
        clock.now += 4
        for owner in ("w1", "w2"):
            grant = store.lease("a1", owner, 10)
            assert (grant.status, grant.lease) == ("busy", None)
            assert grant.retry_after_s == pytest.approx(6.0)

    def test_a_lapsed_lease_is_taken_over_with_the_next_attempt(self, store: Answers, clock: Clock) -> None:
        store.create(make_job(created_at=clock.now))
        old = granted(store, owner="w1")
        store.emit(old, "lost text")
        clock.now += 10.001
        new = granted(store, owner="w2")
        assert new.attempt == 2
        assert_refused(store, old)
        store.emit(new, "good text")
        answer = store.finish(new, Draft(text="good text"), {})
        assert (answer.attempt, answer.answer) == (2, "good text")
        assert answer.timings_ms["queue"] == 0.0
        assert [e.data["attempt"] for e in store.events("a1") if e.kind == "delta"] == [1, 2]

    def test_renewal_keeps_a_lease_alive(self, store: Answers, clock: Clock) -> None:
        store.create(make_job())
        lease = granted(store)
        for _ in range(5):
            clock.now += 9
            lease = store.renew(lease, 10)
            assert lease.expires_at == clock.now + 10
            assert store.lease("a1", "w2", 10).status == "busy"
        assert store.finish(lease, a_draft(), {}).attempt == 1

    def test_a_lapsed_lease_that_nobody_took_over_still_writes(self, store: Answers, clock: Clock) -> None:
        store.create(make_job())
        lease = granted(store)
        clock.now += 100
        store.emit(lease, "late")
        lease = store.renew(lease, 10)
        assert store.lease("a1", "w2", 10).status == "busy"
        assert store.finish(lease, a_draft(), {}).state is AnswerState.DONE

    def test_used_up_attempts_fail_the_answer(self, store: Answers, clock: Clock) -> None:
        store.create(make_job(max_attempts=2))
        for attempt in (1, 2):
            assert granted(store).attempt == attempt
            clock.now += 11
        assert store.lease("a1", "w3", 10).status == "final"
        answer = store.get("a1")
        assert answer.state is AnswerState.FAILED
        assert answer.error is not None
        assert answer.error.code == "max_attempts"
        assert "2 attempts" in answer.error.message
        assert "worker" in answer.error.message
        assert answer.error.remedy
        assert answer.finished_at == clock.now
        assert store.events("a1")[-1].kind == "final"
        assert store.lease("a1", "w3", 10).status == "final"
        assert len([e for e in store.events("a1") if e.kind == "final"]) == 1

    def test_final_answers_refuse_every_writer(self, store: Answers) -> None:
        store.create(make_job())
        lease = granted(store)
        store.finish(lease, a_draft(), {})
        assert store.lease("a1", "w2", 10).status == "final"
        assert_refused(store, lease)
        assert store.get("a1").answer == a_draft().text

    def test_release_gives_back_without_counting(self, store: Answers, clock: Clock) -> None:
        store.create(make_job(max_attempts=1))
        for attempt in (1, 2, 3):
            lease = granted(store)
            assert lease.attempt == attempt
            store.release(lease)
            assert store.get("a1").state is AnswerState.QUEUED
            assert store.events("a1")[-1].data == {"state": "queued", "attempt": attempt}
            assert_refused(store, lease)
        granted(store)
        clock.now += 11
        assert store.lease("a1", "w", 10).status == "final"
        assert "1 attempt was" in cast(Failure, store.get("a1").error).message

    def test_fifty_threads_get_one_lease(self, store: Answers) -> None:
        store.create(make_job())
        start = threading.Barrier(50)
        grants = []

        def take(number: int) -> None:
            start.wait()
            grants.append(store.lease("a1", f"w{number}", 10))

        run_threads([threading.Thread(target=take, args=(n,)) for n in range(50)])
        assert sorted(grant.status for grant in grants) == ["busy"] * 49 + ["granted"]
        assert store.get("a1").attempt == 1

    def test_threads_that_renew_emit_and_finish_at_once(self, store: Answers) -> None:
        store.create(make_job())
        lease = granted(store)
        threads = [threading.Thread(target=store.emit, args=(lease, f"{n};")) for n in range(20)]
        threads += [threading.Thread(target=store.renew, args=(lease, 10.0)) for _ in range(20)]
        run_threads(threads)
        assert store.finish(lease, a_draft(), {}).state is AnswerState.DONE
        texts = {e.data["text"] for e in store.events("a1") if e.kind == "delta"}
        assert texts == {f"{n};" for n in range(20)}


class TestCancel:
    def test_a_queued_answer(self, store: Answers) -> None:
        store.create(make_job())
        answer = store.cancel("a1")
        assert answer.state is AnswerState.CANCELLED
        assert store.events("a1")[-1].data["answer"] == answer.to_dict()
        assert store.lease("a1", "w", 10).status == "final"

    def test_a_running_answer_stops_its_worker(self, store: Answers) -> None:
        store.create(make_job())
        lease = granted(store)
        store.cancel("a1")
        assert_refused(store, lease)
        assert store.get("a1").state is AnswerState.CANCELLED

    def test_a_final_answer_stays_as_it_is(self, store: Answers) -> None:
        store.create(make_job())
        done = store.finish(granted(store), a_draft(), {})
        assert store.cancel("a1") == done
        assert len([e for e in store.events("a1") if e.kind == "final"]) == 1

    def test_finish_and_cancel_at_once_end_in_one_state(self, store: Answers) -> None:
        for number in range(20):
            answer_id = f"race{number}"
            store.create(make_job(answer_id))
            lease = granted(store, answer_id)
            outcomes: list[AnswerState | None] = []

            def finish(lease: Lease = lease, outcomes: list[AnswerState | None] = outcomes) -> None:
                try:
                    outcomes.append(store.finish(lease, a_draft(), {}).state)
                except LeaseLost:
                    outcomes.append(None)

            run_threads([threading.Thread(target=finish), threading.Thread(target=store.cancel, args=(answer_id,))])
            final = store.get(answer_id).state
            assert outcomes == [AnswerState.DONE if final is AnswerState.DONE else None]
            assert len([e for e in store.events(answer_id) if e.kind == "final"]) == 1


class TestEvents:
    def test_later_than_an_id(self, store: Answers) -> None:
        store.create(make_job())
        lease = granted(store)
        for n in range(3):
            store.emit(lease, str(n))
        events = store.events("a1")
        assert store.events("a1", after=events[2].id) == events[3:]
        assert store.events("a1", after=events[-1].id) == []

    def test_ids_belong_to_their_answer(self, store: Answers) -> None:
        store.create(make_job("a1"))
        time.sleep(0.002)  # ids of Redis streams are times, in milliseconds
        store.create(make_job("b1"))
        with pytest.raises(BadInput, match="a1"):
            store.events("a1", after=store.events("b1")[0].id)

    @pytest.mark.parametrize("after", ["x", "-1", "1-", "99999999999999-0", "9" * 40, "9" * 40 + "-0", "٣", "123456"])
    def test_unknown_or_garbled_ids(self, store: Answers, after: str) -> None:
        store.create(make_job())
        with pytest.raises(BadInput) as caught:
            store.events("a1", after=after)
        assert caught.value.remedy

    def test_waiting_ends_with_the_first_event(self, make: Make) -> None:
        """Also when another process, here another store, writes it."""
        reader, writer = make(), make()
        reader.create(make_job())
        last = reader.events("a1")[-1].id
        started = time.monotonic()
        timer = threading.Timer(0.3, writer.lease, args=("a1", "w", 10.0))
        timer.start()
        events = reader.events("a1", after=last, wait_s=20)
        timer.join()
        assert [event.data["state"] for event in events] == ["running"]
        assert 0.25 < time.monotonic() - started < 2

    def test_waiting_within_one_store_is_prompt(self, store: Answers) -> None:
        store.create(make_job())
        lease = granted(store)
        last = store.events("a1")[-1].id
        threading.Timer(0.1, store.emit, args=(lease, "x")).start()
        started = time.monotonic()
        assert store.events("a1", after=last, wait_s=20)[0].data["text"] == "x"
        assert time.monotonic() - started < 1

    def test_waiting_in_vain_ends_in_time(self, store: Answers) -> None:
        store.create(make_job())
        last = store.events("a1")[-1].id
        started = time.monotonic()
        assert store.events("a1", after=last, wait_s=0.4) == []
        assert 0.35 < time.monotonic() - started < 1.5

    def test_nobody_waits_behind_the_final_event(self, store: Answers) -> None:
        store.create(make_job())
        store.cancel("a1")
        started = time.monotonic()
        assert store.events("a1", after=store.events("a1")[-1].id, wait_s=20) == []
        assert time.monotonic() - started < 1


class TestDue:
    def test_nothing_is_due_that_has_a_worker(self, store: Answers, clock: Clock) -> None:
        store.create(make_job())
        lease = granted(store)
        for _ in range(3):
            clock.now += 9
            store.renew(lease, 10)
            assert store.due(queued=True) == []
        store.finish(lease, a_draft(), {})
        clock.now += 100
        assert store.due(queued=True) == []

    def test_a_lapsed_lease_once_a_period(self, make: Make, clock: Clock) -> None:
        first, second = make(), make()
        first.create(make_job(generator="transformers"))
        granted(first)
        clock.now += 10.5
        assert first.due(queued=False) == [JobMessage(answer_id="a1", generator="transformers")]
        assert second.due(queued=False) == first.due(queued=True) == []
        clock.now += 10.5
        assert [m.answer_id for m in second.due(queued=False)] == ["a1"]

    def test_queued_for_longer_than_a_lease(self, store: Answers, clock: Clock) -> None:
        store.create(make_job())
        assert store.due(queued=True) == []
        clock.now += 10.5
        assert store.due(queued=False) == []
        assert [m.answer_id for m in store.due(queued=True)] == ["a1"]
        assert store.due(queued=True) == []
        clock.now += 10.5
        assert [m.answer_id for m in store.due(queued=True)] == ["a1"]

    def test_what_was_given_back_is_due_at_once(self, store: Answers, clock: Clock) -> None:
        store.create(make_job())
        store.release(granted(store))
        assert [m.answer_id for m in store.due(queued=False)] == ["a1"]
        assert store.due(queued=True) == []
        granted(store)
        assert store.due(queued=True) == []

    def test_cancelled_answers_are_not_due(self, store: Answers, clock: Clock) -> None:
        store.create(make_job())
        store.cancel("a1")
        clock.now += 100
        assert store.due(queued=True) == []

    def test_two_sweepers_share_many(self, make: Make, clock: Clock) -> None:
        stores = [make(), make()]
        for number in range(60):
            stores[0].create(make_job(f"a{number}"))
        clock.now += 11
        found: list[JobMessage] = []
        threads = [threading.Thread(target=lambda s=s: found.extend(s.due(queued=True))) for s in stores]
        run_threads(threads)
        assert sorted(m.answer_id for m in found) == sorted(f"a{n}" for n in range(60))


class TestRedis:
    """What only Redis can get wrong."""

    @pytest.fixture
    def settings(self, redis_db_url: str) -> Settings:
        return load_settings(redis_url=redis_db_url, answer_ttl=500)

    def test_every_key_has_a_time_to_live(self, settings: Settings, clock: Clock) -> None:
        store = RedisAnswers(settings, clock=clock)
        client = redis.Redis.from_url(settings.redis_url, decode_responses=True)
        seen = set()

        def check() -> None:
            for key in client.scan_iter():
                seen.add(key)
                assert 0 < client.ttl(key) <= 500, key

        for number in range(4):
            store.create(make_job(f"a{number}"))
            check()
        leases = [granted(store, f"a{number}") for number in range(4)]
        for step in (
            lambda: store.emit(leases[0], "x"),
            lambda: store.renew(leases[0], 10),
            lambda: store.release(leases[1]),
            lambda: store.due(queued=True),
            lambda: store.finish(leases[2], a_draft(), {"generate": 5.0}),
            lambda: store.cancel("a3"),
        ):
            step()
            check()
        clock.now += 11
        store.due(queued=True)
        check()
        assert len(seen) == 4 * 3 + 2 + 4 + 1  # an answer's own, hints, its generator's line, its document's answers
        client.close()
        store.close()

    def test_the_time_to_live_runs_from_the_last_write(self, settings: Settings, clock: Clock) -> None:
        store = RedisAnswers(settings, clock=clock)
        client = redis.Redis.from_url(settings.redis_url, decode_responses=True)
        store.create(make_job())
        lease = granted(store)
        for write in (lambda: store.emit(lease, "x"), lambda: store.renew(lease, 9), lambda: store.cancel("a1")):
            keys = list(client.scan_iter("*{a1}"))
            assert len(keys) == 3
            for key in keys:
                client.expire(key, 5)
            write()
            assert min(client.ttl(key) for key in keys) > 400
        client.close()
        store.close()

    def test_hints_of_expired_answers_are_cleared(self, settings: Settings, clock: Clock) -> None:
        store = RedisAnswers(settings, clock=clock)
        client = redis.Redis.from_url(settings.redis_url, decode_responses=True)
        for number in range(3):
            store.create(make_job(f"a{number}"))
        granted(store, "a1")
        for key in client.scan_iter("*{*}"):
            client.delete(key)
        clock.now += 11
        assert store.due(queued=True) == []
        assert list(client.scan_iter()) == []
        client.close()
        store.close()

    def test_without_a_clock_it_takes_the_servers(self, settings: Settings) -> None:
        store = RedisAnswers(settings)
        assert store.create(make_job()).created_at == pytest.approx(time.time(), abs=5)
        assert granted(store).expires_at == pytest.approx(time.time() + 10, abs=5)
        store.close()

    def test_two_prefixes_do_not_meet(self, settings: Settings) -> None:
        one, other = RedisAnswers(settings), RedisAnswers(settings.model_copy(update={"index_name": "other"}))
        one.create(make_job())
        with pytest.raises(UnknownAnswer):
            other.get("a1")
        one.close()
        other.close()

    def test_a_server_that_is_away(self) -> None:
        store = RedisAnswers(load_settings(redis_url="redis://user:geheim@127.0.0.1:1/3"))
        calls: list[Callable[[], object]] = [
            store.load,
            store.info,
            lambda: store.create(make_job()),
            lambda: store.events("a1"),
            lambda: store.due(queued=True),
            lambda: store.lease("a1", "w", 1),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match=r"redis://127\.0\.0\.1:1/3") as caught:
                call()
            assert "geheim" not in caught.value.message
            assert "redis_url" in caught.value.remedy
        store.close()

    def test_a_restart_of_the_server(self, local_redis: Callable[..., Any]) -> None:
        server = local_redis(appendonly=True)
        store = RedisAnswers(load_settings(redis_url=server.url))
        store.create(make_job())
        lease = granted(store)
        server.kill()
        with pytest.raises(StoreUnavailable):
            store.emit(lease, "x")
        server.start()
        store.emit(lease, "x")
        assert store.finish(lease, a_draft(), {}).state is AnswerState.DONE
        store.close()

    def test_a_full_server_says_so(self, local_redis: Callable[..., Any]) -> None:
        server = local_redis(options={"maxmemory": "3mb", "maxmemory-policy": "noeviction"})
        store = RedisAnswers(load_settings(redis_url=server.url))
        store.create(make_job())
        lease = granted(store)
        with pytest.raises(StoreUnavailable, match="full") as caught:
            for _ in range(100):
                store.emit(lease, "x" * 100_000)
        assert "maxmemory" in caught.value.remedy
        store.close()


class TestSqlite:
    """What only a file can get wrong."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return load_settings(data_dir=tmp_path / "data", answer_ttl=500)

    def test_expired_answers_are_unknown_and_purged(self, settings: Settings, clock: Clock) -> None:
        store = SqliteAnswers(settings, clock=clock)
        store.load()
        store.create(make_job("old"))
        clock.now += 400
        store.create(make_job("new"))
        granted(store, "new")
        clock.now += 101
        with pytest.raises(UnknownAnswer):
            store.get("old")
        assert store.lease("old", "w", 1).status == "final"
        store.due(queued=True)
        store.close()
        with sqlite3.connect(settings.data_dir / "answers.sqlite") as file:
            assert file.execute("SELECT id FROM answers").fetchall() == [("new",)]
            assert file.execute("SELECT DISTINCT answer_id FROM events").fetchall() == [("new",)]
            assert file.execute("SELECT answer_id FROM jobs").fetchall() == [("new",)]
        file.close()

    def test_an_expired_id_can_be_used_again(self, settings: Settings, clock: Clock) -> None:
        store = SqliteAnswers(settings, clock=clock)
        store.load()
        store.create(make_job())
        store.cancel("a1")
        clock.now += 501
        assert store.create(make_job()).state is AnswerState.QUEUED
        store.close()

    def test_what_was_queued_survives_a_restart(self, settings: Settings, clock: Clock) -> None:
        first = SqliteAnswers(settings, clock=clock)
        first.load()
        first.create(make_job())
        first.close()
        with pytest.raises(StoreUnavailable, match="not open"):
            first.get("a1")
        second = SqliteAnswers(settings, clock=clock)
        second.load()
        second.load()
        clock.now += 11
        assert [m.answer_id for m in second.due(queued=True)] == ["a1"]
        assert second.info()["answers"] == {"queued": 1}
        second.close()
        second.close()

    def test_processes_that_start_and_lease_at_once(self, settings: Settings) -> None:
        code = (
            "import sys; from tests.contracts.test_answers import *\n"
            "store = SqliteAnswers(load_settings(data_dir=sys.argv[1])); store.load(); store.create(make_job())\n"
            "print(store.lease('a1', sys.argv[2], 60).status); store.close()"
        )
        commands = [[sys.executable, "-c", code, str(settings.data_dir), str(n)] for n in range(5)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        assert sorted(p.communicate(timeout=60)[0].strip() for p in processes) == ["busy"] * 4 + ["granted"]

    @pytest.mark.parametrize("content", [b"This is not a database. " * 200, b"SQLite format 3\0" + b"\xff" * 4000])
    def test_a_corrupt_file(self, settings: Settings, content: bytes) -> None:
        settings.data_dir.mkdir()
        (settings.data_dir / "answers.sqlite").write_bytes(content)
        with pytest.raises(StoreUnavailable, match=r"answers\.sqlite") as caught:
            SqliteAnswers(settings).load()
        assert "Move the file away" in caught.value.remedy

    def test_a_file_that_is_damaged_later(self, settings: Settings) -> None:
        store = SqliteAnswers(settings)
        store.load()
        for number in range(50):
            store.create(make_job(f"a{number}"))
        store.close()
        path = settings.data_dir / "answers.sqlite"
        damaged = bytearray(path.read_bytes())
        damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
        path.write_bytes(damaged)
        with pytest.raises(StoreUnavailable, match="malformed"):
            store.load()

    def test_a_newer_schema(self, settings: Settings) -> None:
        settings.data_dir.mkdir()
        with sqlite3.connect(settings.data_dir / "answers.sqlite") as file:
            file.execute("PRAGMA user_version = 99")
        file.close()
        with pytest.raises(StoreUnavailable, match="99") as caught:
            SqliteAnswers(settings).load()
        assert "newer" in caught.value.remedy

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreUnavailable, match="file") as caught:
            SqliteAnswers(load_settings(data_dir=tmp_path / "file" / "data")).load()
        assert "data_dir" in caught.value.remedy

    def test_a_full_disk(self, settings: Settings) -> None:
        code = (
            "import sys; from tests.contracts.test_answers import *\n"
            "store = SqliteAnswers(load_settings(data_dir=sys.argv[1])); store.load(); store.create(make_job())\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
            "lease = granted(store)\n"
            "try:\n"
            "    for _ in range(100): store.emit(lease, 'x' * 10_000)\n"
            "except StoreUnavailable as error: print(json.dumps([error.message, error.remedy]))\n"
            "print(json.dumps(store.get('a1').state)); store.close()"
        )
        command = [sys.executable, "-c", code, str(settings.data_dir)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        (message, remedy), state = (json.loads(line) for line in run.stdout.splitlines())
        assert "answers.sqlite could not store a piece" in message
        assert "disk" in remedy
        assert state == "running"
        reopened = SqliteAnswers(settings)
        reopened.load()
        assert reopened.get("a1").attempt == 1
        reopened.close()


def a_draft() -> Draft:
    citation = Citation(
        marker=1,
        sentence=0,
        passage_id="d#0",
        doc_id="d",
        quote="Text.",
        start=0,
        end=5,
        passage_start=0,
        passage_end=5,
        support=1.0,
    )
    sentence = Sentence(text="Text.", start=0, end=9, supported=True)
    return Draft(text="Text. [1]\nzweite Zeile", citations=(citation,), sentences=(sentence,))


def assert_refused(store: Answers, lease: Lease) -> None:
    """The lease may write nothing at all, and nothing changes."""
    calls: list[Callable[[], object]] = [
        lambda: store.renew(lease, 10),
        lambda: store.emit(lease, "stale"),
        lambda: store.finish(lease, a_draft(), {}),
        lambda: store.finish(lease, Failure(code="x", message="y"), {}),
        lambda: store.release(lease),
    ]
    for call in calls:
        with pytest.raises(LeaseLost, match=lease.answer_id):
            call()


def run_threads(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


assert resource  # used by the code that tests run in other processes
