"""Whatever dies, hangs, fills up or jumps: every accepted answer reaches exactly one final state, and none is lost.

Real processes that each test starts, with a Redis of its own that may be killed and filled. Together they take about
three minutes (docs/reliability.md has the figures).
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from citewell import checkup
from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.client import Client
from citewell.config import Settings, load_settings
from citewell.errors import Unavailable
from citewell.jobs import CeleryQueue
from citewell.ports import Answers
from citewell.records import Answer, AnswerState, Event, Evidence, Job, JobMessage, Question
from tests.cli.terminal import Terminal
from tests.receiver import receiving
from tests.servers.processes import free_port, wait_until
from tests.stacks import ROOT, Workers

LEASE_S = 1.5
_ADDRESSES = ("redis_url", "elasticsearch_url", "index_name", "lease_seconds")


class Site:
    """A Redis of the test's own, with workers, and what it has accepted."""

    def __init__(self, server: Any, folder: Path, generator: str = "extractive", **given: Any) -> None:
        self.server = server
        given = {"redis_url": server.url, "lease_seconds": LEASE_S, "workers": 2} | given
        self.settings: Settings = load_settings(**given)
        self.workers = Workers(folder, **given, names=sorted({generator, "extractive"}))
        self._terminal = Terminal(folder / "unused", stack="served", **{name: str(given[name]) for name in _ADDRESSES})
        self.store = RedisAnswers(self.settings)
        self.queue = CeleryQueue(self.settings)
        self.accepted: list[str] = []

    def ask(self, text: str, **more: Any) -> str:
        """Raises `Unavailable` for a question that is not accepted."""
        answer_id = f"a{len(self.accepted):04d}"
        self.store.create(Job(answer_id=answer_id, question=Question(text=text), evidence=Evidence(), **more))
        self.accepted.append(answer_id)
        self.queue.submit(JobMessage(answer_id=answer_id))
        return answer_id

    def ready(self, count: int) -> None:
        """So many workers say that they are."""
        assert wait_until(lambda: [w["state"] for w in self._listed()].count("ready") >= count, 60), self.workers.logs()

    def _listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.queue.info()["workers"]
        return found

    def healthy(self) -> None:
        """`citewell doctor` finds nothing, on the served stack, with the workers that are left."""
        report = self._terminal.json("doctor")
        assert report["ok"]
        assert (report["counts"], report["findings"]) == ({}, [])

    def close(self) -> None:
        self.workers.close()
        self.queue.close()
        self.store.close()
        print(self.workers.logs())


@pytest.fixture
def site(
    local_redis: Callable[..., Any], elasticsearch_url: str, index_name: str, tmp_path: Path
) -> Iterator[Callable[..., Site]]:
    """After each fault, and while the workers are still there, the doctor looks."""
    with ExitStack() as stack:

        def make(options: dict[str, str] | None = None, **given: Any) -> Site:
            given = {"elasticsearch_url": elasticsearch_url, "index_name": index_name} | given
            made = Site(local_redis(appendonly=True, options=options or {}), tmp_path, **given)
            stack.callback(made.close)
            sites.append(made)
            return made

        sites: list[Site] = []
        yield make
        for made in sites:
            made.healthy()


def settled(store: Answers, ids: Sequence[str], within_s: float = 60.0) -> list[Answer]:
    """Every answer once it is final; each has exactly one final event, and the doctor finds nothing."""
    deadline = time.monotonic() + within_s
    for answer_id in ids:
        while not (answer := store.get(answer_id)).state.final:
            assert time.monotonic() < deadline, f"{answer_id} is still {answer.state}, attempt {answer.attempt}"
            time.sleep(0.05)
    for answer_id in ids:
        events = store.events(answer_id)
        assert [event.kind for event in events].count("final") == 1, answer_id
        assert events[-1].kind == "final", f"{answer_id}: nothing is written after the end"
        assert events[-1].data["answer"]["state"] == store.get(answer_id).state.value
    # Messages that wait behind a dead worker's are dropped as they come; until then they are no findings either.
    assert list(checkup.look(store.inspection(), fix=False)) == []
    return [store.get(answer_id) for answer_id in ids]


def written(store: Answers, answer_id: str) -> int:
    """Pieces of text that are stored."""
    return len([event for event in store.events(answer_id) if event.kind == "delta"])


def until(holds: Callable[[], object], within_s: float = 60.0) -> None:
    assert wait_until(lambda: bool(holds()), within_s, 0.01)


def test_a_worker_killed_at_ten_points_of_an_answer(site: Callable[..., Site]) -> None:
    """Before the lease, at the lease, after each of seven pieces, and after the end.

    The next is asked when the one before is final: a kill would also end another attempt at that, and rightly count.
    """
    here = site(workers=1)
    worker = here.workers.start()
    here.ready(1)
    for point in range(10):
        answer_id = here.ask("sleep: 0.12; say: a|b|c|d|e|f|g")
        until(partial(_reached, here.store, answer_id, point))
        worker.kill()
        worker.wait()
        worker = here.workers.start()
        settled(here.store, [answer_id])
    answers = settled(here.store, here.accepted)
    assert {(answer.state, answer.answer) for answer in answers} == {(AnswerState.DONE, "abcdefg")}
    assert answers[9].attempt == 1
    assert all(answer.attempt <= 2 for answer in answers)
    assert sum(answer.attempt == 2 for answer in answers) >= 6, "most were killed in the middle"


def _reached(store: Answers, answer_id: str, point: int) -> bool:
    state = store.get(answer_id).state
    if point in (1, 9):
        return state.final if point == 9 else state is AnswerState.RUNNING
    return written(store, answer_id) >= point - 1


def test_a_killed_workers_answer_runs_again_within_15_s_with_the_default_settings(
    site: Callable[..., Site], tmp_path: Path
) -> None:
    here = site(lease_seconds=10.0, workers=1)
    for _ in range(2):
        here.workers.start()
    here.ready(2)
    died = tmp_path / "died"
    answer_id = here.ask(f"sleep: 0.2; say: a|b|c; die once: {died}; say: d")
    until(died.exists)
    killed = died.stat().st_mtime
    (answer,) = settled(here.store, [answer_id])
    assert (answer.answer, answer.attempt) == ("abcd", 2)
    second = next(e for e in here.store.events(answer_id) if e.kind == "state" and e.data["attempt"] == 2)
    took = int(second.id.split("-")[0]) / 1000 - killed
    print(f"running again {took:.1f} s after the kill")
    assert took < 15


def test_redis_killed_and_restarted_while_answers_are_written(site: Callable[..., Site]) -> None:
    here = site()
    for _ in range(2):
        here.workers.start()
    here.ready(2)
    refused = 0
    for _ in range(8):
        here.ask("sleep: 0.1; say: a|b|c|d|e|f")
    until(lambda: here.store.get(here.accepted[2]).state is not AnswerState.QUEUED)
    for _ in range(2):
        here.server.kill()
        for _ in range(2):
            with pytest.raises(Unavailable):
                here.ask("say: not accepted")
            refused += 1
        time.sleep(1)
        here.server.start()
        until(lambda: _works(here.store.load))
        for _ in range(3):
            here.ask("sleep: 0.1; say: a|b|c|d|e|f")
        time.sleep(1)
    answers = settled(here.store, here.accepted, 120)
    assert {(answer.state, answer.answer) for answer in answers} == {(AnswerState.DONE, "abcdef")}
    assert (len(answers), refused) == (14, 4)
    assert all(process.poll() is None for process in here.workers.processes), "workers outlive it"


def _works(call: Callable[[], object]) -> bool:
    try:
        call()
    except Unavailable:  # not yet
        return False
    return True


def test_redis_full(site: Callable[..., Site]) -> None:
    """Full, with noeviction, while answers are written: nothing new is accepted, and nothing accepted is lost."""
    here = site({"maxmemory": "24mb", "maxmemory-policy": "noeviction"})
    worker = here.workers.start()
    here.ready(1)
    for _ in range(6):
        here.ask("sleep: 0.15; say: a|b|c|d|e|f")
    until(lambda: here.store.get(here.accepted[0]).state is AnswerState.RUNNING)
    with filled(here.settings.redis_url):
        with pytest.raises(Unavailable, match=r"full|maxmemory") as caught:
            for _ in range(50):  # small ones may still fit
                here.ask("sleep: 0.1; say: a|b|c|d|e|f")
        assert "memory" in caught.value.remedy
        time.sleep(4)
    answers = settled(here.store, here.accepted, 120)
    assert {answer.state for answer in answers} <= {AnswerState.DONE, AnswerState.FAILED}
    assert all(a.answer == "abcdef" if a.state is AnswerState.DONE else a.error for a in answers)
    print(f"{sum(a.state is AnswerState.DONE for a in answers)} of {len(answers)} done; worker: {worker.poll()}")
    here.ask("say: again")
    assert settled(here.store, here.accepted[-1:])[0].answer == "again"
    assert worker.poll() is None, "it waited, and went on by itself"


def test_a_message_that_comes_while_redis_is_full(site: Callable[..., Site]) -> None:
    """Celery has it and cannot note that: the worker waits until it can, and its sweep makes up for the message."""
    here = site({"maxmemory": "24mb", "maxmemory-policy": "noeviction"}, workers=1)
    worker = here.workers.start()
    here.ready(1)
    worker.send_signal(signal.SIGSTOP)  # its waiting read is served all the same
    try:
        for _ in range(3):
            here.ask("say: a|b")
        with filled(here.settings.redis_url):
            worker.send_signal(signal.SIGCONT)
            time.sleep(4)
            assert worker.poll() is None, "it waits"
    finally:
        worker.send_signal(signal.SIGCONT)
    answers = settled(here.store, here.accepted)
    assert {(answer.state, answer.answer) for answer in answers} == {(AnswerState.DONE, "ab")}
    assert worker.poll() is None, "and goes on by itself"


@contextmanager
def filled(url: str) -> Iterator[None]:
    """A Redis that takes nothing more, for the length of a block."""
    with closing(redis.Redis.from_url(url)) as client:
        filler = 0
        for size in (1_000_000, 50_000, 1000):
            try:
                while True:
                    client.set(f"filler:{filler}", b"x" * size)
                    filler += 1
            except redis.exceptions.OutOfMemoryError:
                continue
        try:
            yield
        finally:
            for number in range(filler):
                client.delete(f"filler:{number}")


def test_a_worker_that_hangs_and_wakes_up_writes_nothing_more(site: Callable[..., Site]) -> None:
    here = site(workers=1)
    sleeper = here.workers.start()
    here.ready(1)
    for _ in range(4):
        here.ask("sleep: 0.15; say: a|b|c|d|e|f")
    until(lambda: written(here.store, here.accepted[0]) >= 2)
    sleeper.send_signal(signal.SIGSTOP)
    here.workers.start()
    try:
        first = here.accepted[0]
        until(lambda: here.store.get(first).attempt == 2)
    finally:
        sleeper.send_signal(signal.SIGCONT)
    answers = settled(here.store, here.accepted)
    assert {(answer.state, answer.answer) for answer in answers} == {(AnswerState.DONE, "abcdef")}
    assert answers[0].attempt == 2
    until(lambda: "lease_lost" in here.workers.logs())
    attempts = [e.data["attempt"] for e in here.store.events(here.accepted[0]) if e.kind == "delta"]
    assert attempts == sorted(attempts), "after the second attempt began the first wrote nothing"
    here.ask("say: both work")
    assert settled(here.store, here.accepted)[-1].answer == "both work"
    assert sleeper.poll() is None


def test_sigterm_lets_answers_end_and_loses_none(site: Callable[..., Site]) -> None:
    here = site()
    leaving, _ = here.workers.start(), here.workers.start()
    here.ready(2)
    for _ in range(12):
        here.ask("sleep: 0.1; say: a|b|c|d|e|f")
    until(lambda: here.store.get(here.accepted[2]).state is AnswerState.RUNNING)
    leaving.send_signal(signal.SIGTERM)
    assert leaving.wait(30) == 0
    answers = settled(here.store, here.accepted)
    assert {(answer.state, answer.answer, answer.attempt) for answer in answers} == {(AnswerState.DONE, "abcdef", 1)}


def test_clocks_that_jump(site: Callable[..., Site], tmp_path: Path) -> None:
    """Two workers' wall clocks jump while they write, a day forth and a day back.

    Leases are by Redis's clock, so that nobody takes over what is being written.
    """
    here = site(workers=1)
    clocks = {tmp_path / "forth": 86_400, tmp_path / "back": -86_400}
    for clock in clocks:
        clock.write_text("0")
        here.workers.start(clock=str(clock))
    here.ready(2)
    for _ in range(6):
        here.ask("sleep: 0.25; say: a|b|c|d|e|f|g|h")  # longer than a lease
    until(lambda: [here.store.get(name).state for name in here.accepted].count(AnswerState.RUNNING) == 2)
    for clock, jump in clocks.items():
        clock.write_text(str(jump))
    answers = settled(here.store, here.accepted)
    assert {(answer.state, answer.answer, answer.attempt) for answer in answers} == {(AnswerState.DONE, "abcdefgh", 1)}
    time.sleep(6)  # until both have given their sign of life by clocks that are two days apart
    here.ready(2)


def test_two_workers_of_one_name(site: Callable[..., Site]) -> None:
    here = site(workers=1)
    first, _ = (here.workers.start(owner="worker-1") for _ in range(2))
    here.ready(2)
    for _ in range(6):
        here.ask("sleep: 0.1; say: a|b|c|d|e|f")
    until(lambda: [here.store.get(name).state for name in here.accepted].count(AnswerState.RUNNING) == 2)
    first.kill()
    answers = settled(here.store, here.accepted)
    assert {(answer.state, answer.answer) for answer in answers} == {(AnswerState.DONE, "abcdef")}
    assert sorted(answer.attempt for answer in answers)[:5] == [1, 1, 1, 1, 1]


def test_a_worker_killed_while_it_posts(site: Callable[..., Site]) -> None:
    """After the claim, before the note: another posts the record again, half a minute later."""
    here = site(callback_hosts=["127.0.0.1"], callback_private=True, callback_secret="s")
    worker = here.workers.start()
    here.ready(1)
    with receiving(hold_s=3.0) as receiver:
        answer_id = here.ask("say: told", callback_url=receiver.url())
        receiver.wait(1)
        worker.kill()
        worker.wait()
        receiver.hold_s = 0.0
        here.workers.start()
        receiver.wait(2, within_s=60)
        until(lambda: "delivered" in here.store.get(answer_id).to_json())
    assert {got.record["answer"] for got in receiver.got} == {"told"}
    settled(here.store, [answer_id])


def test_a_worker_killed_before_it_posts(site: Callable[..., Site]) -> None:
    here = site(callback_hosts=["127.0.0.1"], callback_private=True, callback_secret="s")
    with receiving([500] * 2) as receiver:
        worker = here.workers.start()
        here.ready(1)
        answer_id = here.ask("say: told", callback_url=receiver.url())
        until(lambda: here.store.get(answer_id).state.final)
        worker.kill()
        worker.wait()
        here.workers.start()
        until(lambda: "delivered" in here.store.get(answer_id).to_json())
    assert receiver.got[-1].record["answer"] == "told"
    settled(here.store, [answer_id])


# The process of the API


class Api:
    """The API as a process that can be killed and started again on its port."""

    def __init__(self, kind: str, folder: Path, **given: Any) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "tests.answer_server", kind]
        self._command.append(json.dumps({"folder": str(folder), "port": self.port, "lease_seconds": LEASE_S} | given))
        self._log = folder / "api.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log)
        assert wait_until(self._healthy, 60), self._log.read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _healthy(self) -> bool:
        try:
            return httpx.get(self.url + "/healthz", timeout=2).status_code == 200
        except httpx.TransportError:  # not yet
            return False


@contextmanager
def api_of(kind: str, folder: Path, **given: Any) -> Iterator[Api]:
    api = Api(kind, folder, **given)
    try:
        api.start()
        yield api
    finally:
        api.kill()


class Follower:
    """A client that follows an answer in a thread, and comes back when its connection breaks."""

    def __init__(self, url: str, answer_id: str) -> None:
        self.events: list[Event] = []
        self._url = url
        self._answer_id = answer_id
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        with Client(self._url) as client:
            while not (self.events and self.events[-1].kind == "final"):
                after = self.events[-1].id if self.events else ""
                try:
                    for event in client.events(self._answer_id, after):
                        self.events.append(event)
                except Unavailable:  # a busy machine takes longer to start the service than the client is patient
                    time.sleep(0.5)

    def deltas(self) -> int:
        return len([event for event in self.events if event.kind == "delta"])

    def all(self) -> list[Event]:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.events


def test_the_api_killed_during_a_stream(site: Callable[..., Site], tmp_path: Path) -> None:
    """The worker goes on meanwhile; the client gets exactly what it had not seen."""
    here = site(generator="scripted")
    here.workers.start()
    with api_of("redis", tmp_path, redis_url=here.settings.redis_url, index_name=here.settings.index_name) as api:
        with Client(api.url) as client:
            answer = client.submit(Question(text="sleep: 0.2; echo: 60"))
        follower = Follower(api.url, answer.id)
        until(lambda: follower.deltas() >= 5)
        api.kill()
        api.start()
        seen = follower.all()
    assert seen == here.store.events(answer.id)
    (done,) = settled(here.store, [answer.id])
    text = "".join(event.data["text"] for event in seen if event.kind == "delta")
    assert (done.attempt, done.answer, text) == (1, text, "".join(f"{n} " for n in range(60)))


def test_the_embedded_process_killed_while_it_answers(tmp_path: Path) -> None:
    """API, queue and generator die together; the client follows into the second attempt, and the callback comes."""
    hooks = {"callback_hosts": ["127.0.0.1"], "callback_private": True, "callback_secret": "s"}
    with receiving() as receiver, api_of("sqlite", tmp_path, **hooks) as api:
        ids = []
        for _ in range(4):
            body = {"question": "sleep: 0.1; echo: 20", "callback_url": receiver.url()}
            ids.append(httpx.post(f"{api.url}/v1/answers", json=body).json()["id"])
        follower = Follower(api.url, ids[0])
        until(lambda: follower.deltas() >= 5)
        api.kill()
        api.start()
        seen = follower.all()
        with Client(api.url) as client:
            until(lambda: all(client.answer(name).state.final for name in ids))
            until(lambda: all("delivered" in client.answer(name).to_json() for name in ids))
    store = SqliteAnswers(load_settings(data_dir=tmp_path / "data", lease_seconds=LEASE_S))
    store.load()
    assert seen == store.events(ids[0])
    answers = settled(store, ids)
    assert {(answer.state, answer.answer) for answer in answers} == {
        (AnswerState.DONE, " ".join(str(n) for n in range(20)))
    }
    assert [answer.attempt for answer in answers] == [2, 2, 1, 1]
    assert sorted({got.record["id"] for got in receiver.got}) == sorted(ids)
    store.close()
