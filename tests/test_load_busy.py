"""Loads into a real Elasticsearch behind a proxy that refuses, resets and delays: nothing is lost in silence."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from citewell.config import Settings
from citewell.ingest.load import Loading, load_sources, opened
from citewell.ingest.pipeline import BATCH_DOCUMENTS
from citewell.records import Outcome
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.spoiling_proxy import Answer, Fault, Late, Proxy, Refuse, Reset, Seen, spoiling

COUNT = 30
BULK, MGET = "_bulk", "_mget"
Spoil = Callable[[Seen], Fault | None]


class Place:
    """An index behind the proxy, and what it holds, read past the proxy."""

    def __init__(self, url: str, name: str, proxy: Proxy, folder: Path) -> None:
        self.url, self.name, self.proxy, self.folder = url, name, proxy, folder
        self.failures = folder / "failures.jsonl"
        self.file = folder / "documents.jsonl"
        with self.file.open("w", encoding="utf-8") as lines:
            for number in range(COUNT):
                text = "\n\n".join(
                    f"Shelf {number} in the attic, part {part}, holds {number * 7} jars of jam." for part in range(3)
                )
                lines.write(json.dumps({"id": f"d{number:02}", "text": text, "lang": "en"}) + "\n")

    def load(self, *sources: Path, index: str = "", timeout: float = 30.0) -> list[Outcome]:
        settings = Settings.model_validate(
            {
                "stack": "served",
                "elasticsearch_url": self.proxy.url,
                "index_name": index or self.name,
                "elasticsearch_timeout": timeout,
                "passage_tokens": 16,
            }
        )
        shelf = library(settings, HashingEmbedder())
        try:
            plan = Loading(failures=self.failures)
            named = opened([str(source) for source in sources or (self.file,)], settings)
            return list(load_sources(shelf, named, plan, lambda _: None))
        finally:
            shelf.close()

    def kept(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.failures.read_text("utf-8").splitlines()]

    def holds(self, index: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        """Hash and passages of each document, text and vector of each passage."""
        index = index or self.name
        ledger = {row["doc_id"]: (row["content_hash"], row["passages"]) for row in self._rows(f"{index}-documents")}
        return ledger, {row["id"]: (row["text"], row["vector"]) for row in self._rows(index)}

    def _rows(self, index: str) -> list[dict[str, Any]]:
        httpx.post(f"{self.url}/{index}/_refresh").raise_for_status()
        body = {"size": 1000, "_source": {"exclude_vectors": False}}
        answer = httpx.post(f"{self.url}/{index}/_search", json=body, timeout=60).raise_for_status().json()
        return [hit["_source"] for hit in answer["hits"]["hits"]]

    def whole(self) -> None:
        """The index is what an undisturbed load makes."""
        self.proxy.spoil.clear()
        calm = f"{self.name}-calm"
        assert {outcome.status for outcome in self.load(index=calm)} == {"added"}
        assert self.holds() == self.holds(calm)
        assert len(self.holds()[1]) == 3 * COUNT


@pytest.fixture
def place(elasticsearch_url: str, index_name: str, tmp_path: Path) -> Iterator[Place]:
    with spoiling(elasticsearch_url) as proxy:
        yield Place(elasticsearch_url, index_name, proxy, tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citewell.index.elastic._BUSY_BUDGET_S", 1.0)


def first(count: int, fault: Fault) -> Spoil:
    return lambda seen: fault if seen.number <= count else None


SPOILS: dict[str, tuple[str, Spoil]] = {
    "busy requests": (BULK, first(4, Answer(429))),
    "an unavailable server": (BULK, lambda seen: Answer(503) if seen.number % 2 else None),
    "resets before the server has it": (BULK, first(4, Reset(before=True))),
    "resets once the server has done it": (BULK, lambda seen: Reset(before=False) if seen.number % 3 == 1 else None),
    "a ledger that is busy": (MGET, first(4, Answer(429))),
    "a ledger that resets": (MGET, first(4, Reset(before=True))),
}


@pytest.mark.parametrize("kind", SPOILS)
def test_what_passes_is_waited_for_and_nothing_is_lost(place: Place, kind: str) -> None:
    ending, spoil = SPOILS[kind]
    place.proxy.spoil[ending] = spoil
    outcomes = place.load()
    assert [outcome.status for outcome in outcomes] == ["added"] * COUNT
    assert place.kept() == []
    place.whole()


def test_an_answer_that_comes_too_late_is_asked_for_again(place: Place) -> None:
    place.proxy.spoil[BULK] = lambda seen: Late(3.0) if seen.number in (1, 3, 5) else None
    assert [outcome.status for outcome in place.load(timeout=1.0)] == ["added"] * COUNT
    place.whole()


def test_single_items_that_are_refused_are_sent_again_alone_with_growing_pauses(place: Place) -> None:
    refused = frozenset({"d03#1", "d17#0", "d29#2"})
    passages = [0]

    def spoil(seen: Seen) -> Fault | None:
        passages[0] += any("#" in name for name in seen.ids())
        return Refuse(429 if passages[0] % 2 else 503, refused) if 0 < passages[0] <= 4 else None

    place.proxy.spoil[BULK] = spoil
    assert [outcome.status for outcome in place.load()] == ["added"] * COUNT
    sent = [seen for seen in place.proxy.of(BULK) if set(seen.ids()) == refused]
    assert len(sent) == 4, "the refused alone, until they are taken"
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(sent)]
    assert all(gap >= least for gap, least in zip(gaps, (0.2, 0.4, 0.8), strict=True)), gaps
    place.whole()


@pytest.mark.usefixtures("impatient")
def test_what_stays_refused_is_named_and_its_failures_make_it_whole(place: Place) -> None:
    place.proxy.spoil[BULK] = lambda seen: Refuse(429, frozenset({"d03#1", "d17"}))
    outcomes = {outcome.doc_id: outcome for outcome in place.load(timeout=2.0)}
    assert {doc_id for doc_id, outcome in outcomes.items() if outcome.status == "failed"} == {"d03", "d17"}
    assert [line["id"] for line in place.kept()] == ["d03", "d17"]
    assert {line["code"] for line in place.kept()} == {"index_unavailable"}
    assert [line["reason"] for line in place.kept()] == ["the server stayed busy: the queue is full"] * 2
    assert all("again" in line["remedy"] for line in place.kept())
    place.proxy.spoil.clear()
    assert [(o.doc_id, o.status) for o in place.load(place.failures)] == [("d03", "changed"), ("d17", "added")]
    assert place.kept() == []
    place.whole()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [Answer(429), Answer(503), Reset(before=True), Reset(before=False)])
def test_a_server_that_takes_nothing_fails_every_document_by_name(place: Place, fault: Fault) -> None:
    place.proxy.spoil[BULK] = lambda _: fault
    outcomes = place.load(timeout=2.0)
    assert [(outcome.status, outcome.code) for outcome in outcomes] == [("failed", "index_unavailable")] * COUNT
    assert [line["id"] for line in place.kept()] == [f"d{number:02}" for number in range(COUNT)]
    assert all(line["document"]["text"] for line in place.kept())
    assert len(place.proxy.of(BULK)) > 2, "it was tried again"
    place.proxy.spoil.clear()
    assert {outcome.status for outcome in place.load(place.failures)} <= {"added", "changed"}
    place.whole()


@pytest.mark.usefixtures("impatient")
def test_a_load_waits_for_a_dead_server_once_and_for_one_that_came_back_again(place: Place) -> None:
    """Ten batches of writes: the second and those that follow find the waiting used up, until something is taken."""
    many = place.folder / "many.jsonl"
    with many.open("w", encoding="utf-8") as lines:
        for number in range(10 * BATCH_DOCUMENTS):
            lines.write(json.dumps({"id": f"m{number:04}", "text": f"Jar {number} of jam.", "lang": "en"}) + "\n")
    back = 12  # the request from which on the server takes what comes, but for one short trouble
    place.proxy.spoil[BULK] = lambda seen: (
        Answer(503) if seen.number < back or seen.number in (back + 8, back + 9) else None
    )
    outcomes = place.load(many, timeout=2.0)
    tried = list(Counter(tuple(seen.ids()) for seen in place.proxy.of(BULK) if seen.number < back).values())
    assert tried[0] >= 3, "the first batch waited"
    assert tried[-1] == 1, "the last did not"
    assert len(tried) >= 5, "if each batch had waited, there would be three"
    failed = {outcome.doc_id for outcome in outcomes if outcome.status == "failed"}
    assert failed
    assert len(failed) <= (back - 1) * BATCH_DOCUMENTS
    assert {line["id"] for line in place.kept()} == failed
    taken = {outcome.doc_id for outcome in outcomes if outcome.status == "added"}
    assert len(taken) == 10 * BATCH_DOCUMENTS - len(failed) > 0, "and the short trouble later was waited for"
    place.proxy.spoil.clear()
    assert {outcome.status for outcome in place.load(place.failures)} == {"added"}
    assert place.load(many)[0].status == "unchanged"
