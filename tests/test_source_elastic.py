"""Another Elasticsearch index as a source, on a real node: pages, increments, and servers that vanish."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from citewell.errors import BadInput
from citewell.ingest.sources import Known, Limits, SourceOptions, incomplete, open_source
from citewell.records import Document, Outcome
from tests.servers.elasticsearch import ElasticsearchNode
from tests.servers.fixtures import LocalServer
from tests.spoiling_proxy import spoiling

LIMITS = Limits(file_bytes=100_000, text_characters=2_000)
NOTHING = Known()


class Shelf:
    """One index, written to by the test and read by the source."""

    def __init__(self, client: httpx.Client, server: str, name: str) -> None:
        self.client = client
        self.name = name
        self.url = f"{server.replace('http:', 'elasticsearch:')}/{name}"

    def make(self, **fields: str) -> None:
        properties = {field: {"type": kind} for field, kind in fields.items()}
        body = {"settings": {"number_of_shards": 2, "number_of_replicas": 0}, "mappings": {"properties": properties}}
        self.client.put(f"/{self.name}", json=body).raise_for_status()

    def fill(self, documents: dict[str, dict[str, Any]]) -> None:
        lines = [json.dumps(line) for doc_id, body in documents.items() for line in ({"index": {"_id": doc_id}}, body)]
        answer = self.client.post(
            f"/{self.name}/_bulk",
            params={"refresh": "true"},
            content="\n".join(lines) + "\n",
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert not answer.raise_for_status().json()["errors"]

    def open_contexts(self) -> int:
        nodes = self.client.get("/_nodes/stats/indices/search").json()["nodes"]
        return sum(node["indices"]["search"]["open_contexts"] for node in nodes.values())


@pytest.fixture
def shelf(elasticsearch_url: str, index_name: str) -> Iterator[Shelf]:
    with httpx.Client(base_url=elasticsearch_url, timeout=60, trust_env=False) as client:
        yield Shelf(client, elasticsearch_url, index_name)


def read(url: str, known: Known = NOTHING, **options: Any) -> tuple[list[Document], list[Outcome]]:
    items = list(open_source(url, LIMITS, SourceOptions(**options)).items(known, lambda _: None))
    return [i for i in items if isinstance(i, Document)], [i for i in items if isinstance(i, Outcome)]


def knows(documents: list[Document]) -> Known:
    return Known(revisions=lambda: (document.revision for document in documents))


def test_documents_with_their_ids_and_other_fields_as_metadata(shelf: Shelf) -> None:
    shelf.make()
    shelf.fill({"a/1": {"title": "T", "body": "B.", "url": "https://x/1", "lang": "en", "groups": ["g"], "n": [1, 2]}})
    documents, failures = read(shelf.url)
    assert not failures
    assert documents == [
        Document(id="a/1", title="T", text="B.", url="https://x/1", lang="en", groups=("g",), metadata={"n": [1, 2]})
    ]


def test_fields_inside_of_objects_are_mapped_by_a_dotted_name(shelf: Shelf) -> None:
    shelf.make()
    shelf.fill({"1": {"sku": 7, "content": {"body": "Words.", "pages": 3}, "seo": {"link": "https://x/7"}}})
    columns = (("id", "sku"), ("text", "content.body"), ("url", "seo.link"))
    documents, failures = read(shelf.url, columns=columns)
    assert not failures
    assert documents == [Document(id="7", text="Words.", url="https://x/7", metadata={"content": {"pages": 3}})]


def test_every_page_is_read_once_and_the_point_in_time_is_closed(shelf: Shelf) -> None:
    shelf.make()
    shelf.fill({str(n): {"text": f"Text {n}."} for n in range(1234)})
    before = shelf.open_contexts()
    documents, failures = read(shelf.url)
    assert not failures
    assert sorted(int(d.id) for d in documents) == list(range(1234))
    assert shelf.open_contexts() == before
    items = open_source(shelf.url, LIMITS).items(NOTHING, lambda _: None)
    next(items)
    assert shelf.open_contexts() > before
    shelf.fill({"late": {"text": "Written while it is read."}})
    assert sum(1 for _ in items) == 1233, "the index stands still for its reader"
    items = open_source(shelf.url, LIMITS).items(NOTHING, lambda _: None)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert shelf.open_contexts() == before


def test_a_query_chooses_documents_and_fields(shelf: Shelf) -> None:
    shelf.make(lang="keyword")
    shelf.fill({str(n): {"text": "T.", "lang": "en" if n % 2 else "es", "secret": n} for n in range(6)})
    query = json.dumps({"query": {"term": {"lang": "es"}}, "_source": ["text", "lang"]})
    documents, failures = read(shelf.url, query=query)
    assert not failures
    assert sorted(d.id for d in documents) == ["0", "2", "4"]
    assert all(d.lang == "es" and not d.metadata for d in documents)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("long", [-5, 2, 10]),
        ("double", [1.5, 1.75, 10]),
        ("date", ["2026-01-01T10:00:00+02:00", "2026-01-01T09:00:00Z", "2026-01-01T09:00:00.001Z"]),
        ("date_nanos", ["2026-01-01T09:00:00.000001Z", "2026-01-01T09:00:00.01Z", "2026-01-01T09:00:00.100000001Z"]),
        ("keyword", ["10", "2", "Ä"]),
    ],
)
def test_only_what_is_new_is_asked_for(shelf: Shelf, kind: str, values: list[Any]) -> None:
    shelf.make(stamp=kind)
    shelf.fill({str(n): {"text": "T.", "stamp": value} for n, value in enumerate(values)} | {"none": {"text": "T."}})
    documents, failures = read(shelf.url, since="stamp")
    assert not failures
    assert [d.id for d in documents] == ["none", "0", "1", "2"], "in the field's order, after what has none"
    again, failures = read(shelf.url, known=knows(documents), since="stamp")
    assert not failures
    assert [d.id for d in again] == ["none", "2"]
    again, _ = read(shelf.url, known=knows(documents[:3]), since="stamp")
    assert [d.id for d in again] == ["none", "1", "2"]
    everything = Known(revisions=lambda: (d.revision for d in documents), unfinished=lambda: True)
    assert len(read(shelf.url, known=everything, since="stamp")[0]) == 4
    other_kind = Known(revisions=lambda: iter(["text:x" if kind != "keyword" else "number:1"]))
    assert len(read(shelf.url, known=other_kind, since="stamp")[0]) == 4


def test_since_over_several_pages(shelf: Shelf) -> None:
    shelf.make(n="long")
    shelf.fill({str(n): {"text": "T.", "n": n // 3} for n in range(700)})
    documents, failures = read(shelf.url, since="n")
    assert not failures
    assert sorted(int(d.id) for d in documents) == list(range(700))
    stamps = [int(d.revision.removeprefix("number:")) for d in documents]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize(
    ("since", "reason"), [("text", "is text, which has no order"), ("absent", "no field `absent`")]
)
def test_a_field_that_has_no_order(shelf: Shelf, since: str, reason: str) -> None:
    shelf.make(text="text")
    shelf.fill({"1": {"text": "T."}})
    _, (failure,) = read(shelf.url, since=since)
    assert failure.code == "bad_input"
    assert reason in failure.reason


def test_a_bad_document_costs_itself_alone(shelf: Shelf) -> None:
    shelf.make()
    bad: dict[str, dict[str, Any]] = {
        "none": {"title": "T"},
        "list": {"text": ["a", "b"]},
        "long": {"text": "x" * 3000},
        "null": {"text": None},
    }
    shelf.fill({"1": {"text": "One."}, **bad, "2": {"text": "Two."}})
    documents, failures = read(shelf.url)
    assert sorted(d.id for d in documents) == ["1", "2"]
    reasons = {f.doc_id: f.reason for f in failures}
    assert set(reasons) == set(bad)
    assert "no field `text` or `body` or `content`: it has title, _id" in reasons["none"]
    assert "`text` holds list" in reasons["list"]
    assert "3000 characters" in reasons["long"]
    assert all(f.remedy for f in failures)


def test_an_index_that_is_not_there_and_a_query_that_is_none(shelf: Shelf, index_name: str) -> None:
    _, (failure,) = read(shelf.url)
    assert incomplete(failure, open_source(shelf.url, LIMITS).name)
    assert f"there is no index at {shelf.url}" in failure.reason
    shelf.make()
    _, (failure,) = read(shelf.url, query='{"query": {"nonsense": {}}}')
    assert failure.code == "bad_input"
    assert "nonsense" in failure.reason
    for query in ("{", "[]", "{}", '{"aggs": {}}'):
        with pytest.raises(BadInput, match="query"):
            open_source(shelf.url, LIMITS, SourceOptions(query=query))


@pytest.mark.parametrize(
    "address", ["elasticsearch://host", "elasticsearch://host:x/i", "elasticsearch://host/a/b", "elasticsearch:///i"]
)
def test_an_address_that_is_not_whole(address: str) -> None:
    with pytest.raises(BadInput, match="not whole"):
        open_source(address, LIMITS)


def test_nothing_there_and_something_else_there(redis_url: str) -> None:
    _, (failure,) = read("elasticsearch://user:s3cret@127.0.0.1:1/index")
    assert failure.code == "source_unavailable"
    assert "elasticsearch://127.0.0.1:1/index does not answer" in failure.reason
    assert "s3cret" not in str(failure)


@pytest.mark.timeout(900)  # two starts of a node
def test_credentials_and_a_node_that_dies_half_way(local_elasticsearch: LocalServer[ElasticsearchNode]) -> None:
    node = local_elasticsearch(heap="256m", password="only-for-this-test")
    with httpx.Client(base_url=node.url, auth=node.auth, timeout=60, trust_env=False) as client:
        shelf = Shelf(client, node.url, "mine")
        shelf.make()
        shelf.fill({str(n): {"text": f"Text {n}."} for n in range(1000)})
        roles = {"r": {"indices": [{"names": ["mine"], "privileges": ["read", "view_index_metadata"]}]}}
        key = client.post("/_security/api_key", json={"name": "reader", "role_descriptors": roles}).json()["encoded"]
    name = open_source(shelf.url, LIMITS).name
    _, (failure,) = read(shelf.url)
    assert "refuses access" in failure.reason
    assert "source_api_key" in failure.remedy
    for url, options in (
        (shelf.url.replace("//", "//elastic:only-for-this-test@"), {}),
        (shelf.url.replace("//", f"//{key.replace('=', '%3D')}@"), {}),
        (shelf.url, {"api_key": key}),
    ):
        source = open_source(url, LIMITS, SourceOptions(**options))
        assert source.name == name
        assert key not in repr(SourceOptions(**options))
        assert sum(isinstance(item, Document) for item in source.items(NOTHING, lambda _: None)) == 1000
    _, (failure,) = read(shelf.url.replace("//", "//elastic:wr0ng@"))
    assert "refuses access" in failure.reason
    assert "wr0ng" not in str(failure)

    reader, other = (open_source(shelf.url, LIMITS, SourceOptions(api_key=key)) for _ in range(2))
    items, restarted = reader.items(NOTHING, lambda _: None), other.items(NOTHING, lambda _: None)
    next(items)
    next(restarted)
    node.kill()
    *loaded, last = items
    assert isinstance(last, Outcome)
    assert incomplete(last, name)
    assert last.code == "source_unavailable"
    assert f"does not answer after {len(loaded) + 1} documents" in last.reason
    node.start()
    *loaded, last = restarted
    assert isinstance(last, Outcome)
    assert f"has let go of the point in time after {len(loaded) + 1} documents" in last.reason
    assert incomplete(last, name)


def test_a_point_in_time_that_is_closed_half_way(shelf: Shelf, elasticsearch_url: str) -> None:
    shelf.make()
    shelf.fill({str(n): {"text": f"Text {n}."} for n in range(1000)})
    with spoiling(elasticsearch_url) as proxy:
        address = shelf.url.replace(elasticsearch_url.partition("://")[2], proxy.url.partition("://")[2])
        source = open_source(address, LIMITS)
        items = source.items(NOTHING, lambda _: None)
        loaded = [next(items) for _ in range(10)]
        asked = json.loads(proxy.of("_search")[-1].body)
        closed = shelf.client.request("DELETE", "/_pit", json={"id": asked["pit"]["id"]})
        assert closed.json()["num_freed"] > 0
        loaded += items
    last = loaded.pop()
    assert isinstance(last, Outcome)
    assert incomplete(last, source.name)
    assert f"has let go of the point in time after {len(loaded)} documents" in last.reason
    assert all(isinstance(item, Document) for item in loaded)
    assert len(loaded) < 1000


READER = """
import resource, sys
from citewell.ingest.sources import Known, Limits, open_source
items = open_source(sys.argv[1], Limits(10**6, 10**6)).items(Known(), lambda _: None)
for _ in range(2000):
    next(items)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = 2000 + sum(1 for _ in items)
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is counted in KiB there alone")
def test_memory_is_flat(shelf: Shelf) -> None:
    """20,000 documents of 8 KB are 160 MB; reading them takes less than 40 MiB more than the first 2,000 did."""
    shelf.make(text="binary")
    for start in range(0, 20_000, 2_000):
        shelf.fill({str(n): {"text": "word" * 2000} for n in range(start, start + 2_000)})
    done = subprocess.run(
        [sys.executable, "-c", READER, shelf.url], capture_output=True, text=True, check=True, timeout=250
    )
    count, grown = map(int, done.stdout.split())
    assert count == 20_000
    assert grown < 40, f"{grown} MiB"
