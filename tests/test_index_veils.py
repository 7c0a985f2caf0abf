"""What hides half-made changes on Elasticsearch: what readers make of it, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import elastic_transport
import httpx
import pytest

from citewell.config import load_settings
from citewell.index import elastic_layout
from citewell.index.elastic import ElasticIndex
from citewell.index.elastic_veils import crowded, visible
from tests.contracts.index_material import FINGERPRINT, ask, documents, write

DEEP: dict[str, Any] = {"k": 1}
for _ in range(30):
    DEEP = {"k": DEEP}  # deeper than Elasticsearch takes


@pytest.fixture
def index(elasticsearch_url: str, index_name: str) -> Iterator[ElasticIndex]:
    made = ElasticIndex(load_settings(elasticsearch_url=elasticsearch_url, index_name=index_name), FINGERPRINT)
    made.load()
    yield made
    made.close()


@pytest.fixture
def server(elasticsearch_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=elasticsearch_url, timeout=30, trust_env=False) as client:
        yield client


def hit(passage_id: str, version: int, *, second: bool = False) -> dict[str, Any]:
    doc_id = passage_id.rpartition("#")[0]
    return {"_id": passage_id + "~" * second, "_version": version, "_source": {"doc_id": doc_id, "id": passage_id}}


def source_of(*hidden: tuple[str, int, int]) -> dict[str, Any]:
    return {"veil": True, "hidden": json.dumps(hidden)}


def veil(*hidden: tuple[str, int, int]) -> dict[str, Any]:
    return {"_id": "veil:1", "_version": 1, "_source": source_of(*hidden)}


def ids(legs: list[list[Any]]) -> list[list[str]]:
    return [[found["_id"] for found in leg] for leg in legs]


class TestVisible:
    def test_what_a_veil_hides_is_not_there(self) -> None:
        both = [hit("a#0", 5), hit("a#0", 9, second=True), hit("a#1", 5), hit("b#0", 2)]
        assert ids(visible([[veil(("a", 1, 9)), *both]])) == [["a#0", "a#1", "b#0"]]
        assert ids(visible([[veil(("a", 0, 9)), *both]])) == [["a#0~", "b#0"]]
        assert ids(visible([[veil(("a", 0, 9), ("a", 1, 9)), *both]])) == [["b#0"]]

    def test_a_veil_that_was_left_does_not_hide_later_writes(self) -> None:
        left = veil(("a", 1, 7))
        assert ids(visible([[left, veil(("a", 0, 9)), hit("a#0", 5), hit("a#0", 9, second=True)]])) == [["a#0~"]]
        assert ids(visible([[left, hit("a#0", 8, second=True)]])) == [["a#0~"]]

    def test_of_two_refreshes_the_newer_version_of_a_document_stands(self) -> None:
        before = [hit("a#0", 5), hit("a#1", 5), hit("b#0", 3)]
        after = [veil(("a", 0, 9)), hit("a#1", 5), hit("a#1", 9, second=True)]
        assert ids(visible([before, after])) == [["b#0"], ["a#1~"]]
        assert ids(visible([after, before])) == [["a#1~"], ["b#0"]]
        assert visible([[], []]) == [[], []]

    def test_a_full_page_of_veils_may_hide_more_of_them(self) -> None:
        assert crowded([veil(), veil()], 2)
        assert not crowded([veil(), hit("a#0", 1)], 2)
        assert not crowded([veil(), veil()], 3)
        assert not crowded([], 2)


def raw(server: httpx.Client, name: str) -> list[dict[str, Any]]:
    """Everything in the index of passages, veils included."""
    found = server.post(f"/{name}/_search", json={"size": 1000, "version": True}).raise_for_status().json()
    hits: list[dict[str, Any]] = found["hits"]["hits"]
    return hits


def requests_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests from now on."""
    sent: list[str] = []
    perform = elastic_transport.Urllib3HttpNode.perform_request

    def counted(node: Any, method: str, target: str, *rest: Any, **options: Any) -> Any:
        sent.append(target.partition("?")[0])
        return perform(node, method, target, *rest, **options)

    monkeypatch.setattr(elastic_transport.Urllib3HttpNode, "perform_request", counted)
    return sent


@pytest.mark.parametrize(("before", "after", "bulks"), [(0, 1, 3), (1, 1, 3), (0, 3, 5), (3, 2, 7), (1, 2, 7)], ids=str)
def test_requests_of_a_batch_are_few_whatever_its_size(
    index: ElasticIndex, monkeypatch: pytest.MonkeyPatch, before: int, after: int, bulks: int
) -> None:
    """Intents, passages, final entries; a veil drawn and lifted; where passages were, it is turned and they go."""
    index.put([write("first")])
    if before:
        index.put([write(f"d{n}", ["alpha"] * before) for n in range(50)])
    sent = requests_of(monkeypatch)
    assert not any(result.error for result in index.put([write(f"d{n}", ["beta"] * after) for n in range(50)]))
    assert [path for path in sent if path != "/_bulk"] == [f"/{index.version}-documents/_mget"]
    assert sent.count("/_bulk") == bulks


def test_a_change_that_is_refused_leaves_the_document_as_it_was(
    index: ElasticIndex, server: httpx.Client, index_name: str
) -> None:
    before = [write("a", ["alpha", "beta", "gamma"]), write("b", ["alpha", "beta"])]
    index.put(before)
    results = index.put([write("a", ["delta"] * 5, metadata=DEEP), write("b", ["delta", "epsilon"])])
    index.flush()
    assert [bool(result.error) for result in results] == [True, False]
    assert documents(index.legs(ask("alpha")), "bm25") == ["a"]
    assert documents(index.legs(ask("delta")), "bm25") == ["b"]
    assert index.ledger(["a"])["a"].content_hash == "", "the next load tries it again"
    assert len(raw(server, index_name)) == 5, "neither its refused passages nor a veil"


def test_many_veils_do_not_crowd_out_passages(
    index: ElasticIndex, server: httpx.Client, index_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a page holds: a search sees that and asks once more."""
    index.put([write("a", ["refund one", "refund two"]), write("hidden", ["refund", "refund"])])
    index.flush()
    hidden = [("hidden", slot, 10**6) for slot in (0, 1)]
    for number in range(40):
        source = source_of(*hidden) if number == 39 else source_of(("nobody", 0, 1))
        server.put(f"/{index_name}/_doc/veil:{number}", json=source).raise_for_status()
    index.flush()
    sent = requests_of(monkeypatch)
    for query in (ask("refund", angle=0, depth=5), ask("refund", depth=5), ask(angle=0, depth=5)):
        legs = index.legs(query)
        assert {passage.doc_id for passage in legs.passages.values()} == {"a"}
    assert sent == ["/_msearch"] * 6
    assert index.info()["passages"] == 4
    assert [held.doc_id for held in index.held()] == ["a", "hidden"]


def test_veils_of_killed_writers_go_with_the_next_load_of_their_documents(
    index: ElasticIndex, server: httpx.Client, index_name: str
) -> None:
    """Unfinished documents `a` and `b` under one veil, as a kill leaves them: it goes when the last one is whole."""
    index.put([write("a", ["alpha", "beta"]), write("b", ["alpha", "beta"])])
    for doc_id in ("a", "b"):
        body = {"doc": {"content_hash": ""}}
        server.post(f"/{index_name}-documents/_update/{doc_id}", json=body).raise_for_status()
    source = source_of(("a", 1, 50), ("b", 1, 50))
    server.put(f"/{index_name}/_doc/veil:dead", json=source).raise_for_status()
    index.put([write("a", ["gamma", "delta"])])
    index.flush()
    assert len(raw(server, index_name)) == 5
    assert index.delete(["b"])[0].found
    index.flush()
    assert sorted(found["_source"]["id"] for found in raw(server, index_name)) == ["a#0", "a#1"]


def test_an_index_of_before_is_written_to_as_well(
    elasticsearch_url: str, server: httpx.Client, index_name: str
) -> None:
    """Its mapping lacks the fields; its passages have no slot."""
    name = f"{index_name}-000001"
    for kind, place in (("passages", name), ("documents", f"{name}-documents")):
        made = elastic_layout.body(kind, FINGERPRINT)
        for field in ("veil", "hidden", "slot"):
            made["mappings"]["properties"].pop(field, None)
        alias = index_name if kind == "passages" else f"{index_name}-documents"
        made["aliases"] = {alias: {}, f"{place}-write": {}}
        server.put(f"/{place}", json=made).raise_for_status()
    old = write("a", ["alpha", "beta"])
    for passage, vector in zip(old.passages, old.vectors, strict=True):
        body = passage.to_dict() | {"words": passage.text, "stems": passage.text, "vector": vector.tolist()}
        url = f"/{name}/_doc/a%23{passage.ordinal}?version=3&version_type=external_gte"
        server.put(url, json=body).raise_for_status()
    server.put(f"/{name}-documents/_doc/a?refresh=true", json=old.entry.to_dict()).raise_for_status()
    index = ElasticIndex(load_settings(elasticsearch_url=elasticsearch_url, index_name=index_name), FINGERPRINT)
    index.load()
    index.flush()
    assert documents(index.legs(ask("alpha", angle=0)), "bm25") == ["a"]
    assert not any(result.error for result in index.put([write("a", ["gamma", "delta"]), write("b", ["x", "y"])]))
    index.flush()
    assert documents(index.legs(ask("gamma", angle=0)), "bm25") == ["a"]
    assert documents(index.legs(ask("alpha", angle=0)), "bm25") == []
    assert index.info()["passages"] == 4
    index.close()
