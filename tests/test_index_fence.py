"""Writers of the same documents at the same moment, on a real Elasticsearch: one of them wins, whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from citewell.config import Settings
from citewell.index import elastic_fence as fence
from citewell.index.elastic import ElasticIndex
from citewell.index.elastic_writes import Item
from citewell.ports import DocumentWrite
from tests.contracts.index_material import FINGERPRINT, ask, write


@pytest.fixture
def settings(elasticsearch_url: str, index_name: str) -> Settings:
    return Settings.model_validate({"elasticsearch_url": elasticsearch_url, "index_name": index_name})


@pytest.fixture
def index(settings: Settings) -> Iterator[ElasticIndex]:
    with closing(ElasticIndex(settings, FINGERPRINT)) as made:
        made.load()
        yield made


def texts(writer: int, count: int) -> list[str]:
    return [f"hello from {writer} number {n}" for n in range(count)]


def whole(index: ElasticIndex, writes: list[DocumentWrite]) -> None:
    """Ledger and passages agree, and each document is as one of the writers wrote it."""
    index.flush()
    held = {one.doc_id: (one.passages, one.highest + 1) for one in index.held()}
    entries = {entry.doc_id: entry for entry in index.entries()}
    assert held == {doc_id: (entry.passages, entry.passages) for doc_id, entry in entries.items()}
    wanted = {(one.entry.doc_id, one.entry.content_hash): {p.text for p in one.passages} for one in writes}
    found = index.legs(ask("hello", depth=1000)).passages.values()
    for doc_id, entry in entries.items():
        mine = {passage.text for passage in found if passage.doc_id == doc_id}
        assert mine == wanted[doc_id, entry.content_hash], doc_id


def test_many_writers_of_the_same_documents_leave_one_of_them_whole(index: ElasticIndex, settings: Settings) -> None:
    writes = [[write(f"d{d}", texts(w, 1 + (w * 3 + d) % 7)) for d in range(5)] for w in range(4)]
    errors: list[str] = []

    def work(number: int) -> None:
        with closing(ElasticIndex(settings, FINGERPRINT)) as mine:
            mine.load()
            for _ in range(5):
                errors.extend(result.error for result in mine.put(writes[number]) if result.error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert errors == []
    whole(index, [one for batch in writes for one in batch])


def test_writers_and_deleters_leave_nothing_half(index: ElasticIndex, settings: Settings) -> None:
    writes = [write(f"d{d}", texts(0, 1 + d)) for d in range(4)]

    def delete() -> None:
        with closing(ElasticIndex(settings, FINGERPRINT)) as mine:
            mine.load()
            for _ in range(6):
                mine.delete([f"d{d}" for d in range(4)])

    thread = threading.Thread(target=delete)
    thread.start()
    for _ in range(6):
        assert [result.error for result in index.put(writes)] == [""] * 4
    thread.join(200)
    whole(index, writes)


def test_a_writer_that_was_overtaken_writes_no_passage(index: ElasticIndex) -> None:
    """Five passages begun, two written by another: the late ones are refused, also where the other deleted them."""
    target = index._target()
    index.put([write("d", texts(1, 1))])
    late = fence.read(target, ["d"])["d"]
    index.put([write("d", texts(2, 5))])
    index.put([write("d", texts(3, 2))])
    bulk = target.bulk()
    names = [f"d#{ordinal}" for ordinal in range(5)]
    items = [
        Item("d", "index", target.layout.write_passages, name, b"{}", version=late.token.seq_no + 1) for name in names
    ]
    assert bulk.send(items) == {}
    assert bulk.conflicts == {"d"}
    whole(index, [write("d", texts(3, 2))])


def test_what_a_killed_writer_left_is_written_over(index: ElasticIndex) -> None:
    target = index._target()
    layout = target.layout
    dead = write("d", texts(1, 6))
    fields = {"doc_id": "d", "content_hash": "", "passages": 6}
    bulk = target.bulk()
    assert bulk.send([fence._step(layout, "d", None, fields)]) == {}
    version = bulk.tokens["d"].seq_no + 1
    sources = {p.id: json.dumps(p.to_dict() | {"vector": [1.0] * 8}).encode() for p in dead.passages}
    items = [Item("d", "index", layout.write_passages, name, s, version=version) for name, s in sources.items()]
    assert bulk.send(items) == {}
    after = write("d", texts(2, 2))
    assert [result.error for result in index.put([after])] == [""]
    whole(index, [after])
