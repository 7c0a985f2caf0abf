"""Processes of the tests' own: free ports, waiting, ending by id, and the tail of a log."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

LOOPBACK = "127.0.0.1"
# Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that
# no client can take a server's port while a fault test has the server down.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on.

    Raises:
        OSError: a hundred random ports were all in use.
    """
    for _ in range(100):
        port = random.choice(_PORTS)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if _binds(probe, port):
                return port
    raise OSError(
        f"no free port on {LOOPBACK} between {_PORTS.start} and {_PORTS.stop}: "
        "100 random ones were in use; stop some of the servers"
    )


def _binds(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind((LOOPBACK, port))
    except OSError:  # in use: the caller tries another
        return False
    return True


def wait_until(ready: Callable[[], bool], timeout: float, pause: float = 0.1) -> bool:
    """Ask `ready` every `pause` seconds until it says yes; False after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to one process; a process that has ended already is fine."""
    with suppress(ProcessLookupError):  # it ended first, which is what the caller wants
        os.kill(pid, number)


def ended_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process ends (and is reaped) within that time."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:  # the answer, not a failure
        return False
    return True


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process that was started with `start_new_session`, and all it has started.

    Must be called before the process is reaped, while its id cannot be anybody else's.
    """
    with suppress(ProcessLookupError):  # all have ended, which is what the caller wants
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Where nobody reaps orphans they count as alive for ever, hence a limit.
    wait_until(lambda: not _has_members(process.pid), timeout=5)


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:  # the answer: the group is empty
        return False
    return True


def end_in_order_on_sigterm() -> None:
    """Make SIGTERM an interruption like Ctrl-C, so that the servers of this run are stopped."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def tail(path: Path, lines: int = 40) -> str:
    """The last lines of a log; says so when there is no such file."""
    if not path.exists():
        return f"(no log at {path})"
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
