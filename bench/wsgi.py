"""Which WSGI server: gunicorn (gthread), waitress and granian under the loads that this service has.

    pip install gunicorn waitress granian
    python bench/wsgi.py --rounds 5

Every server runs the same Flask app in its own process with the same number of threads; the load comes from this
process over loopback. The servers take turns within a round and the figures are ratios of one round's values, so that
other work on the machine falls on all of them alike; the table shows medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

SERVERS = ("waitress", "gunicorn", "granian")
THREADS = 40
SHORT_CLIENTS = 16
POLLS = 32
POLL_S = 2.0
STOP_LIMIT_S = 15.0
# What is measured: (key, meaning, whether less is better).
FIGURES = (
    ("short_rps", "short GETs a second, 16 connections", False),
    ("short_p99_ms", "short GET p99, ms", True),
    ("beside_p50_ms", "short GET p50 beside 32 long-polls, ms", True),
    ("beside_p99_ms", "short GET p99 beside 32 long-polls, ms", True),
    ("poll_late_ms", "worst long-poll beyond its 2 s, ms", True),
    ("sse_first_ms", "first event of a stream, median, ms", True),
    ("sse_closed_ms", "stream closed after the client left, ms", True),
    ("stop_idle_s", "SIGTERM to exit, idle, s", True),
    ("stop_stream_s", "SIGTERM to exit, one open stream, s", True),
    ("rss_mb", "resident memory of all its processes, MB", True),
    ("processes", "processes", True),
)


# The app and the three servers


def build_app() -> Flask:
    """A short route, a long-poll and a stream, all without work of their own."""
    app = Flask("bench")
    app.extensions["stopping"] = stopping = threading.Event()
    closed: list[float] = []

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/wait")
    def wait() -> dict[str, str]:
        stopping.wait(float(request.args["s"]))
        return {"status": "ok"}

    @app.get("/events")
    def events() -> Response:
        def stream() -> Iterator[str]:
            try:
                for number in range(600):
                    yield f"id: {number}\nevent: delta\ndata: {{}}\n\n"
                    if stopping.wait(0.05):
                        return
            finally:
                closed.append(time.monotonic())

        return Response(stream(), mimetype="text/event-stream")

    @app.get("/closed")
    def closings() -> dict[str, list[float]]:
        return {"closed": closed}

    return app


def run_waitress(port: int) -> None:
    from waitress.server import create_server

    app = build_app()
    server = create_server(app, host="127.0.0.1", port=port, threads=THREADS, asyncore_use_poll=True)

    def stop(*_: object) -> None:
        app.extensions["stopping"].set()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    server.run()


def run_gunicorn(port: int) -> None:
    from gunicorn.app.base import BaseApplication

    options = {
        "bind": f"127.0.0.1:{port}",
        "worker_class": "gthread",
        "workers": 1,
        "threads": THREADS,
        "graceful_timeout": 5,
        "keepalive": 60,
        "loglevel": "error",
    }
    if "control_socket_disable" in _gunicorn_settings():
        options["control_socket_disable"] = True

    class Server(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for key, value in options.items():
                self.cfg.set(key, value)

        def load(self) -> Flask:
            return build_app()

    Server().run()


def _gunicorn_settings() -> set[str]:
    from gunicorn.config import make_settings

    return set(make_settings())


def run_granian(port: int) -> None:
    from granian import Granian
    from granian.constants import Interfaces

    sys.path.insert(0, str(Path(__file__).parent))
    Granian(
        "wsgi:build_app",
        factory=True,
        address="127.0.0.1",
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=THREADS,
        workers_kill_timeout=5,
        log_enabled=False,
    ).serve()


# The load


class Connection:
    """One keep-alive HTTP/1.1 connection with as little Python as possible, so that the server is what is measured."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def send(self, path: str) -> None:
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the server closed the connection")
            self._rest += data
        head, _, self._rest = self._rest.partition(mark)
        return head

    def get(self, path: str) -> bytes:
        self.send(path)
        head = self.read_until(b"\r\n\r\n").lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while len(self._rest) < length:
            self._rest += self._socket.recv(65536)
        body, self._rest = self._rest[:length], self._rest[length:]
        return body

    def close(self) -> None:
        self._socket.close()


def in_threads(count: int, work: Callable[[], list[float]]) -> list[float]:
    """All values that `count` threads running `work` return; an error in one of them is raised here."""
    values: list[float] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            values.extend(work())
        except Exception as error:  # noqa: BLE001 - it is raised again in the calling thread
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return values


def short_gets(port: int, seconds: float) -> list[float]:
    connection = Connection(port)
    deadline, values = time.perf_counter() + seconds, []
    while (started := time.perf_counter()) < deadline:
        connection.get("/healthz")
        values.append((time.perf_counter() - started) * 1e3)
    connection.close()
    return values


def long_poll(port: int) -> list[float]:
    connection = Connection(port)
    started = time.perf_counter()
    connection.get(f"/wait?s={POLL_S}")
    connection.close()
    return [(time.perf_counter() - started - POLL_S) * 1e3]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure_short(port: int, seconds: float) -> dict[str, float]:
    short_gets(port, 0.3)
    values = in_threads(SHORT_CLIENTS, lambda: short_gets(port, seconds))
    return {"short_rps": len(values) / seconds, "short_p99_ms": percentile(values, 0.99)}


def measure_beside(port: int) -> dict[str, float]:
    late: list[float] = []
    polls = threading.Thread(target=lambda: late.extend(in_threads(POLLS, lambda: long_poll(port))))
    polls.start()
    time.sleep(0.3)
    values = in_threads(4, lambda: short_gets(port, POLL_S - 0.6))
    polls.join()
    return {
        "beside_p50_ms": percentile(values, 0.5),
        "beside_p99_ms": percentile(values, 0.99),
        "poll_late_ms": max(late),
    }


def measure_stream(port: int) -> dict[str, float]:
    firsts, delays = [], []
    for number in range(10):
        started = time.perf_counter()
        connection = Connection(port)
        connection.send("/events")
        connection.read_until(b"data:")
        firsts.append((time.perf_counter() - started) * 1e3)
        left = time.monotonic()
        connection.close()
        delays.append((_closed_at(port, number) - left) * 1e3)
    return {"sse_first_ms": statistics.median(firsts), "sse_closed_ms": statistics.median(delays)}


def _closed_at(port: int, number: int) -> float:
    """When the server closed its stream `number`; its monotonic clock is this machine's."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        connection = Connection(port)
        closed = json.loads(connection.get("/closed"))["closed"]
        connection.close()
        if len(closed) > number:
            return float(closed[number])
        time.sleep(0.01)
    return float("inf")


# One round


@contextlib.contextmanager
def running(name: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "--serve", name, str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = Connection(port)
                connection.get("/healthz")
                connection.close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield process, port
    finally:
        for pid in reversed(family(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found.extend(int(child) for child in task.read_text().split())
    return found


def resident_mb(pids: list[int]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def seconds_to_stop(process: subprocess.Popen[bytes]) -> float:
    started = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        return float("inf")
    return time.perf_counter() - started


def measure(name: str, seconds: float) -> dict[str, float]:
    with running(name) as (process, port):
        figures = measure_short(port, seconds) | measure_beside(port) | measure_stream(port)
        pids = family(process.pid)
        figures |= {"rss_mb": resident_mb(pids), "processes": len(pids)}
        figures["stop_idle_s"] = seconds_to_stop(process)
    with running(name) as (process, port):
        stream = Connection(port)
        stream.send("/events")
        stream.read_until(b"data:")
        figures["stop_stream_s"] = seconds_to_stop(process)
        stream.close()
    return figures


def report(rounds: list[dict[str, dict[str, float]]]) -> str:
    """The table in Markdown: medians, and ratios to the first server taken within each round."""
    lines = ["| figure | " + " | ".join(f"{name} {version(name)}" for name in SERVERS) + " |", "|---|" + "---:|" * 3]
    for key, meaning, _ in FIGURES:
        cells = []
        for name in SERVERS:
            middle = statistics.median(r[name][key] for r in rounds)
            ratio = statistics.median(r[name][key] / r[SERVERS[0]][key] for r in rounds)
            cells.append(f"{middle:.4g} (x{ratio:.2f})")
        lines.append(f"| {meaning} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the short GETs")
    parser.add_argument("--json", type=Path, help="where the figures of every round go")
    parser.add_argument(
        "--serve", nargs=2, metavar=("SERVER", "PORT"), help="run one server (used by the bench itself)"
    )
    arguments = parser.parse_args()
    if arguments.serve:
        name, port = arguments.serve
        {"waitress": run_waitress, "gunicorn": run_gunicorn, "granian": run_granian}[name](int(port))
        return
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(arguments.rounds):
        order = SERVERS[number % 3 :] + SERVERS[: number % 3]
        rounds.append({name: measure(name, arguments.seconds) for name in order})
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    result: dict[str, Any] = {"cores": os.cpu_count(), "python": platform.python_version(), "rounds": rounds}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {THREADS} threads, {len(rounds)} rounds\n")
    print(report(rounds))


if __name__ == "__main__":
    main()
