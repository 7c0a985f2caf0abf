"""A real Redis server of the tests' own."""

import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from tests.servers import environment, processes
from tests.servers.errors import ServerStartError, ServerUnavailableError

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
# One logical database a test; far more than Redis's usual 16, so that runs can share a server.
_DATABASES = 256


class RedisServer:
    """One server on the loopback interface, with data that outlives a stop until `close`.

    Args:
        appendonly: log every write to disk before it is acknowledged, so that data survive `kill`.
        options: further directives of redis.conf, e.g. {"maxmemory": "16mb"}.
    """

    def __init__(self, *, appendonly: bool = False, options: dict[str, str] | None = None) -> None:
        self.name = f"citewell-redis-{secrets.token_hex(6)}"
        self._appendonly = appendonly
        self._options = dict(options or {})
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Database 0, at the same address through every restart."""
        self._require_directory()
        return f"redis://{processes.LOOPBACK}:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process.

        Raises:
            RuntimeError: the server is not running.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running; start it first")
        return self._process.pid

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that the server wrote."""
        return processes.tail(self._require_directory() / "console.log", lines)

    def start(self) -> None:
        """Start the server and wait until it has loaded its data.

        Raises:
            ServerUnavailableError: redis-server is not installed.
            ServerStartError: the server ended or was not ready in time; has the log's tail.
            RuntimeError: the server runs already.
        """
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already; stop it before another start")
        program = shutil.which("redis-server")
        if program is None:
            raise ServerUnavailableError(
                "redis-server is not on PATH; install it (Debian: apt-get install redis-server)"
            )
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="citewell-redis-"))
            self._port = processes.free_port()
        with (self._directory / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment.child_environment(),
                cwd=self._directory,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the server
            )
        try:
            self._wait()
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def stop(self) -> None:
        """End the server in good order (SIGTERM; SIGKILL after 10 s); a stopped one is left alone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL).

        Raises:
            RuntimeError: the server is not running.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running; there is nothing to kill")
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server if it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the server and delete its data and log."""
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def _arguments(self) -> list[str]:
        directives = {
            "bind": processes.LOOPBACK,
            "port": str(self._port),
            "dir": str(self._require_directory()),
            "databases": str(_DATABASES),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "always",
            **self._options,
        }
        return [word for key, value in directives.items() for word in (f"--{key}", value)]

    def _wait(self) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            ready = processes.wait_until(lambda: self._is_up(client), _START_SECONDS, pause=0.02)
        if not ready:
            raise ServerStartError(
                f"Redis was not ready at {self.url} within {_START_SECONDS:.0f} s; "
                f"the end of its log is below\n{self.log_tail()}"
            )

    def _is_up(self, client: redis.Redis) -> bool:
        """Whether this very process answers, with its data loaded."""
        if self._process is None or self._process.poll() is not None:
            status = None if self._process is None else self._process.returncode
            raise ServerStartError(
                f"Redis ended with exit status {status} while starting on {self.url}; "
                f"the end of its log is below\n{self.log_tail()}"
            )
        try:
            about = client.info()
        except redis.ConnectionError:  # not listening yet, or still loading
            return False
        return about["process_id"] == self._process.pid and not about["loading"]

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        processes.send(self._process.pid, number)
        if not processes.ended_within(self._process, _STOP_SECONDS):
            self._process.kill()
            self._process.wait()
        self._process = None

    def _require_directory(self) -> Path:
        if self._directory is None:
            raise RuntimeError(f"{self.name} was never started, or is closed")
        return self._directory
