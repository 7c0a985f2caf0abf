"""The final record reaches the address that its asker named: signed, at least once, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from citewell import checkup
from citewell.answers import findings as wrong
from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.callbacks import Postman, is_public, secret_bytes
from citewell.config import load_settings
from citewell.errors import ConfigError, InvalidCallback
from citewell.ports import POST_S, Answers
from citewell.records import Answer, AnswerState, Callback, Draft, Evidence, Failure, Job, Question, Terms
from citewell.service.app import create_app
from tests.contracts.test_answers import Clock, granted
from tests.receiver import Got, receiving
from tests.service.small import assert_error
from tests.stacks import COLUMNS, Column, column

SECRET = "a secret between two"
INSIDE: dict[str, Any] = {
    "callback_hosts": ["127.0.0.1", "localhost", "rebind.test"],
    "callback_secret": SECRET,
    "callback_private": True,
}


def make_job(answer_id: str = "a1", url: str = "http://127.0.0.1/x", **more: Any) -> Job:
    return Job(answer_id=answer_id, question=Question(text="?"), evidence=Evidence(), callback_url=url, **more)


def verified(got: Got, secret: bytes = SECRET.encode()) -> None:
    """What a receiver does, by the specification and without our code."""
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60
    assert got.headers["webhook-id"] == got.record["id"]
    assert got.headers["content-type"] == "application/json"


class TestOutbox:
    """What the stores promise."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture(params=COLUMNS)
    def make(self, request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Callable[[], Answers]]:
        with ExitStack() as stack:

            def make_one() -> Answers:
                store: Answers
                given: dict[str, Any] = {"data_dir": tmp_path / "data", "callback_attempts": 4}
                if request.param == "redis":
                    url = request.getfixturevalue("redis_db_url")
                    store = RedisAnswers(load_settings(redis_url=url, **given), clock=clock)
                else:
                    store = SqliteAnswers(load_settings(**given), clock=clock)
                stack.callback(store.close)
                store.load()
                return store

            yield make_one

    @pytest.fixture
    def store(self, make: Callable[[], Answers]) -> Answers:
        return make()

    def finished(self, store: Answers, answer_id: str = "a1", **more: Any) -> Answer:
        store.create(make_job(answer_id, **more))
        return store.finish(granted(store, answer_id), Draft(text="x"), {})

    def test_every_final_state_owes_it(self, store: Answers, clock: Clock) -> None:
        self.finished(store, "done")
        store.create(make_job("failed"))
        store.finish(granted(store, "failed"), Failure(code="x", message="y"), {})
        store.create(make_job("cancelled"))
        store.cancel("cancelled")
        store.create(make_job("expired", expires_in=1.0))
        store.create(make_job("killed", max_attempts=1))
        granted(store, "killed")
        store.create(make_job("queued"))
        assert self.finished(store, "silent", url="").callback is None
        clock.now += 11
        store.due(queued=True)
        assert store.lease("killed", "w", 10).status == "final"
        letters = {letter.id: letter.state.value for letter in store.letters(100)}
        states = {"done", "failed", "cancelled", "expired"}
        assert letters == {name: name for name in states} | {"killed": "failed"}

    def test_not_before_the_end(self, store: Answers) -> None:
        store.create(make_job())
        lease = granted(store)
        assert store.letters(10) == []
        assert store.posted("a1", "") is None
        assert store.finish(lease, Draft(text="x"), {}).callback == Callback(url="http://127.0.0.1/x")
        assert [letter.id for letter in store.letters(10)] == ["a1"]

    def test_one_letter_is_given_to_one_process(self, make: Callable[[], Answers], clock: Clock) -> None:
        first, second = make(), make()
        for number in range(5):
            self.finished(first, f"a{number}")
        mine, theirs = first.letters(3), second.letters(3)
        assert (len(mine), len(theirs)) == (3, 2)
        assert not {letter.id for letter in mine} & {letter.id for letter in theirs}
        clock.now += POST_S - 1
        assert first.letters(10) == []

    def test_what_nobody_noted_is_given_out_again(self, make: Callable[[], Answers], clock: Clock) -> None:
        store = make()
        self.finished(store)
        assert len(store.letters(10)) == 1
        clock.now += POST_S
        assert [letter.id for letter in make().letters(10)] == ["a1"]

    def test_delivered_is_the_end(self, store: Answers, clock: Clock) -> None:
        self.finished(store)
        before = store.events("a1")
        store.letters(10)
        noted = store.posted("a1", "")
        assert noted is not None
        assert noted.callback == Callback(url="http://127.0.0.1/x", state="delivered", attempts=1, at=clock.now)
        assert store.get("a1") == noted
        assert store.events("a1") == before, "nothing follows the final event"
        clock.now += 1000
        assert store.letters(10) == []
        assert store.posted("a1", "") is None

    def test_pauses_grow_and_end(self, store: Answers, clock: Clock) -> None:
        self.finished(store)
        for attempt, pause in ((1, 1), (2, 2), (3, 4)):
            assert len(store.letters(10)) == 1
            noted = store.posted("a1", f"status 50{attempt}")
            assert noted is not None
            assert noted.callback is not None
            assert (noted.callback.state, noted.callback.attempts) == ("pending", attempt)
            clock.now += pause - 0.1
            assert store.letters(10) == []
            clock.now += 0.2
        assert len(store.letters(10)) == 1
        store.posted("a1", "status 504")
        ended = store.get("a1").callback
        assert ended is not None
        assert (ended.state, ended.attempts, ended.reason, ended.at) == ("given_up", 4, "status 504", clock.now)
        clock.now += 10_000
        assert store.letters(10) == []
        assert store.get("a1").state is AnswerState.DONE

    def test_an_answer_that_is_gone_owes_nothing(self, store: Answers, clock: Clock, request: Any) -> None:
        self.finished(store)
        if isinstance(store, RedisAnswers):
            with redis.Redis.from_url(request.getfixturevalue("redis_db_url"), decode_responses=True) as client:
                client.delete(*client.scan_iter("*{a1}"))
                assert store.letters(10) == []
                assert not client.exists("citewell:due:callback")
        else:
            clock.now += 90_000
            store.due(queued=True)
            assert store.letters(10) == []
        assert store.posted("a1", "") is None

    def test_the_doctor_finds_one_that_nobody_would_post(self, store: Answers, request: Any, tmp_path: Path) -> None:
        self.finished(store)
        assert list(checkup.look(store.inspection(), fix=False)) == []
        if isinstance(store, RedisAnswers):
            with redis.Redis.from_url(request.getfixturevalue("redis_db_url")) as client:
                client.delete("citewell:due:callback")
        else:
            assert isinstance(store, SqliteAnswers)
            with store._file.write("be spoilt") as writer:
                writer.execute("UPDATE answers SET callback_at = 0")
        assert store.letters(10) == []
        (result,) = checkup.look(store.inspection(), fix=True)
        assert (result.finding.kind, result.fixed) == (wrong.UNPOSTED, True)
        assert list(checkup.look(store.inspection(), fix=False)) == []
        assert len(store.letters(10)) == 1


class TestAddresses:
    @pytest.mark.parametrize(
        "address",
        ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
         "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "2002:7f00:1::",
         "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"],
    )  # fmt: skip
    def test_inside(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
    def test_of_the_open_internet(self, address: str) -> None:
        assert is_public(address)

    @pytest.fixture
    def strict(self, tmp_path: Path) -> Iterator[Postman]:
        settings = load_settings(
            data_dir=tmp_path, callback_hosts=["hooks.example.org", "*.example.net", "127.0.0.1"], callback_secret="s"
        )
        store = SqliteAnswers(settings)
        yield Postman(store, settings)
        store.close()

    @pytest.mark.parametrize(
        "url",
        ["https://hooks.example.org/x?y=1", "http://HOOKS.example.org:8080", "https://a.b.example.net/"],
    )  # fmt: skip
    def test_allowed(self, strict: Postman, url: str) -> None:
        strict.check(url)

    @pytest.mark.parametrize(
        "url",
        ["", "hooks.example.org", "ftp://hooks.example.org/", "https://example.org/", "https://example.net/",
         "https://evilexample.net/", "https://hooks.example.org.evil.com/", "https://user@hooks.example.org/",
         "https://hooks.example.org@evil.com/", "https://evil.com\\@hooks.example.org/", "http://hooks.example.org:0/",
         "http://hooks.example.org:99999/", "https://hooks.example.org/#x", "https:///x", "http://127.0.0.1/",
         "http://[::1", "https://hooks.example.org/" + "x" * 2000, "file:///etc/passwd", "http://2130706433/",
         "https://hooks.example.org\n.evil.com/"],
    )  # fmt: skip
    def test_refused(self, strict: Postman, url: str) -> None:
        with pytest.raises(InvalidCallback) as caught:
            strict.check(url)
        assert caught.value.remedy

    def test_without_hosts_nothing_is_posted(self, tmp_path: Path) -> None:
        with column("sqlite", tmp_path) as stack, pytest.raises(InvalidCallback):
            stack.engine.submit(Question(text="?"), terms=Terms(callback_url="https://hooks.example.org/"))

    def test_hosts_want_a_secret(self) -> None:
        with pytest.raises(ConfigError, match="callback_secret"):
            load_settings(callback_hosts=["hooks.example.org"])

    def test_secrets_of_the_specification(self) -> None:
        assert secret_bytes("whsec_" + base64.b64encode(b"raw").decode()) == b"raw"
        assert secret_bytes("whsec_ not base64") == b"whsec_ not base64"
        assert secret_bytes("plain") == b"plain"


def names(monkeypatch: pytest.MonkeyPatch, host: str, *answers: list[str]) -> list[str]:
    """A resolver of ours for one name, whose answer changes with each look-up; returns the look-ups made."""
    real, asked = socket.getaddrinfo, list[str]()

    def look_up(name: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if name != host:
            return real(name, port, *rest, **more)
        asked.append(name)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


class TestPosting:
    """One process, over SQLite."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def open_office(self, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., tuple[SqliteAnswers, Postman]]]:
        with ExitStack() as stack:

            def open_one(**given: Any) -> tuple[SqliteAnswers, Postman]:
                settings = load_settings(**(INSIDE | {"data_dir": tmp_path, "callback_attempts": 2} | given))
                store = SqliteAnswers(settings, clock=clock)
                store.load()
                stack.callback(store.close)
                return store, Postman(store, settings)

            yield open_one

    def after(self, store: Answers, postman: Postman, url: str) -> Callback:
        store.create(make_job("a1", url))
        store.cancel("a1")
        assert postman.post_due() == 1
        callback = store.get("a1").callback
        assert callback is not None
        return callback

    def test_the_record_as_it_is_signed(self, open_office: Any) -> None:
        store, postman = open_office()
        with receiving() as receiver:
            assert self.after(store, postman, receiver.url()).state == "delivered"
        (got,) = receiver.got
        verified(got)
        assert (got.path, got.headers["host"]) == ("/done?for=me", f"127.0.0.1:{receiver.port}")
        assert got.headers["user-agent"].startswith("citewell/")
        assert Answer.model_validate(got.record).state is AnswerState.CANCELLED

    @pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
    def test_what_the_receiver_refuses_is_tried_again(self, open_office: Any, clock: Clock, status: int) -> None:
        store, postman = open_office()
        with receiving([status]) as receiver:
            first = self.after(store, postman, receiver.url())
            assert (first.state, first.attempts) == ("pending", 1)
            assert str(status) in first.reason
            clock.now += 1
            assert postman.post_due() == 1
        assert len(receiver.got) == 2
        assert {got.body for got in receiver.got} != {receiver.got[0].body}, "the second tells of the first attempt"
        callback = store.get("a1").callback
        assert callback is not None
        assert (callback.state, callback.attempts, callback.reason) == ("delivered", 2, "")

    def test_redirects_are_not_followed(self, open_office: Any) -> None:
        store, postman = open_office()
        with receiving() as other, receiving([302], location=other.url()) as receiver:
            assert "302" in self.after(store, postman, receiver.url()).reason
        assert len(receiver.got) == 1
        assert other.got == []

    def test_nobody_there(self, open_office: Any) -> None:
        store, postman = open_office()
        assert "cannot be reached" in self.after(store, postman, "http://127.0.0.1:9/").reason

    def test_a_name_that_resolves_to_something_else_a_moment_later(
        self, open_office: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, postman = open_office()
        with receiving() as receiver:
            asked = names(monkeypatch, "rebind.test", ["127.0.0.1"], ["127.0.0.2"])
            assert self.after(store, postman, receiver.url("rebind.test")).state == "delivered"
        assert asked == ["rebind.test"], "the address that was looked at is the one that was posted to"
        assert receiver.got[0].headers["host"] == f"rebind.test:{receiver.port}"

    @pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["169.254.169.254"]])
    def test_a_name_that_resolves_to_the_inside(
        self, open_office: Any, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
    ) -> None:
        store, postman = open_office(callback_private=False)
        with receiving() as receiver:
            names(monkeypatch, "rebind.test", addresses)
            callback = self.after(store, postman, receiver.url("rebind.test"))
        assert receiver.got == []
        assert callback.state == "pending"
        assert addresses[-1] in callback.reason

    def test_the_next_address_where_the_first_does_not_answer(
        self, open_office: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, postman = open_office()
        with receiving() as receiver:
            names(monkeypatch, "rebind.test", ["127.0.0.3", "127.0.0.1"])
            assert self.after(store, postman, receiver.url("rebind.test")).state == "delivered"

    def test_a_host_that_is_allowed_no_more(self, open_office: Any, clock: Clock) -> None:
        store, _ = open_office()
        _, postman = open_office(callback_hosts=["elsewhere.example"])
        with receiving() as receiver:
            assert "127.0.0.1" in self.after(store, postman, receiver.url()).reason
            clock.now += 1
            postman.post_due()
        assert receiver.got == []
        callback = store.get("a1").callback
        assert callback is not None
        assert callback.state == "given_up"

    def test_a_receiver_that_hangs_does_not_hold_up_the_others(self, open_office: Any) -> None:
        store, postman = open_office()
        with receiving(hold_s=2.0) as slow, receiving() as quick:
            store.create(make_job("slow", slow.url()))
            store.cancel("slow")
            for number in range(6):
                store.create(make_job(f"quick{number}", quick.url()))
                store.cancel(f"quick{number}")
            began = time.time()
            assert postman.post_due() == 7
            assert max(got.at for got in quick.got) - began < 1.5

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on PATH")
    def test_certificates_are_checked_by_name(
        self, open_office: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
    ) -> None:
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=rebind.test"]
        command += ["-addext", "subjectAltName=DNS:rebind.test", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        names(monkeypatch, "rebind.test", ["127.0.0.1"])
        store, postman = open_office()
        with receiving(tls=tls) as receiver:
            assert self.after(store, postman, receiver.url("rebind.test")).state == "delivered"
            store.create(make_job("a2", receiver.url("localhost")))
            store.cancel("a2")
            postman.post_due()
        refused = store.get("a2").callback
        assert refused is not None
        assert refused.state == "pending"
        assert len(receiver.got) == 1


@pytest.fixture(params=COLUMNS)
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Column]:
    url = request.getfixturevalue("redis_db_url") if request.param == "redis" else ""
    with column(request.param, tmp_path, url, **INSIDE) as made:
        yield made


def callback_of(stack: Column, answer_id: str, within_s: float = 30.0) -> Callback:
    """The callback once it is noted as over."""
    deadline = time.monotonic() + within_s
    while True:
        callback = stack.store.get(answer_id).callback
        assert callback is not None
        if callback.state != "pending":
            return callback
        assert time.monotonic() < deadline, callback
        time.sleep(0.05)


def test_the_whole_way(stack: Column) -> None:
    """Over HTTP, to real workers, to a receiver that refuses the first two times."""
    stack.start_workers()
    http = create_app(stack.settings, stack.engine).test_client()
    with receiving([500, 503]) as receiver:
        body = {"question": "say: told", "callback_url": receiver.url()}
        answer_id = http.post("/v1/answers", json=body).get_json()["id"]
        callback = callback_of(stack, answer_id)
    assert (callback.state, callback.attempts, callback.reason) == ("delivered", 3, "")
    assert len(receiver.got) == 3
    for got in receiver.got:
        verified(got)
        assert (got.record["state"], got.record["answer"]) == ("done", "told")
    first, second, third = (got.at for got in receiver.got)
    assert second - first >= 0.9
    assert third - second >= 1.9
    record = http.get(f"/v1/answers/{answer_id}").get_json()
    assert record["callback"]["state"] == "delivered"
    assert SECRET not in str(record)


def test_http_refuses_other_hosts(stack: Column) -> None:
    http = create_app(stack.settings, stack.engine).test_client()
    response = http.post("/v1/answers", json={"question": "say: x", "callback_url": "https://evil.example/x"})
    assert "evil.example" in assert_error(response, 400, "invalid_callback")["message"]


def test_many_are_posted_once_each(stack: Column) -> None:
    stack.start_workers(2)
    with receiving() as receiver:
        terms = Terms(callback_url=receiver.url())
        ids = [stack.engine.submit(Question(text=f"say: {n}"), terms=terms).id for n in range(30)]
        assert {callback_of(stack, answer_id, 60).state for answer_id in ids} == {"delivered"}
    assert sorted(got.record["id"] for got in receiver.got) == sorted(ids)
