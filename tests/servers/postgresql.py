"""A real PostgreSQL server of the tests' own, from the machine's own binaries."""

import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.servers import environment, processes
from tests.servers.accounts import Account, node_account
from tests.servers.errors import ServerStartError, ServerUnavailableError

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_INITDB_SECONDS = 120
_USER = "citewell"


class PostgresqlServer:
    """One server on the loopback interface, with data that outlives a stop or a kill until `close`."""

    def __init__(self) -> None:
        self.name = f"citewell-postgresql-{secrets.token_hex(6)}"
        self.password = secrets.token_hex(12)
        self._account = Account(None)
        self._binaries = Path()
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
        """The database `postgres` as its superuser, at the same address through every restart."""
        self._require_directory()
        return f"postgresql://{_USER}:{self.password}@{processes.LOOPBACK}:{self._port}/postgres"

    @property
    def pid(self) -> int:
        """The process that was started here (as root, the one that lends the account).

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
        """Start the server and wait until it answers.

        Raises:
            ServerUnavailableError: PostgreSQL is not installed, or no account can be lent to it.
            ServerStartError: the server ended or was not ready in time; has the log's tail.
            RuntimeError: the server runs already.
        """
        if self._process is not None:
            raise RuntimeError(f"{self.name} runs already; stop it before another start")
        directory = self._directory or self._create()
        with (directory / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._account.command(str(self._binaries / "postgres"), *self._arguments()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment.child_environment(),
                cwd=directory,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the server
            )
        try:
            self._wait()
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def stop(self) -> None:
        """End the server at once but in good order (SIGINT; SIGKILL after 20 s); a stopped one is left alone."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL to it and its children).

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

    def _create(self) -> Path:
        """Everything before the first start: the account, the directory with an empty cluster, the port."""
        self._binaries = _binaries()
        self._account = node_account("PostgreSQL")
        self._port = processes.free_port()
        directory = Path(tempfile.mkdtemp(prefix="citewell-postgresql-"))
        try:
            password = directory / "password"
            password.write_text(self.password, encoding="utf-8")
            self._account.own(directory)
            self._initialize(directory, password)
            password.unlink()
        except BaseException:
            shutil.rmtree(directory)
            raise
        self._directory = directory
        return directory

    def _initialize(self, directory: Path, password: Path) -> None:
        command = [str(self._binaries / "initdb"), "--pgdata", str(directory / "data"), "--username", _USER]
        command += ["--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"]
        done = subprocess.run(
            self._account.command(*command, "--no-sync"),
            env=environment.child_environment(),
            cwd=directory,
            capture_output=True,
            check=False,
            text=True,
            timeout=_INITDB_SECONDS,
        )
        if done.returncode != 0:
            raise ServerStartError(
                f"initdb failed with exit status {done.returncode}; what it wrote is below\n{done.stdout}{done.stderr}"
            )

    def _arguments(self) -> list[str]:
        directives = {
            "listen_addresses": processes.LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": "",
            "fsync": "off",  # a crash of the machine ends the tests, too
            "cluster_name": self.name,
        }
        words = ["-D", str(self._require_directory() / "data")]
        return words + [word for key, value in directives.items() for word in ("-c", f"{key}={value}")]

    def _wait(self) -> None:
        if not processes.wait_until(self._is_up, _START_SECONDS, pause=0.05):
            raise ServerStartError(
                f"PostgreSQL was not ready on port {self._port} within {_START_SECONDS:.0f} s; "
                f"the end of its log is below\n{self.log_tail()}"
            )

    def _is_up(self) -> bool:
        """Whether this very server answers; another on the port has another name."""
        if self._process is None or self._process.poll() is not None:
            status = None if self._process is None else self._process.returncode
            raise ServerStartError(
                f"PostgreSQL ended with exit status {status} while starting on port {self._port}; "
                f"the end of its log is below\n{self.log_tail()}"
            )
        try:
            with psycopg.connect(self.url, connect_timeout=5) as connection:
                row = connection.execute("show cluster_name").fetchone()
        except psycopg.OperationalError:  # not listening yet, or still starting
            return False
        return row is not None and row[0] == self.name

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if number == signal.SIGKILL:
            processes.kill_session(self._process)
        else:
            server = self._server_pid()
            if server:
                processes.send(server, number)
            if not server or not processes.ended_within(self._process, _STOP_SECONDS):
                processes.kill_session(self._process)
        self._process = None

    def _server_pid(self) -> int | None:
        """The postmaster, as it writes it itself: the process started here may only lend the account."""
        file = self._require_directory() / "data" / "postmaster.pid"
        words = file.read_text().split() if file.exists() else []
        return int(words[0]) if words else None

    def _require_directory(self) -> Path:
        if self._directory is None:
            raise RuntimeError(f"{self.name} was never started, or is closed")
        return self._directory


def _binaries() -> Path:
    """Where `initdb` and `postgres` are: on the PATH, or where Debian puts them (the newest version).

    Raises:
        ServerUnavailableError: nowhere.
    """
    places = [Path(found).parent] if (found := shutil.which("postgres")) else []
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    places += sorted(versions, key=lambda place: [int(part) for part in place.parent.name.split(".")], reverse=True)
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise ServerUnavailableError(
        "initdb and postgres are neither on PATH nor below /usr/lib/postgresql; install them (Debian: postgresql)"
    )
