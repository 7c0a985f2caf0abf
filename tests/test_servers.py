"""The test servers themselves: what every other server test stands on."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from elasticsearch import Elasticsearch

from tests.servers.accounts import node_account
from tests.servers.artifacts import Artifact, ArtifactCache
from tests.servers.choice import choose, without_credentials
from tests.servers.docker import ComposeServices
from tests.servers.elasticsearch import ElasticsearchNode
from tests.servers.environment import cache_directory
from tests.servers.errors import ChecksumError, ServerStartError, ServerUnavailableError, ServerUnreachableError
from tests.servers.fixtures import LocalServer, skip_or_fail
from tests.servers.jdk import find_jdk
from tests.servers.node_home import prepared_home
from tests.servers.postgresql import PostgresqlServer
from tests.servers.redis import RedisServer
from tests.servers.report import ServerReport


@contextmanager
def connected(node: ElasticsearchNode | str) -> Iterator[Elasticsearch]:
    """A client, closed at the end."""
    url, auth = (node, None) if isinstance(node, str) else (node.url, node.auth)
    client = Elasticsearch(url, basic_auth=auth, request_timeout=30)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def machine_for_a_node(pytestconfig: pytest.Config) -> None:
    """Skips where no node can be run, whatever server the other tests use."""
    try:
        prepared_home(cache_directory(), find_jdk(node_account()))
    except ServerUnavailableError as error:
        skip_or_fail(pytestconfig, error)


@pytest.mark.parametrize(
    ("analyzer", "text", "tokens"),
    [
        ("english", "The foxes were running", ["fox", "were", "run"]),
        ("spanish", "las canciones rápidas", ["cancion", "rapid"]),
        ("german", "die Häuser", ["haus"]),
        ("french", "l'avion des enfants", ["avion", "enfant"]),
        ("italian", "dell'acqua", ["acqua"]),
        ("portuguese", "as casas", ["casa"]),
        ("cjk", "検索東京", ["検索", "索東", "東京"]),
        ("kuromoji", "東京に行きました", ["東京", "行く"]),
        ("nori", "한국어를 처리합니다", ["한국", "어", "처리"]),
    ],
)
def test_node_analyzes_each_language(elasticsearch_url: str, analyzer: str, text: str, tokens: list[str]) -> None:
    with connected(elasticsearch_url) as client:
        answer = client.indices.analyze(analyzer=analyzer, text=text)
    assert [token["token"] for token in answer["tokens"]] == tokens


def test_index_takes_a_declared_analyzer(elasticsearch_url: str, index_name: str) -> None:
    english = {"type": "english", "stopwords": ["quick"], "stem_exclusion": ["foxes"]}
    with connected(elasticsearch_url) as client:
        client.indices.create(index=index_name, settings={"analysis": {"analyzer": {"mine": english}}})
        answer = client.indices.analyze(index=index_name, analyzer="mine", text="the quick foxes running")
    assert [token["token"] for token in answer["tokens"]] == ["the", "foxes", "run"]


@pytest.mark.timeout(900)  # two starts of a node
def test_kill_and_restart_keep_an_indexed_document(
    local_elasticsearch: LocalServer[ElasticsearchNode],
) -> None:
    node = local_elasticsearch(heap="256m")
    url, first = node.url, node.pid
    with connected(node) as client:
        client.index(index="kept", id="1", document={"text": "acknowledged"})
        node.kill()
        node.start()
        assert client.get(index="kept", id="1")["_source"] == {"text": "acknowledged"}
    assert node.url == url
    assert node.pid != first
    assert "started" in node.log_tail(200)


@pytest.mark.timeout(900)  # a start, after two runs of the keystore tool
def test_node_with_a_password_turns_away_who_lacks_it(
    local_elasticsearch: LocalServer[ElasticsearchNode],
) -> None:
    node = local_elasticsearch(heap="256m", password="only-for-this-test")
    with connected(node.url) as stranger:
        assert stranger.options(ignore_status=401).cluster.health().meta.status == 401
    with connected(node) as client:
        key = client.security.create_api_key(name="reader")
        assert client.security.get_api_key(id=key["id"])["api_keys"][0]["name"] == "reader"


def test_node_that_cannot_start_tells_why(machine_for_a_node: None) -> None:
    node = ElasticsearchNode(heap="much")
    with pytest.raises(ServerStartError, match="Invalid initial heap size: -Xmsmuch"):
        node.start()
    with pytest.raises(RuntimeError, match="is not running; start it first"):
        node.pid  # noqa: B018
    node.close()


def test_redis_with_append_only_file_keeps_a_key_through_kill(
    local_redis: LocalServer[RedisServer],
) -> None:
    server = local_redis(appendonly=True)
    first = server.pid
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        client.set("kept", "yes")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("kept")
        server.restart()
        assert client.get("kept") == "yes"
    assert server.pid != first


@pytest.mark.parametrize("order", ["first", "second"])
def test_each_test_has_an_empty_database(redis_db_url: str, order: str) -> None:
    with redis.Redis.from_url(redis_db_url, decode_responses=True) as client:
        assert client.dbsize() == 0
        client.set("left behind by", order)


def test_corrupted_cache_is_refused_without_a_download(tmp_path: Path) -> None:
    def no_download(artifact: Artifact, directory: Path) -> None:
        pytest.fail(f"{artifact.coordinates} was downloaded")

    pinned = hashlib.sha256(b"the pinned file").hexdigest()
    artifact = Artifact("org.example", "thing", "1.0", "jar", pinned)
    cache = ArtifactCache(tmp_path, no_download)
    (tmp_path / "thing-1.0.jar").write_bytes(b"another file")
    with pytest.raises(ChecksumError, match=rf"org\.example:thing.*expected {pinned}; delete"):
        cache.fetch(artifact)
    (tmp_path / "thing-1.0.jar").write_bytes(b"the pinned file")
    assert cache.fetch(artifact) == tmp_path / "thing-1.0.jar"


def test_corrupted_download_is_refused_and_not_kept(tmp_path: Path) -> None:
    def corrupted(artifact: Artifact, directory: Path) -> None:
        (directory / artifact.filename).write_bytes(b"another file")

    artifact = Artifact("org.example", "thing", "1.0", "jar", "0" * 64)
    with pytest.raises(ChecksumError, match="served another file"):
        ArtifactCache(tmp_path, corrupted).fetch(artifact)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "variable", "url"),
    [
        ("elasticsearch", "CITEWELL_TEST_ELASTICSEARCH_URL", "http://user:secret@127.0.0.1:1"),
        ("redis", "CITEWELL_TEST_REDIS_URL", "redis://user:secret@127.0.0.1:1/0"),
        ("postgresql", "CITEWELL_TEST_POSTGRESQL_URL", "postgresql://user:secret@127.0.0.1:1/db"),
    ],
)
def test_address_that_does_not_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch, kind: Any, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, url)
    with ExitStack() as stack, pytest.raises(ServerUnreachableError) as raised:
        choose(kind, ComposeServices(), stack)
    assert f"{variable} is {without_credentials(url)}, which does not answer" in str(raised.value)
    assert "unset the variable" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_killed_postgresql_keeps_what_was_committed(local_postgresql: LocalServer[PostgresqlServer]) -> None:
    server = local_postgresql()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create table kept as select 'yes' as word")
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url, connect_timeout=5)
    server.restart()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("select word from kept").fetchone() == ("yes",)


@pytest.mark.parametrize("order", ["first", "second"])
def test_each_test_has_an_empty_postgresql_database(postgresql_db_url: str, order: str) -> None:
    with psycopg.connect(postgresql_db_url) as connection:
        assert connection.execute("select count(*) from pg_class where relname = 'mine'").fetchone() == (0,)
        connection.execute("create table mine (n integer)")


def test_missing_server_tells_every_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CITEWELL_TEST_REDIS_URL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with ExitStack() as stack, pytest.raises(ServerUnavailableError) as raised:
        choose("redis", ComposeServices(), stack)
    assert "docker is not installed" in raised.value.reason
    assert "redis-server is not on PATH; install it" in raised.value.reason


def test_report_groups_skips_by_reason() -> None:
    missing = ServerUnavailableError("no redis server: none\nthe end of its log")
    report = ServerReport(missing={missing.reason: missing})
    assert report.lines([missing.reason, "needs a GPU", missing.reason]) == [f"2 tests skipped: {missing}"]
