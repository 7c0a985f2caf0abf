"""Elasticsearch and Redis through the project's own docker-compose.yml, by pytest-docker."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from pytest_docker.plugin import DockerComposeExecutor, Services

from tests.servers import processes
from tests.servers.errors import ServerUnavailableError

_ROOT = Path(__file__).parents[2]
_FILES = (_ROOT / "docker-compose.yml", Path(__file__).with_name("docker-compose.tests.yml"))
# Compose fills in the whole file before it starts two services of it, and the API insists on a key.
_COMMAND = "env CITEWELL_API_KEY=unused docker compose"
_PORTS = {"elasticsearch": 9200, "redis": 6379}
_SCHEMES = {"elasticsearch": "http", "redis": "redis"}
_ANSWER_SECONDS = 5
_READY_SECONDS = 30.0  # after the health check that Compose has waited for


class ComposeServices:
    """Services of one Compose project, which is this test run's own; nothing starts by itself."""

    def __init__(self) -> None:
        self._executor = DockerComposeExecutor(
            _COMMAND, [str(file) for file in _FILES], f"citewell-tests-{os.getpid()}"
        )
        self._started = False
        self._fault: str | None = None

    def start(self, service: str, fault: Callable[[str], str | None]) -> str:
        """Start one service and wait until `fault` has nothing to say against its address.

        Raises:
            ServerUnavailableError: no Docker here, no image to be had, or the service is not ready.
        """
        if service not in _PORTS:
            raise ServerUnavailableError(f"{_FILES[0].name} has no service {service}")
        self._fault = self._fault or _docker_fault()
        if self._fault:
            raise ServerUnavailableError(self._fault)
        self._started = True
        self._execute(f"up -d --build --wait {service}", service)
        port = Services(self._executor).port_for(service, _PORTS[service])
        address = f"{_SCHEMES[service]}://{processes.LOOPBACK}:{port}"
        if not processes.wait_until(lambda: fault(address) is None, _READY_SECONDS, pause=0.5):
            raise ServerUnavailableError(f"service {service} does not answer: {fault(address)}")
        return address

    def close(self) -> None:
        """Take the project down with its volumes, if anything was started."""
        if self._started:
            self._started = False
            self._executor.execute("down -v")

    def _execute(self, command: str, service: str) -> None:
        try:
            self._executor.execute(command)
        except Exception as error:  # pytest-docker raises nothing narrower
            said = str(error).strip()
            last = said.rstrip('".').splitlines()[-1]
            raise ServerUnavailableError(
                f"the image of service {service} could not be pulled, built or started: {last}\n{said}"
            ) from error


def _docker_fault() -> str | None:
    """Why Docker Compose cannot be used; None when it can."""
    if not _FILES[0].exists():
        return f"there is no {_FILES[0].name}"
    if shutil.which("docker") is None:
        return "docker is not installed"
    for words, missing in (
        (("docker", "info"), "no Docker engine answers"),
        (("docker", "compose", "version"), "docker compose is not installed"),
    ):
        try:
            done = subprocess.run(words, capture_output=True, check=False, timeout=_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            return f"{missing} within {_ANSWER_SECONDS} s"
        if done.returncode != 0:
            return missing
    return None
