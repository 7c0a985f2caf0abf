"""Which server the tests get: the environment's, else Docker's, else one started here."""

import textwrap
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import httpx
import psycopg
import redis

from tests.servers import environment
from tests.servers.docker import ComposeServices
from tests.servers.elasticsearch import ElasticsearchNode
from tests.servers.errors import ServerUnavailableError, ServerUnreachableError
from tests.servers.postgresql import PostgresqlServer
from tests.servers.redis import RedisServer

Kind = Literal["elasticsearch", "redis", "postgresql"]


_SERVERS: dict[Kind, type[ElasticsearchNode] | type[RedisServer] | type[PostgresqlServer]] = {
    "elasticsearch": ElasticsearchNode,
    "redis": RedisServer,
    "postgresql": PostgresqlServer,
}


@dataclass(frozen=True)
class ChosenServer:
    """A server in use. `origin` says where it comes from, for the closing lines of the run."""

    kind: Kind
    url: str
    origin: str

    def __str__(self) -> str:
        return f"{self.kind}: {without_credentials(self.url)}, {self.origin}"


def choose(kind: Kind, compose: ComposeServices, stack: ExitStack) -> ChosenServer:
    """A running server; `stack` stops it where it was started here.

    Raises:
        ServerUnreachableError: the environment names one that does not answer.
        ServerUnavailableError: there is none, and none can be started; has every reason.
        ChecksumError: a local node's files are not the pinned ones.
    """
    given = environment.server_url(kind)
    if given:
        fault = server_fault(kind, given)
        if fault:
            raise ServerUnreachableError(
                f"{environment.SERVER_URL_VARIABLES[kind]} is {without_credentials(given)}, which "
                f"does not answer as {kind}: {fault}; start that server, or unset the variable"
            )
        return ChosenServer(kind, given, "given by the environment")
    try:
        address = compose.start(kind, lambda url: server_fault(kind, url))
    except ServerUnavailableError as error:
        return _start_local(kind, stack, error)
    return ChosenServer(kind, address, "started with Docker Compose")


def _start_local(kind: Kind, stack: ExitStack, no_docker: ServerUnavailableError) -> ChosenServer:
    server = _SERVERS[kind]()
    stack.callback(server.close)
    try:
        server.start()
    except ServerUnavailableError as error:
        raise ServerUnavailableError(
            f"no {kind} server: none in {environment.SERVER_URL_VARIABLES[kind]}; "
            f"no Docker: {no_docker.reason}; no local one: {error}"
        ) from error
    return ChosenServer(kind, server.url, f"started here, process {server.pid} (no Docker: {no_docker.reason})")


def server_fault(kind: Kind, url: str) -> str | None:
    """Why there is no such server at the address; None when it answers."""
    faults = {"elasticsearch": _elasticsearch_fault, "redis": _redis_fault, "postgresql": _postgresql_fault}
    return faults[kind](url)


def _elasticsearch_fault(url: str) -> str | None:
    try:
        with httpx.Client(timeout=5, trust_env=False) as client:
            answer = client.get(f"{url.rstrip('/')}/_cluster/health")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _told(error)
    if answer.status_code != 200 or '"cluster_name"' not in answer.text:
        return f"GET /_cluster/health answers with status {answer.status_code}"
    return None


def _redis_fault(url: str) -> str | None:
    try:
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        return _told(error)
    return None


def _postgresql_fault(url: str) -> str | None:
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            connection.execute("select 1")
    except psycopg.Error as error:
        return _told(error)
    return None


def _told(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200)


def without_credentials(url: str) -> str:
    """The address without user and password, fit for a log."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
