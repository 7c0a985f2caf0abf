"""`serve` as a process of its own on a loopback port."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from citewell.client import Client
from citewell.records import AnswerState, Document, Question
from tests.servers.processes import free_port, wait_until
from tests.service.small import DOCUMENTS


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    url: str
    port: int
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(self.url + "/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> float:
        """Seconds from SIGTERM to the end."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return time.monotonic() - started


def start(folder: Path, host: str, port: int, *more: str) -> Running:
    log = folder / f"server-{port}.log"
    command = [sys.executable, "-m", "tests.service.small_server", str(folder / "data"), host, str(port), *more]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=Path(__file__).parents[2])
    return Running(process, f"http://127.0.0.1:{port}", port, log)


@contextmanager
def running(folder: Path, host: str = "127.0.0.1", *more: str) -> Iterator[Running]:
    """A server that is healthy, and gone afterwards."""
    started = start(folder, host, free_port(), *more)
    try:
        assert wait_until(started.healthy, 60)
        yield started
    finally:
        started.process.kill()
        started.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """A server for one test, which may stop it."""
    with running(tmp_path) as started:
        yield started


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server for all tests that leave it running."""
    with running(tmp_path_factory.mktemp("shared")) as started:
        yield started


def test_the_whole_way_over_the_wire(server: Running) -> None:
    with Client(server.url) as client:
        documents = [Document.model_validate(d) for d in DOCUMENTS] + [Document(id="日本/a//b?.md", text="Some words.")]
        assert [outcome.status for outcome in client.put(documents)] == ["added"] * 4
        assert client.document("日本/a//b?.md").doc_id == "日本/a//b?.md"
        answer = client.submit(Question(text="How long does the warranty of a lamp last?"))
        events = list(client.events(answer.id))
        assert events[-1].kind == "final"
        final = client.answer(answer.id, wait_s=10)
        assert final.state is AnswerState.DONE
        assert final.citations
    assert any(line["event"] == "listening" and line["address"] == server.url for line in server.lines())
    assert server.stop() < 5
    assert server.process.returncode == 0
    assert server.lines()[-1]["event"] == "stopped"


def test_sigterm_ends_open_streams_and_polls_within_5_s(server: Running) -> None:
    with Client(server.url) as client:
        answer = client.submit(Question(text="sleep: 60; say: never"), "scripted")
    with httpx.stream("GET", f"{server.url}/v1/answers/{answer.id}/events", timeout=30) as stream:
        chunks = stream.iter_bytes()
        assert b"retry:" in next(chunks)
        states: list[str] = []
        poll = threading.Thread(
            target=lambda: states.append(
                httpx.get(f"{server.url}/v1/answers/{answer.id}?wait=50", timeout=60).json()["state"]
            )
        )
        poll.start()
        time.sleep(1)
        assert server.stop() < 5
        assert b"final" not in b"".join(chunks)
        poll.join(10)
    assert states == ["running"]
    assert server.process.returncode == 0


def test_what_was_queued_survives_a_restart(server: Running, tmp_path: Path) -> None:
    with Client(server.url) as client:
        answer = client.submit(Question(text="sleep: 3; say: at last"), "scripted")
        assert wait_until(lambda: client.answer(answer.id).state is AnswerState.RUNNING, 10)
    server.stop()
    with running(tmp_path) as again, Client(again.url) as client:
        assert client.answer(answer.id, wait_s=30).answer == "at last"


def test_a_client_that_leaves_frees_its_place(shared: Running) -> None:
    def ended() -> int:
        return sum(line["event"] == "request" and line["path"].endswith("/events") for line in shared.lines())

    with Client(shared.url) as client:
        answer = client.submit(Question(text="sleep: 60; say: never"), "scripted")
        before = ended()
        for number in range(8):  # more than there are places
            with httpx.stream("GET", f"{shared.url}/v1/answers/{answer.id}/events", timeout=30) as stream:
                assert stream.status_code == 200
                next(stream.iter_bytes())
            if number % 4 == 3:
                assert wait_until(lambda gone=before + number: ended() > gone, 5)  # type: ignore[misc]
        client.cancel(answer.id)


def test_what_is_no_http_is_refused_in_json(shared: Running) -> None:
    for request in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", shared.port), timeout=10) as connection:
            connection.sendall(request)
            answer = b""
            while data := connection.recv(4096):
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.") and b" 400 " in head.split(b"\r\n")[0], answer
        assert b"application/json" in head
        assert json.loads(body)["error"]["code"] == "bad_input"


def test_a_body_over_the_limit_is_refused_in_json(shared: Running) -> None:
    response = httpx.post(
        shared.url + "/v1/documents", content=b" " * 5_000_000, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"
    assert "request_limit" in response.json()["error"]["remedy"]


def test_a_port_in_use_is_named(shared: Running, tmp_path: Path) -> None:
    second = start(tmp_path, "127.0.0.1", shared.port)
    assert second.process.wait(timeout=60) == 3
    error = second.lines()[-1]["error"]
    assert error["code"] == "config"
    assert str(shared.port) in error["message"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_a_key_it_stays_on_loopback(tmp_path: Path, host: str) -> None:
    refused = start(tmp_path, host, free_port())
    assert refused.process.wait(timeout=60) == 3
    error = refused.lines()[-1]["error"]
    assert error["code"] == "config"
    assert "api_key" in error["remedy"]


def test_with_a_key_it_listens_everywhere(tmp_path: Path) -> None:
    with running(tmp_path, "0.0.0.0", "api_key=secret") as locked:
        assert httpx.get(locked.url + "/v1/info").status_code == 401
        with Client(locked.url, "secret") as client:
            assert client.info()["version"]


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    refused = start(tmp_path, "192.0.2.1", free_port(), "api_key=secret")
    assert refused.process.wait(timeout=60) == 3
    assert "192.0.2.1" in refused.lines()[-1]["error"]["message"]
