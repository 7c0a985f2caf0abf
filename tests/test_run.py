"""A worker's part, over a real store: lease, generate, cite, finish."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from citewell.answers.sqlite import SqliteAnswers
from citewell.config import load_settings
from citewell.errors import BadInput, StoreUnavailable
from citewell.ports import Leases
from citewell.records import (
    Answer,
    AnswerState,
    Draft,
    Evidence,
    Failure,
    Hit,
    Job,
    JobMessage,
    Lease,
    Passage,
    PassageMark,
    Question,
    text_hash,
)
from citewell.run import Runner
from tests.scripted import ScriptedGenerator, quote_nothing


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteAnswers]:
    store = SqliteAnswers(load_settings(data_dir=tmp_path, lease_seconds=0.6))
    store.load()
    yield store
    store.close()


def runner(leases: Leases, cite: Callable[[str, Evidence, str], Draft] = quote_nothing) -> Runner:
    return Runner(leases, {"extractive": ScriptedGenerator()}, cite, owner="w1", lease_seconds=0.6)


def ask(store: SqliteAnswers, text: str, answer_id: str = "a1", **more: Any) -> JobMessage:
    question = Question(text=text, lang="en")
    store.create(Job(answer_id=answer_id, question=question, evidence=Evidence(), created_at=time.time(), **more))
    return JobMessage(answer_id=answer_id)


def deltas(store: SqliteAnswers, answer_id: str = "a1") -> list[str]:
    return [event.data["text"] for event in store.events(answer_id) if event.kind == "delta"]


def wait_for_state(store: SqliteAnswers, state: AnswerState, answer_id: str = "a1") -> None:
    deadline = time.monotonic() + 10
    while store.get(answer_id).state is not state:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_thread(run: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    return thread, results


def test_an_answer_is_generated_cited_and_stored(store: SqliteAnswers) -> None:
    given = []

    def cite(text: str, evidence: Evidence, lang: str) -> Draft:
        given.append((text, lang))
        return Draft(text=text.upper())

    result = runner(store, cite).run(ask(store, "say: one\\n|two| three"))
    assert result.status == "done"
    assert given == [("one\ntwo three", "en")]
    answer = store.get("a1")
    assert answer == result.answer
    assert (answer.state, answer.answer, answer.attempt) == (AnswerState.DONE, "ONE\nTWO THREE", 1)
    assert set(answer.timings_ms) == {"queue", "generate", "cite", "total"}
    assert 0 <= answer.timings_ms["generate"] <= answer.timings_ms["total"] + 1
    assert "".join(deltas(store)) == "one\ntwo three"


def test_the_record_says_what_the_answer_was_made_of(store: SqliteAnswers) -> None:
    passage = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=5, text="Text.")
    evidence = Evidence(hits=(Hit(passage=passage, rank=1, score=1.0),), index_version="v-000007")
    store.create(Job(answer_id="a1", question=Question(text="say: x", lang="en"), evidence=evidence))
    assert store.get("a1").provenance.passages == (PassageMark(id="d#0", hash=text_hash("Text.")),)
    assert runner(store).run(JobMessage(answer_id="a1")).status == "done"
    made = store.get("a1").provenance
    assert (made.index_version, made.revision, made.by_chance) == ("v-000007", "script-1", False)
    assert made.passages == (PassageMark(id="d#0", hash=text_hash("Text.")),)
    assert (made.prompt, made.prompt_hash) == ("", ""), "it sends no prompt"


def test_the_first_piece_goes_out_at_once_and_close_ones_together(store: SqliteAnswers) -> None:
    runner(store).run(ask(store, "echo: 200"))
    pieces = deltas(store)
    assert pieces[0] == "0 "
    assert len(pieces) < 100
    assert "".join(pieces) == "".join(f"{n} " for n in range(200))


def test_slow_pieces_are_stored_one_by_one_while_the_rest_is_awaited(store: SqliteAnswers) -> None:
    message = ask(store, "sleep: 0.2; say: a|b|c")
    thread, _ = in_thread(lambda: runner(store).run(message))
    wait_for_state(store, AnswerState.RUNNING)
    while not deltas(store):
        store.events("a1", after=store.events("a1")[-1].id, wait_s=5)
    assert deltas(store)[0] == "a"
    assert store.get("a1").state is AnswerState.RUNNING
    thread.join()
    assert deltas(store) == ["a", "b", "c"]


def test_the_lease_is_renewed_while_the_generator_works(store: SqliteAnswers) -> None:
    message = ask(store, "sleep: 0.4; say: a|b|c|d")
    thread, results = in_thread(lambda: runner(store).run(message))
    wait_for_state(store, AnswerState.RUNNING)
    for _ in range(12):
        time.sleep(0.1)
        assert store.lease("a1", "w2", 1).status == "busy"
    thread.join()
    assert (results[0].status, results[0].answer.attempt) == ("done", 1)


def test_messages_that_leave_nothing_to_do(store: SqliteAnswers) -> None:
    assert runner(store).run(JobMessage(answer_id="nobody")).status == "dropped"
    message = ask(store, "say: x")
    assert runner(store).run(message).status == "done"
    assert runner(store).run(message).status == "dropped"


def test_a_living_lease_elsewhere(store: SqliteAnswers) -> None:
    message = ask(store, "say: x")
    store.lease("a1", "w2", 5)
    result = runner(store).run(message)
    assert result.status == "busy"
    assert 4 < result.retry_after_s <= 5


@pytest.mark.parametrize(
    ("script", "code", "message", "remedy"),
    [
        ("say: a; fail: no room", "generation_failed", "no room", "Say something else."),
        ("raise: kaputt", "generation_failed", "RuntimeError: kaputt", "worker's log"),
        ("say: a; stop:", "generation_failed", "ended before", "worker's log"),
    ],
)
def test_a_generator_that_fails(store: SqliteAnswers, script: str, code: str, message: str, remedy: str) -> None:
    result = runner(store).run(ask(store, script))
    assert result.status == "done"
    error = store.get("a1").error
    assert error is not None
    assert store.get("a1").state is AnswerState.FAILED
    assert error.code == code
    assert message in error.message
    assert remedy in error.remedy
    assert "Traceback" not in error.message
    assert "generate" in store.get("a1").timings_ms


@pytest.mark.parametrize(("error", "code"), [(BadInput("no"), "bad_input"), (KeyError("k"), "generation_failed")])
def test_a_citation_step_that_fails(store: SqliteAnswers, error: Exception, code: str) -> None:
    def cite(text: str, evidence: Evidence, lang: str) -> Draft:
        raise error

    runner(store, cite).run(ask(store, "say: x"))
    failure = store.get("a1").error
    assert failure is not None
    assert failure.code == code
    assert {"generate", "cite"} <= set(store.get("a1").timings_ms)


def test_an_unknown_generator_fails_the_answer(store: SqliteAnswers) -> None:
    runner(store).run(ask(store, "say: x", generator="oracle"))
    failure = store.get("a1").error
    assert failure is not None
    assert failure.code == "unknown_generator"
    assert "oracle" in failure.message
    assert "extractive" in failure.message


def test_a_cancelled_answer_stops_its_generator(store: SqliteAnswers) -> None:
    message = ask(store, "sleep: 0.05; echo: 1000")
    thread, results = in_thread(lambda: runner(store).run(message))
    wait_for_state(store, AnswerState.RUNNING)
    store.cancel("a1")
    thread.join(5)
    assert not thread.is_alive()
    assert results[0].status == "lost"
    assert store.get("a1").state is AnswerState.CANCELLED


def test_a_silent_generator_learns_of_the_cancel_from_the_heartbeat(store: SqliteAnswers) -> None:
    message = ask(store, "sleep: 30; say: never")
    thread, results = in_thread(lambda: runner(store).run(message))
    wait_for_state(store, AnswerState.RUNNING)
    store.cancel("a1")
    thread.join(5)
    assert not thread.is_alive()
    assert results[0].status == "lost"


def test_stop_lets_running_answers_end(store: SqliteAnswers) -> None:
    working = runner(store)
    message = ask(store, "sleep: 0.1; say: a|b|c")
    thread, results = in_thread(lambda: working.run(message))
    wait_for_state(store, AnswerState.RUNNING)
    assert working.stop(grace_s=10)
    thread.join()
    assert results[0].status == "done"
    assert working.run(ask(store, "say: x", "a2")).status == "busy"
    assert store.get("a2").state is AnswerState.QUEUED


def test_stop_gives_back_what_does_not_end_in_time(store: SqliteAnswers) -> None:
    working = runner(store)
    message = ask(store, "sleep: 0.1; echo: 500", max_attempts=1)
    thread, results = in_thread(lambda: working.run(message))
    wait_for_state(store, AnswerState.RUNNING)
    started = time.monotonic()
    assert working.stop(grace_s=0.3)
    assert time.monotonic() - started < 3
    thread.join()
    assert results[0].status == "lost"
    assert store.get("a1").state is AnswerState.QUEUED
    assert store.due(queued=False) == [JobMessage(answer_id="a1")]
    assert store.lease("a1", "w2", 1).status == "granted"


class Flaky:
    """The real store behind a network that drops some calls: `away` names method and how often it fails."""

    def __init__(self, store: SqliteAnswers, **away: int) -> None:
        self._store = store
        self._away = away

    def _pass(self, name: str) -> None:
        if self._away.get(name, 0) > 0:
            self._away[name] -= 1
            raise StoreUnavailable(f"{name} fails")

    def lease(self, answer_id: str, owner: str, seconds: float) -> Any:
        self._pass("lease")
        return self._store.lease(answer_id, owner, seconds)

    def renew(self, lease: Lease, seconds: float) -> Lease:
        self._pass("renew")
        return self._store.renew(lease, seconds)

    def emit(self, lease: Lease, text: str) -> None:
        self._pass("emit")
        self._store.emit(lease, text)

    def finish(self, lease: Lease, result: Draft | Failure, timings_ms: dict[str, float]) -> Answer:
        self._pass("finish")
        return self._store.finish(lease, result, timings_ms)

    def release(self, lease: Lease) -> None:
        self._pass("release")
        self._store.release(lease)


def test_a_store_that_is_away_for_a_moment_costs_nothing(store: SqliteAnswers) -> None:
    flaky = Flaky(store, lease=2, renew=1, emit=2, finish=3)
    result = runner(flaky).run(ask(store, "sleep: 0.1; say: a|b|c|d"))
    assert result.status == "done"
    assert store.get("a1").answer == "abcd"
    assert "".join(deltas(store)) == "abcd"
    assert store.get("a1").attempt == 1


def test_a_store_that_stays_away_is_given_up_and_another_attempt_follows(
    store: SqliteAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citewell.run._PATIENCE_S", 0.5)
    message = ask(store, "say: a|b")
    assert runner(Flaky(store, finish=1000)).run(message).status == "lost"
    assert store.get("a1").state is AnswerState.RUNNING
    time.sleep(0.7)
    assert store.due(queued=False) == [message]
    assert runner(store).run(message).status == "done"
    assert store.get("a1").attempt == 2


def test_a_store_that_cannot_be_reached_at_all(store: SqliteAnswers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citewell.run._PATIENCE_S", 0.3)
    with pytest.raises(StoreUnavailable):
        runner(Flaky(store, lease=1000)).run(ask(store, "say: a"))


def test_many_threads_on_one_runner(store: SqliteAnswers) -> None:
    working = runner(store)
    messages = [ask(store, "say: a|b; sleep: 0.01", f"a{n}") for n in range(20)]
    threads = [threading.Thread(target=working.run, args=(message,)) for message in messages * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    answers = [store.get(message.answer_id) for message in messages]
    assert {(a.state, a.attempt, a.answer) for a in answers} == {(AnswerState.DONE, 1, "ab")}
