"""Loads whose body is read while it is sent, by a server that is a process of its own."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.processes import wait_until
from tests.service.test_live_server import Running, running

NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("streamed"), "127.0.0.1", "document_limit=200000") as started:
        yield started


def line(name: str, text: str = "The lamp is red.") -> bytes:
    return json.dumps({"id": name, "text": text, "lang": "en"}).encode() + b"\n"


def lines(prefix: str, count: int) -> bytes:
    return b"".join(line(f"{prefix}-{number}") for number in range(count))


class Load:
    """One connection that loads lines by chunks; outcomes are read when the test wants them."""

    def __init__(self, server: Running, *headers: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=60)
        head = ["POST /v1/documents HTTP/1.1", f"Host: 127.0.0.1:{server.port}", f"Content-Type: {NDJSON}"]
        head += headers or (f"Accept: {NDJSON}", "Transfer-Encoding: chunked")
        self.socket.sendall("\r\n".join([*head, "", ""]).encode())
        self.seen = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def receive(self) -> bytes:
        piece = self.socket.recv(1 << 16)
        self.seen += piece
        return piece

    def until(self, wanted: bytes) -> None:
        while wanted not in self.seen:
            assert self.receive(), self.seen[-500:]

    def send_until(self, name: str, wanted: bytes) -> int:
        """Send one line after the other until an outcome is there; how many were sent."""
        self.socket.settimeout(0.05)
        for number in range(1200):
            self.send(line(f"{name}-{number}"))
            try:
                self.receive()
            except TimeoutError:  # nothing yet
                continue
            if wanted in self.seen:
                self.socket.settimeout(60)
                return number + 1
        raise AssertionError("no outcome came")

    def statuses(self) -> list[str]:
        return re.findall(r'"status":"(\w+)"', self.seen.decode())


@pytest.fixture
def load(server: Running) -> Iterator[Load]:
    opened = Load(server)
    yield opened
    opened.socket.close()


def test_outcomes_come_while_the_body_is_sent(load: Load) -> None:
    load.send(lines("early", 1100))
    more = load.send_until("more", b'"early-99"')
    assert b"200 OK" in load.seen.splitlines()[0]
    load.send(b'{"id": "half", "te')  # a chunk ends anywhere
    load.send(b'xt": "The kettle is blue."}\n')
    load.end()
    load.until(b"\r\n0\r\n\r\n")
    assert load.statuses() == ["added"] * (1101 + more)


def test_a_client_that_reads_when_it_has_sent_all(server: Running) -> None:
    """Neither side waits for the other, although the outcomes are more than any buffer of the connection."""
    body = b"".join(b"%d\n" % number for number in range(150_000))
    answer = httpx.post(
        server.url + "/v1/documents", content=body, headers={"Content-Type": NDJSON, "Accept": NDJSON}, timeout=300
    )
    assert answer.status_code == 200
    assert len(answer.content) > 20_000_000
    assert answer.text.count('"status":"failed"') == 150_000


def test_a_client_that_goes_away_half_way(server: Running, load: Load) -> None:
    load.send(lines("left", 1100))
    load.send_until("late", b'"left-99"')
    load.send(b'{"id": "left-half", "text": "The te')
    load.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    load.socket.close()

    def ended() -> bool:
        return any(line["event"] == "request" and line["path"] == "/v1/documents" for line in server.lines()[before:])

    before = len(server.lines())
    assert wait_until(ended, 60), "its thread is free"
    assert httpx.get(server.url + "/v1/documents/left-99").status_code == 200, "what was told of is there"
    assert httpx.get(server.url + "/v1/documents/left-half").status_code == 404
    counts = httpx.post(
        server.url + "/v1/documents", content=lines("left", 1100), headers={"Content-Type": NDJSON}, timeout=60
    ).json()["counts"]
    assert counts["unchanged"] >= 100
    assert counts["added"] + counts["unchanged"] == 1100
    assert not [line for line in server.lines() if line.get("level") == "error" or "exception" in line]


def test_what_is_refused_is_answered_and_the_connection_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, "127.0.0.1", "api_key=secret") as locked:
        connection = http.client.HTTPConnection("127.0.0.1", locked.port, timeout=30)
        connection.request("POST", "/v1/documents", lines("locked", 1000), {"Content-Type": NDJSON})
        answer = connection.getresponse()
        assert answer.status == 401
        answer.read()
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


def test_it_waits_for_the_word_to_continue(server: Running) -> None:
    body = lines("expected", 3)
    load = Load(server, f"Content-Length: {len(body)}", "Expect: 100-continue", f"Accept: {NDJSON}")
    load.until(b"100 Continue\r\n\r\n")
    load.socket.sendall(body)
    load.until(b"\r\n0\r\n\r\n")
    assert load.statuses() == ["added"] * 3
    load.socket.close()


def test_the_next_request_may_come_with_the_end_of_a_body(server: Running) -> None:
    body = lines("next", 3)
    load = Load(server, f"Content-Length: {len(body)}", "Accept: application/json")
    load.socket.sendall(body + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    load.until(b'"version"')
    assert b'"added":3' in load.seen
    load.socket.close()


def test_a_body_that_is_broken_ends_with_what_came_before(load: Load) -> None:
    load.send(lines("whole", 2))
    load.socket.sendall(b"no length of a chunk\r\nwords\r\n")
    while load.receive():
        pass
    assert b'"whole-1"' in load.seen
    assert b"the body is broken" in load.seen.splitlines()[-1] or b"the body is broken" in load.seen


def test_the_service_stops_although_a_body_is_on_its_way(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        load = Load(server)
        load.send(lines("stopped", 1100))
        load.send_until("late", b'"stopped-99"')
        assert server.stop() < 15
        assert server.process.returncode == 0
        load.socket.close()


def resident(server: Running) -> int:
    """Most bytes that the process had resident at any time."""
    status = Path(f"/proc/{server.process.pid}/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def streamed(server: Running, pieces: Iterable[bytes]) -> Any:
    """Statuses and codes of the outcomes, counted; they are read in a thread of their own."""
    load = Load(server)
    seen: dict[str, int] = {}

    def read() -> None:
        rest = b""
        while piece := load.socket.recv(1 << 16):
            *whole, rest = (rest + piece).split(b"\n")
            for one in whole:
                if found := re.search(rb'"status":"(\w+)"', one):
                    seen[found[1].decode()] = seen.get(found[1].decode(), 0) + 1
            if rest.endswith(b"0\r\n\r\n") or whole[-2:] == [b"0\r", b"\r"]:
                return

    reader = threading.Thread(target=read)
    reader.start()
    for piece in pieces:
        load.send(piece)
    load.end()
    reader.join(300)
    assert not reader.is_alive()
    load.socket.close()
    return seen


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.timeout(900)
def test_four_hundred_megabytes_take_no_memory(server: Running) -> None:
    documents = [line(f"large-{n}", f"Shelf {n} in the attic holds jars of jam. " * 1000) for n in range(30)]
    rounds = 400_000_000 // sum(map(len, documents))
    assert streamed(server, documents) == {"added": 30}
    before = resident(server)
    started = time.monotonic()
    counts = streamed(server, itertools.chain.from_iterable(itertools.repeat(documents, rounds)))
    assert counts == {"unchanged": 30 * rounds}
    assert resident(server) - before < 150_000_000, f"after {time.monotonic() - started:.0f} s"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.timeout(900)
def test_a_line_of_two_gigabytes_fails_alone(server: Running) -> None:
    streamed(server, [lines("warm", 10)])
    before = resident(server)
    piece = b"x" * (1 << 20)
    pieces = [line("before-it"), *itertools.repeat(piece, 2000), b"\n", line("behind-it")]
    assert streamed(server, pieces) == {"added": 2, "failed": 1}
    assert resident(server) - before < 50_000_000
