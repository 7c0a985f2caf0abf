"""What tests ask for. A server starts with the first test that needs it, and never before."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NoReturn, TypeVar

import httpx
import pytest

from tests.servers import environment
from tests.servers.choice import Kind, choose
from tests.servers.databases import claimed_database, made_database
from tests.servers.docker import ComposeServices
from tests.servers.elasticsearch import ElasticsearchNode
from tests.servers.errors import ServerUnavailableError
from tests.servers.postgresql import PostgresqlServer
from tests.servers.redis import RedisServer
from tests.servers.report import SERVER_REPORT

_FIRST_START_SECONDS = 1800
Server = TypeVar("Server", ElasticsearchNode, PostgresqlServer, RedisServer)
LocalServer = Callable[..., Server]


@pytest.fixture(scope="session")
def compose_services() -> Iterator[ComposeServices]:
    """The run's Compose project; empty until a server is asked of it."""
    services = ComposeServices()
    yield services
    services.close()


@pytest.fixture(scope="session")
def elasticsearch_url(pytestconfig: pytest.Config, compose_services: ComposeServices) -> Iterator[str]:
    """The address of a running Elasticsearch, shared by the run."""
    yield from _shared("elasticsearch", pytestconfig, compose_services)


@pytest.fixture(scope="session")
def redis_url(pytestconfig: pytest.Config, compose_services: ComposeServices) -> Iterator[str]:
    """The address of a running Redis, shared by the run; tests write to `redis_db_url`."""
    yield from _shared("redis", pytestconfig, compose_services)


@pytest.fixture(scope="session")
def postgresql_url(pytestconfig: pytest.Config, compose_services: ComposeServices) -> Iterator[str]:
    """The address of a running PostgreSQL, shared by the run; tests write to `postgresql_db_url`."""
    yield from _shared("postgresql", pytestconfig, compose_services)


@pytest.fixture
def postgresql_db_url(postgresql_url: str) -> Iterator[str]:
    """The address of an empty database of the test's own, dropped again at the end."""
    with made_database(postgresql_url) as address:
        yield address


@pytest.fixture
def local_postgresql(pytestconfig: pytest.Config) -> Iterator[LocalServer[PostgresqlServer]]:
    """Starts a PostgreSQL of the test's own, to be killed and restarted at will; closed after the test."""
    with ExitStack() as stack:
        yield _starter(PostgresqlServer, pytestconfig, stack)


@pytest.fixture
def index_name(elasticsearch_url: str) -> Iterator[str]:
    """A unique name; indices and index templates whose name starts with it are deleted."""
    name = f"citewell-test-{secrets.token_hex(6)}"
    yield name
    with httpx.Client(base_url=elasticsearch_url, timeout=60, trust_env=False) as client:
        # By exact names: a wildcard delete is refused by default, and rightly so.
        found = client.get(f"/{name}*", params={"expand_wildcards": "all", "features": "settings"})
        for index in found.raise_for_status().json():
            client.delete(f"/{index}").raise_for_status()
        templates = client.get("/_index_template", params={"filter_path": "index_templates.name"})
        for template in templates.raise_for_status().json().get("index_templates", []):
            if template["name"].startswith(name):
                client.delete(f"/_index_template/{template['name']}").raise_for_status()


@pytest.fixture
def redis_db_url(redis_url: str) -> Iterator[str]:
    """The address of a logical database of the test's own, empty before and after."""
    with claimed_database(redis_url) as address:
        yield address


@pytest.fixture
def local_redis(pytestconfig: pytest.Config) -> Iterator[LocalServer[RedisServer]]:
    """Starts a Redis of the test's own, to be stopped, killed and restarted at will.

    Called with what `RedisServer` takes; the server is closed after the test.
    """
    with ExitStack() as stack:
        yield _starter(RedisServer, pytestconfig, stack)


@pytest.fixture
def local_elasticsearch(
    pytestconfig: pytest.Config,
) -> Iterator[LocalServer[ElasticsearchNode]]:
    """Starts an Elasticsearch node of the test's own, to be killed and restarted at will.

    Called with what `ElasticsearchNode` takes; the node is closed after the test.
    """
    with ExitStack() as stack:
        yield _starter(ElasticsearchNode, pytestconfig, stack)


def _starter(make: Callable[..., Server], config: pytest.Config, stack: ExitStack) -> LocalServer[Server]:
    def start(**arguments: Any) -> Server:
        server = make(**arguments)
        stack.callback(server.close)
        try:
            server.start()
        except ServerUnavailableError as error:
            skip_or_fail(config, error)
        return server

    return start


def _shared(kind: Kind, config: pytest.Config, compose: ComposeServices) -> Iterator[str]:
    with ExitStack() as stack:
        try:
            chosen = choose(kind, compose, stack)
        except ServerUnavailableError as error:
            skip_or_fail(config, error)
        config.stash[SERVER_REPORT].used.append(chosen)
        yield chosen.url


def skip_or_fail(config: pytest.Config, error: ServerUnavailableError) -> NoReturn:
    """Skip the test for want of a server; fail it where CITEWELL_REQUIRE_SERVERS is 1."""
    if environment.servers_required():
        text = f"{environment.REQUIRE_VARIABLE} is 1 and {error}"
        raise pytest.fail.Exception(text, pytrace=False) from None
    config.stash[SERVER_REPORT].missing[error.reason] = error
    pytest.skip(error.reason)


def extend_first_timeouts(items: list[pytest.Item]) -> None:
    """Give the first test of each server half an hour: its time includes downloads and images."""
    for fixture in ("elasticsearch_url", "redis_url", "postgresql_url"):
        for item in items:
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.timeout(_FIRST_START_SECONDS), append=False)
                break
