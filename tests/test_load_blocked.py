"""Elasticsearch that goes read-only in the middle of a load, as it does on a full disk, and is mended later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from citewell.config import Settings
from citewell.ingest.known import known_of
from citewell.ingest.load import Loading, load_sources
from citewell.ingest.sources import Item, Known, Tell
from citewell.library import Library
from citewell.ports import LegsQuery
from citewell.records import Document
from tests.hashing import HashingEmbedder
from tests.libraries import library

COUNT = 12


class Watched:
    """A source that has its say before a document is read."""

    name, size = "watched", 0

    def __init__(self, act: dict[int, object]) -> None:
        self.act = act

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        for number in range(COUNT):
            if callable(act := self.act.get(number)):
                act()
            yield Document(id=f"d{number:02}", text=f"Shelf {number} holds jam.", lang="en", revision=f"{number}")


@contextmanager
def shelf_of(url: str, name: str) -> Iterator[Library]:
    opened = library(
        Settings.model_validate({"stack": "served", "elasticsearch_url": url, "index_name": name}), HashingEmbedder()
    )
    try:
        yield opened
    finally:
        opened.close()


def test_a_block_that_comes_and_goes(
    elasticsearch_url: str, index_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("citewell.ingest.pipeline.LOOKED_UP", 2)
    monkeypatch.setattr("citewell.ingest.pipeline._INSIDE", 1)
    kept = tmp_path / "failures.jsonl"

    def block(value: bool | None) -> None:
        both = f"{index_name}-000001,{index_name}-000001-documents"
        body = {"index.blocks.read_only_allow_delete": value}
        httpx.put(f"{elasticsearch_url}/{both}/_settings", json=body, timeout=30).raise_for_status()

    def load(shelf: Library, act: dict[int, object]) -> dict[str, str]:
        outcomes = load_sources(shelf, [Watched(act)], Loading(failures=kept), lambda _: None)
        return {outcome.doc_id: outcome.status for outcome in outcomes}

    with shelf_of(elasticsearch_url, index_name) as shelf:
        list(shelf.put([Document(id="before", text="It was here.", lang="en")], "s"))
        statuses = load(shelf, {4: lambda: block(True), 8: lambda: block(None)})
        failed = [doc_id for doc_id, status in statuses.items() if status == "failed"]
        assert failed, "the block was met"
        assert statuses["d00"] == statuses["d11"] == "added"
        lines = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
        assert [line["id"] for line in lines] == failed
        assert {line["code"] for line in lines} == {"index_unavailable"}
        assert all("blocked the index for writing" in line["reason"] for line in lines)
        assert all("disk" in line["remedy"] for line in lines)
        legs = shelf.index().legs(LegsQuery(text="shelf", lang="en", vector=None, groups=None, legs=("bm25",)))
        found = {passage.doc_id for passage in legs.passages.values()}
        assert found == statuses.keys() - set(failed)

        shelf.index().flush()
        known = [int(revision) for revision in known_of(shelf.index(), ["watched"])["watched"].revisions()]
        assert all(f"d{number:02}" < failed[0] for number in known), "a source that asks for what is new asks for these"
        again = load(shelf, {})
        assert {doc_id for doc_id, status in again.items() if status != "unchanged"} == set(failed)
        assert "failed" not in again.values()
        assert kept.read_text("utf-8") == ""
        assert set(load(shelf, {}).values()) == {"unchanged"}
        assert len(list(known_of(shelf.index(), ["watched"])["watched"].revisions())) == COUNT


def test_a_load_into_a_blocked_index_ends_without_an_error(elasticsearch_url: str, index_name: str) -> None:
    with shelf_of(elasticsearch_url, index_name) as shelf:
        list(shelf.put([Document(id="before", text="It was here.", lang="en")], "s"))
        both = f"{index_name}-000001,{index_name}-000001-documents"
        body = {"index.blocks.read_only_allow_delete": True}
        httpx.put(f"{elasticsearch_url}/{both}/_settings", json=body, timeout=30).raise_for_status()
        outcomes = list(load_sources(shelf, [Watched({})], Loading(), lambda _: None))
        assert [(outcome.status, outcome.code) for outcome in outcomes] == [("failed", "index_unavailable")] * COUNT
        # What only comes from elsewhere now is a write to the ledger.
        (moved,) = shelf.put([Document(id="before", text="It was here.", lang="en")], "elsewhere")
        assert (moved.status, moved.code) == ("failed", "index_unavailable")
