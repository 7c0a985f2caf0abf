"""A real Elasticsearch node of the tests' own, without Docker."""

import json
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.servers import environment, processes
from tests.servers.accounts import Account, node_account
from tests.servers.errors import ServerStartError
from tests.servers.jdk import find_jdk
from tests.servers.node_home import prepared_home

Setting = str | int | bool | Sequence[str]
_START_SECONDS = 200.0  # 8 s on an idle machine; a busy one has taken 80
_STOP_SECONDS = 30.0


class ElasticsearchNode:
    """One node on the loopback interface, with data that outlives a stop or a kill until `close`.

    Args:
        settings: added to, and preferred over, the settings of a single node without security.
        password: turns security on, with this password for the user `elastic`.
        heap: the size of the JVM's heap.
        cache: where the distribution is kept; the environment's choice by default.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, Setting] | None = None,
        password: str | None = None,
        heap: str = "512m",
        cache: Path | None = None,
    ) -> None:
        self.name = f"citewell-{secrets.token_hex(6)}"
        self.password = password
        self._extra = dict(settings or {})
        self._heap = heap
        self._cache = cache
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._home = Path()
        self._jdk = Path()
        self._account = Account(None)
        self._http_port = 0
        self._transport_port = 0

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
        """The same address through every restart."""
        self._require_directory()
        return f"http://{processes.LOOPBACK}:{self._http_port}"

    @property
    def auth(self) -> tuple[str, str] | None:
        """User and password, when security is on."""
        return None if self.password is None else ("elastic", self.password)

    @property
    def transport_address(self) -> str:
        """Where other nodes reach this one, for `discovery.seed_hosts`."""
        self._require_directory()
        return f"{processes.LOOPBACK}:{self._transport_port}"

    @property
    def pid(self) -> int:
        """The server's process (its parent is a small launcher).

        Raises:
            RuntimeError: the node is not running.
        """
        if self._process is None:
            raise RuntimeError(f"node {self.name} is not running; start it first")
        server = self._server_pid()
        if server is None:
            raise RuntimeError(f"node {self.name} is still starting; it has no process id yet")
        return server

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that the node wrote."""
        return processes.tail(self._require_directory() / "console.log", lines)

    def start(self) -> None:
        """Start the node and wait for it to be green (yellow is enough for one with old data).

        Raises:
            ServerUnavailableError: the machine lacks what a node needs.
            ServerStartError: the node ended or was not ready in time; has the log's tail.
            ChecksumError: the distribution in the cache is not the pinned one.
            RuntimeError: the node runs already.
        """
        if self._process is not None:
            raise RuntimeError(f"node {self.name} runs already; stop it before another start")
        # Replicas have no place on one node: an index with some never gets better than yellow.
        status = "green" if self._directory is None else "yellow"
        directory = self._directory or self._create()
        (directory / "pid").unlink(missing_ok=True)
        script = str(self._home / "bin" / "elasticsearch")
        with (directory / "console.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._account.command(script, "-p", str(directory / "pid")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._variables(directory),
                cwd=directory,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the node
            )
        try:
            self._wait_until(status)
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def stop(self) -> None:
        """End the node in good order (SIGTERM; SIGKILL after 30 s). A stopped node is left alone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node as a crash would (SIGKILL).

        Raises:
            RuntimeError: the node is not running.
        """
        if self._process is None:
            raise RuntimeError(f"node {self.name} is not running; there is nothing to kill")
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the node if it runs, and start it on the same ports and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop the node and delete its data and logs."""
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def _create(self) -> Path:
        """Everything before the first start: the JDK, the home, the directories, the ports."""
        self._account = node_account()
        self._jdk = find_jdk(self._account)
        self._home = prepared_home(self._cache or environment.cache_directory(), self._jdk)
        self._account.require_access(self._home / "bin" / "elasticsearch")
        self._http_port = processes.free_port()
        self._transport_port = processes.free_port()
        directory = Path(tempfile.mkdtemp(prefix="citewell-elasticsearch-"))
        try:
            self._furnish(directory)
        except BaseException:
            shutil.rmtree(directory)
            raise
        self._directory = directory
        return directory

    def _furnish(self, directory: Path) -> None:
        """A configuration of the node's own: the shared home stays as it is."""
        shutil.copytree(self._home / "config", directory / "config")
        for name in ("data", "logs", "snapshots", "tmp"):
            (directory / name).mkdir()
        settings = {**self._settings(directory), **self._extra}
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in settings.items()]
        (directory / "config" / "elasticsearch.yml").write_text("".join(lines), encoding="utf-8")
        self._account.own(directory)
        self._account.require_access(directory / "config" / "elasticsearch.yml")
        if self.password is not None:
            self._keystore(directory, "create")
            self._keystore(directory, "add", "-x", "bootstrap.password", value=self.password)

    def _settings(self, directory: Path) -> dict[str, Setting]:
        return {
            "cluster.name": self.name,
            "node.name": self.name,
            "network.host": processes.LOOPBACK,
            "http.port": self._http_port,
            "transport.port": self._transport_port,
            "discovery.type": "single-node",
            "path.data": str(directory / "data"),
            "path.logs": str(directory / "logs"),
            "path.repo": [str(directory / "snapshots")],
            # Unset, the first start would rewrite the settings: TLS, and every network address.
            "xpack.security.enabled": self.password is not None,
            # A disk that is 90 % full is no reason for a test to fail.
            "cluster.routing.allocation.disk.threshold_enabled": False,
        }

    def _variables(self, directory: Path) -> dict[str, str]:
        return environment.child_environment(
            HOME=str(directory),
            ES_JAVA_HOME=str(self._jdk),
            ES_JAVA_OPTS=f"-Xms{self._heap} -Xmx{self._heap}",
            ES_PATH_CONF=str(directory / "config"),
            ES_TMPDIR=str(directory / "tmp"),
        )

    def _keystore(self, directory: Path, *words: str, value: str = "") -> None:
        tool = str(self._home / "bin" / "elasticsearch-keystore")
        done = subprocess.run(
            self._account.command(tool, *words),
            input=value,
            env=self._variables(directory),
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        if done.returncode != 0:
            raise ServerStartError(
                f"elasticsearch-keystore {words[0]} failed (exit status {done.returncode}), so "
                f"the node's password could not be set\n{done.stdout}{done.stderr}"
            )

    def _wait_until(self, status: str) -> None:
        # No proxy of the environment may stand between the tests and the loopback interface.
        with httpx.Client(base_url=self.url, auth=self.auth, timeout=5, trust_env=False) as client:
            ready = processes.wait_until(
                lambda: self._is_up(client) and self._has_settled(client, status),
                _START_SECONDS,
            )
        if not ready:
            raise ServerStartError(
                f"Elasticsearch {self.name} was not {status} at {self.url} within "
                f"{_START_SECONDS:.0f} s; the end of its log is below\n{self.log_tail()}"
            )

    def _is_up(self, client: httpx.Client) -> bool:
        """Whether this very node answers; another on the same port would look just as healthy."""
        if self._process is not None and self._process.poll() is not None:
            raise ServerStartError(
                f"Elasticsearch {self.name} ended with exit status {self._process.returncode} "
                f"while starting; the end of its log is below\n{self.log_tail()}"
            )
        try:
            answer = client.get("/_nodes/_local", params={"filter_path": "nodes.*.name"})
        except httpx.TransportError:  # not listening yet
            return False
        if answer.status_code != 200:
            return False
        return [node["name"] for node in answer.json()["nodes"].values()] == [self.name]

    def _has_settled(self, client: httpx.Client, status: str) -> bool:
        wanted = {"wait_for_status": status, "wait_for_no_initializing_shards": "true"}
        try:
            answer = client.get("/_cluster/health", params={**wanted, "timeout": "1s"})
        except httpx.TransportError:  # slow: asked again
            return False
        return answer.status_code == 200

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        launcher = self._process
        server = self._server_pid()
        if launcher.poll() is None:
            if server:
                processes.send(server, number)  # the launcher ends by itself once the server has
            if not server or not processes.ended_within(launcher, _STOP_SECONDS):
                # A server that has no process id yet outlives a launcher that is merely told to end.
                processes.kill_session(launcher)
        self._process = None

    def _server_pid(self) -> int | None:
        """The server's process; None until it has written its file."""
        file = self._require_directory() / "pid"
        text = file.read_text().strip() if file.exists() else ""
        return int(text) if text else None

    def _require_directory(self) -> Path:
        if self._directory is None:
            raise RuntimeError(f"node {self.name} was never started, or is closed")
        return self._directory
