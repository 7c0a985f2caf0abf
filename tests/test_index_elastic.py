"""What is Elasticsearch's own: round trips, refusals, busy servers, and an index that others touch."""

from __future__ import annotations

import dataclasses
import http.server
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import elastic_transport
import httpx
import numpy as np
import pytest

from citewell.config import load_settings
from citewell.errors import CitewellError, ConfigError, IndexUnavailable
from citewell.index import analysis, elastic_errors, elastic_writes
from citewell.index.elastic import ElasticIndex
from citewell.index.elastic_versions import ElasticVersions
from citewell.index.elastic_writes import Budget, Bulk, index_item
from tests.contracts.index_material import DIMENSION, FINGERPRINT, ask, documents, write

Opener = Callable[[], ElasticIndex]


@pytest.fixture
def opener(elasticsearch_url: str, index_name: str) -> Iterator[Opener]:
    opened: list[ElasticIndex] = []

    def start() -> ElasticIndex:
        index = ElasticIndex(load_settings(elasticsearch_url=elasticsearch_url, index_name=index_name), FINGERPRINT)
        opened.append(index)
        index.load()
        return index

    yield start
    for index in opened:
        index.close()


@pytest.fixture
def server(elasticsearch_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=elasticsearch_url, timeout=30, trust_env=False) as client:
        yield client


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_search_is_one_round_trip(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opener()
    index.put([write("a", ["refund"])])
    index.flush()
    sent: list[str] = []
    perform = elastic_transport.Urllib3HttpNode.perform_request

    def counted(node: Any, method: str, target: str, *rest: Any, **options: Any) -> Any:
        sent.append(f"{method} {target}")
        return perform(node, method, target, *rest, **options)

    monkeypatch.setattr(elastic_transport.Urllib3HttpNode, "perform_request", counted)
    legs = index.legs(ask("refund", angle=0, groups=("g",)))
    assert documents(legs, "bm25") == documents(legs, "dense") == ["a"]
    assert sent == ["POST /_msearch"]
    index.info()
    assert sent == ["POST /_msearch"] * 2


def test_many_processes_may_start_at_once(opener: Opener) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            opener()
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert opener().info()["passages"] == 0


def test_an_unreachable_server_is_told_soon_and_without_credentials() -> None:
    address = f"127.0.0.1:{_closed_port()}"
    index = ElasticIndex(load_settings(elasticsearch_url=f"http://me:s3cret@{address}"), FINGERPRINT)
    started = time.monotonic()
    with pytest.raises(IndexUnavailable) as told:
        index.load()
    assert time.monotonic() - started < 5
    shown = "".join(traceback.format_exception(told.value)) + told.value.message + told.value.remedy
    assert address in told.value.message
    assert "refused" in told.value.message
    assert "s3cret" not in shown
    assert "urllib3" not in shown


def test_something_else_at_the_address_is_told() -> None:
    with scripted([(200, {"hello": "world"})]) as url:
        index = ElasticIndex(load_settings(elasticsearch_url=url), FINGERPRINT)
        with pytest.raises(CitewellError, match="not Elasticsearch"):
            index.load()


@pytest.mark.parametrize("url", ["http://me:s3cret@host", "http://me:s3cret@host:99999", "http://"])
def test_a_malformed_address_is_told_without_credentials(url: str) -> None:
    with pytest.raises(ConfigError) as told:
        ElasticIndex(load_settings(elasticsearch_url=url), FINGERPRINT).load()
    assert "s3cret" not in told.value.message


def test_a_foreign_index_of_that_name_is_left_alone(opener: Opener, server: httpx.Client, index_name: str) -> None:
    server.put(f"/{index_name}").raise_for_status()
    with pytest.raises(ConfigError, match=r"was not made by Citewell|belongs to"):
        opener()
    server.delete(f"/{index_name}").raise_for_status()
    server.put(f"/{index_name}-other", json={"aliases": {index_name: {}}}).raise_for_status()
    with pytest.raises(ConfigError, match="was not made by Citewell"):
        opener()


def test_an_index_that_vanishes_is_told_and_not_made_again(
    opener: Opener, server: httpx.Client, index_name: str
) -> None:
    index = opener()
    for name in (f"{index_name}-000001", f"{index_name}-000001-documents"):
        server.delete(f"/{name}").raise_for_status()
    uses: list[Callable[[], Any]] = [
        lambda: index.put([write("a")]),
        lambda: index.legs(ask("refund", angle=0)),
        lambda: index.ledger(["a"]),
        lambda: index.delete(["a"]),
        index.flush,
        index.info,
    ]
    for use in uses:
        with pytest.raises(IndexUnavailable) as told:
            use()
        assert "Restart" in told.value.remedy
    assert server.get(f"/{index_name}").status_code == 404


def test_an_index_without_its_alias_is_told(opener: Opener, server: httpx.Client, index_name: str) -> None:
    opener()
    server.delete(f"/{index_name}-000001/_alias/{index_name}").raise_for_status()
    with pytest.raises(IndexUnavailable, match="without its alias"):
        opener()


def test_a_full_disk_is_told_with_its_remedy(opener: Opener, server: httpx.Client, index_name: str) -> None:
    index = opener()
    block = {"index.blocks.read_only_allow_delete": True}
    server.put(f"/{index_name}-000001/_settings", json=block).raise_for_status()
    with pytest.raises(IndexUnavailable) as told:
        index.put([write("a")])
    assert "disk" in told.value.remedy
    block = {"index.blocks.read_only_allow_delete": None}  # type: ignore[dict-item]
    server.put(f"/{index_name}-000001/_settings", json=block).raise_for_status()
    assert index.ledger(["a"])["a"].content_hash == ""
    assert not index.put([write("a")])[0].error


def test_a_refused_document_is_named_and_stays_unfinished(opener: Opener) -> None:
    index = opener()
    deep: dict[str, Any] = {"k": 1}
    for _ in range(30):
        deep = {"k": deep}
    results = index.put([write("good"), write("deep", metadata=deep), write("long", groups=("g" * 40_000,))])
    index.flush()
    assert [bool(result.error) for result in results] == [False, True, True]
    assert "depth" in results[1].error
    assert index.ledger(["deep"])["deep"].content_hash == ""
    assert (index.info()["documents"], index.info()["unfinished"]) == (1, 2)


def test_a_long_load_is_cut_by_bytes(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_writes, "CHUNK_BYTES", 2000)
    index = opener()
    assert not any(result.error for result in index.put([write(f"d{n}", ["refund"] * 3) for n in range(20)]))
    index.flush()
    assert index.info()["passages"] == 60


def test_requests_on_their_way_at_once_name_whom_each_refused(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elastic_writes, "CHUNK_BYTES", 4000)
    index = opener()
    too_deep: dict[str, Any] = {}
    for _ in range(30):
        too_deep = {"a": too_deep}
    writes = [write(f"d{n}", ["refund"] * 3, metadata=too_deep if n % 7 == 3 else {}) for n in range(40)]
    results = index.put(writes)
    index.flush()
    assert [result.doc_id for result in results if result.error] == [f"d{n}" for n in range(40) if n % 7 == 3]
    assert index.info()["passages"] == 3 * 34
    assert index.ledger([f"d{n}" for n in range(40)])["d4"].content_hash


def test_a_missing_analyzer_names_the_plugins(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(analysis.LANGUAGES, "en", analysis.Language("absent", plugin="analysis-absent"))
    with pytest.raises(ConfigError) as told:
        opener()
    assert "elasticsearch-plugin install analysis-absent analysis-kuromoji analysis-nori" in told.value.remedy


def test_a_swapped_alias_shows_in_the_answers(opener: Opener, server: httpx.Client, index_name: str) -> None:
    index = opener()
    index.put([write("a", ["refund"])])
    index.flush()
    described = server.get(f"/{index_name}-000001/_mapping").json()[f"{index_name}-000001"]["mappings"]
    server.put(f"/{index_name}-000002", json={"mappings": described}).raise_for_status()
    document = server.get(f"/{index_name}-000001/_doc/a%230?_source_exclude_vectors=false").json()["_source"]
    server.put(f"/{index_name}-000002/_doc/a%230?refresh=true", json=document).raise_for_status()
    actions = [
        {"remove": {"index": f"{index_name}-000001", "alias": index_name}},
        {"add": {"index": f"{index_name}-000002", "alias": index_name}},
    ]
    server.post("/_aliases", json={"actions": actions}).raise_for_status()
    legs = index.legs(ask("refund", angle=0))
    assert legs.index_version == f"{index_name}-000002"
    assert documents(legs, "dense") == ["a"]


@pytest.mark.parametrize("dimension", [DIMENSION, 2 * DIMENSION])
def test_a_swap_to_other_vectors_leaves_a_search_with_its_own(
    opener: Opener, elasticsearch_url: str, index_name: str, dimension: int
) -> None:
    """The alias moves under a running process; what it searches and writes stays what fits its vectors."""
    index = opener()
    index.put([write("a", ["refund"])])
    index.flush()
    settings = load_settings(elasticsearch_url=elasticsearch_url, index_name=index_name)
    other = FINGERPRINT.model_copy(update={"embedder": "other", "dimension": dimension})
    versions = ElasticVersions(settings)
    made = versions.create(other)
    following = ElasticIndex(settings, other, made.name)
    following.load()
    vectors = np.ones((1, dimension), np.float32)
    following.put([dataclasses.replace(write("b", ["refund"]), vectors=vectors)])
    following.flush()
    versions.promote(made.name)
    for _ in range(2):
        legs = index.legs(ask("refund", angle=0))
        assert legs.index_version == f"{index_name}-000001"
        assert documents(legs, "bm25") == documents(legs, "dense") == ["a"]
    index.put([write("c", ["refund"])])
    assert sorted(index.ledger(["a", "b", "c"])) == ["a", "c"]
    assert sorted(following.ledger(["a", "b", "c"])) == ["b"]
    following.close()
    versions.close()


class scripted:  # noqa: N801 - used as a context manager
    """A small HTTP server that answers with the given (status, body), the last one for ever. Keeps what it was sent."""

    def __init__(self, answers: list[tuple[int, Any]], product: str = "") -> None:
        self.requests: list[bytes] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                outer.requests.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                status, body = answers[min(len(outer.requests), len(answers)) - 1]
                if callable(body):
                    status, body = body(outer.requests[-1])
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if product:
                    self.send_header("X-Elastic-Product", product)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            do_GET = do_PUT = do_POST = answer  # noqa: N815 - the library's names

            def log_message(self, *_: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _bulk(url: str, budget_s: float) -> Bulk:
    from elasticsearch import Elasticsearch

    return Bulk(Elasticsearch(url), url, Budget(budget_s))


def _items(count: int) -> list[elastic_writes.Item]:
    return [index_item(f"d{n}", "citewell", f"d{n}", {"n": n}) for n in range(count)]


def _answer(*statuses: int) -> tuple[int, Any]:
    fault = {"type": "es_rejected_execution_exception", "reason": "queue is full"}
    items = [{"index": {"status": status} | ({"error": fault} if status > 299 else {})} for status in statuses]
    return 200, {"errors": True, "items": items}


def test_busy_items_alone_are_sent_again() -> None:
    stub = scripted([_answer(201, 429, 503), (429, {}), _answer(201, 201)], "Elasticsearch")
    with stub as url:
        assert _bulk(url, 30).send(_items(3)) == {}
    assert [request.count(b'"_id"') for request in stub.requests] == [3, 2, 2]


def test_a_server_that_stays_busy_uses_up_the_budget() -> None:
    with scripted([_answer(201, 429)] + [_answer(429)] * 100, "Elasticsearch") as url:
        started = time.monotonic()
        errors = _bulk(url, 1.0).send(_items(2))
    assert errors == {"d1": "the server stayed busy: queue is full"}
    assert time.monotonic() - started < 3


def test_a_request_that_is_too_large_is_halved() -> None:
    def limited(body: bytes) -> tuple[int, Any]:
        count = body.count(b'"_id"')
        return (413, {}) if count > 2 or b'"d4"' in body else _answer(*[201] * count)

    with scripted([(0, limited)], "Elasticsearch") as url:
        errors = _bulk(url, 5).send(_items(6))
    assert errors.keys() == {"d4"}
    assert "more than the server takes" in errors["d4"]


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (401, "security_exception", "refuses access"),
        (429, "circuit_breaking_exception", "overloaded"),
        (500, "", "500"),
    ],
)
def test_answers_become_errors_with_a_remedy(status: int, kind: str, expected: str) -> None:
    error = elastic_errors.from_answer("http://es", status, {"type": kind, "reason": "why"})
    assert expected in error.message
    assert "why" in error.message
    assert error.remedy


def test_an_address_is_shown_without_its_credentials() -> None:
    assert elastic_errors.public_address("https://u:p@es.example:9200/path?x=1") == "https://es.example:9200/path"


def test_bodies_give_every_number_back() -> None:
    """Vectors as float32 has them, and whole numbers that are too long for 64 bits."""
    vector = np.random.default_rng(3).standard_normal(50).astype(np.float32)
    plain = index_item("d", "i", "d#0", {"vector": vector, "metadata": {"n": 1}})
    assert np.array(json.loads(plain.source)["vector"], dtype=np.float32).tolist() == vector.tolist()
    assert len(plain.source) < 50 * 14
    long = index_item("d", "i", "d#0", {"vector": vector, "metadata": {"n": 2**70}})
    assert json.loads(long.source)["metadata"] == {"n": 2**70}
    assert np.array(json.loads(long.source)["vector"], dtype=np.float32).tolist() == vector.tolist()
