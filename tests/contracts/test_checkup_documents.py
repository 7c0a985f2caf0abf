"""Every fault of an index is made in LanceDB or Elasticsearch itself, seen by the doctor, repaired, and then gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from citewell import checkup
from citewell.checkup import Documents, Result, Twice
from citewell.config import Settings
from citewell.index.lance_versions import connected, folder_of
from citewell.index.roles import HALF_MADE
from citewell.library import Library
from citewell.ports import Finding, Held, LegsQuery
from citewell.records import Document, LedgerEntry
from tests.hashing import HashingEmbedder
from tests.libraries import library

Opener = Callable[[str], Library]


@pytest.fixture(params=["embedded", "served"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    named = {"stack": request.param, "data_dir": tmp_path, "embedder": "hashing", "passage_tokens": 16}
    if request.param == "served":
        named |= {name: request.getfixturevalue(name) for name in ("elasticsearch_url", "index_name")}
    return Settings.model_validate(named)


@pytest.fixture
def opener(settings: Settings) -> Iterator[Opener]:
    opened: list[Library] = []

    def start(embedder: str = "hashing") -> Library:
        made = library(settings.model_copy(update={"embedder": embedder}), HashingEmbedder(embedder))
        opened.append(made)
        return made

    yield start
    for made in opened:
        made.close()


@pytest.fixture
def shelf(opener: Opener) -> Library:
    """Three documents of three passages each."""
    made = opener("hashing")
    assert [outcome.status for outcome in made.put(texts(), "test")] == ["added"] * 3
    return made


def texts() -> list[Document]:
    body = "\n\n".join(
        f"Paragraph {n} of the long and winding text about lamps, which are of red glass." for n in range(3)
    )
    return [Document(id=f"d{n}", text=body, lang="en") for n in range(3)]


class Hand:
    """Writes to the backend directly, past the product."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.embedded = settings.stack == "embedded"
        self._client = httpx.Client(base_url=settings.elasticsearch_url, timeout=60, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def name(self, number: int = 1) -> str:
        return f"{self._settings.index_name}-{number:06d}"

    def table(self, name: str) -> Any:
        return connected(folder_of(self._settings)).open_table(name)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._client.request(method, path, json=body, params={"refresh": "true"} if "_doc" in path else None)
        return answer.raise_for_status().json()

    def forget_entry(self, doc_id: str) -> None:
        if self.embedded:
            self.table("documents").delete(f"doc_id = '{doc_id}'")
        else:
            self.call("DELETE", f"/{self.name()}-documents/_doc/{doc_id}")

    def forget_passage(self, doc_id: str, ordinal: int) -> None:
        if self.embedded:
            self.table("passages").delete(f"id = '{doc_id}#{ordinal}'")
        else:
            self.call("DELETE", f"/{self.name()}/_doc/{doc_id}%23{ordinal}")

    def copy_passage(self, doc_id: str, ordinal: int, to: int) -> None:
        if self.embedded:
            rows = self.table("passages").search().where(f"id = '{doc_id}#{ordinal}'").to_arrow().to_pylist()
            self.table("passages").add([row | {"id": f"{doc_id}#{to}", "ordinal": to} for row in rows])
        else:
            source = self.call("GET", f"/{self.name()}/_doc/{doc_id}%23{ordinal}?_source_exclude_vectors=false")[
                "_source"
            ]
            moved = source | {"id": f"{doc_id}#{to}", "ordinal": to}
            self.call("PUT", f"/{self.name()}/_doc/{doc_id}%23{to}", moved)

    def unfinish(self, doc_id: str, *, keep_text: bool) -> None:
        if self.embedded:
            values: dict[str, Any] = {"content_hash": ""} | ({} if keep_text else {"document": None})
            self.table("documents").update(where=f"doc_id = '{doc_id}'", values=values)
        else:
            place = f"/{self.name()}-documents/_doc/{doc_id}"
            entry = self.call("GET", place)["_source"] | {"content_hash": ""}
            self.call("PUT", place, entry if keep_text else {k: v for k, v in entry.items() if k != "document"})


@pytest.fixture
def hand(settings: Settings) -> Iterator[Hand]:
    made = Hand(settings)
    yield made
    made.close()


def looked(shelf: Library, *, fix: bool = False) -> list[Result]:
    """What is found in versions and documents."""
    inspections = [Twice(shelf.versions().inspection(), settle_s=0.1), *checkup.documents(shelf, settle_s=0.1)]
    return [result for inspection in inspections for result in checkup.look(inspection, fix=fix)]


def kinds(results: list[Result]) -> list[tuple[str, str]]:
    return [(result.finding.kind, result.finding.name) for result in results]


def state(shelf: Library) -> dict[str, Any]:
    """Ledger and passages, with what the dense leg finds."""
    index = shelf.index()
    index.flush()
    query = LegsQuery("lamps", "en", HashingEmbedder().embed_queries(["lamps"]), None, depth=100)
    legs = index.legs(query)
    return {
        "ledger": {e.doc_id: (e.content_hash, e.passages) for e in index.entries()},
        "held": list(index.held()),
        "dense": {name: round(score, 5) for name, score in legs.ranked["dense"]},
        "texts": {name: passage.text for name, passage in legs.passages.items()},
    }


class TestDocuments:
    def test_a_healthy_index_has_no_findings(self, shelf: Library) -> None:
        assert looked(shelf) == []
        assert list(shelf.index().held()) == [Held(f"d{n}", 3, 2) for n in range(3)]
        assert list(shelf.index().held(["d2", "d0", "none"])) == [Held("d0", 3, 2), Held("d2", 3, 2)]

    def test_passages_without_document_are_deleted(self, shelf: Library, hand: Hand) -> None:
        hand.forget_entry("d1")
        assert kinds(looked(shelf)) == [(checkup.STRAY, "d1")]
        assert kinds(looked(shelf)) == [(checkup.STRAY, "d1")], "without fix nothing is changed"
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []
        assert [held.doc_id for held in shelf.index().held()] == ["d0", "d2"]

    @pytest.mark.parametrize("ordinals", [(0, 1, 2), (1,), (2,)])
    def test_a_document_gets_its_passages_back(self, shelf: Library, hand: Hand, ordinals: tuple[int, ...]) -> None:
        before = state(shelf)
        for ordinal in ordinals:
            hand.forget_passage("d1", ordinal)
        assert kinds(looked(shelf)) == [(checkup.LACKING, "d1")]
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []
        assert state(shelf) == before

    def test_left_over_passages_go(self, shelf: Library, hand: Hand) -> None:
        before = state(shelf)
        hand.copy_passage("d1", 0, 3)
        hand.copy_passage("d1", 0, 7)
        assert kinds(looked(shelf)) == [(checkup.LEFT_OVER, "d1")]
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []
        assert state(shelf) == before

    def test_a_passage_that_is_there_twice(self, shelf: Library, hand: Hand) -> None:
        if not hand.embedded:
            pytest.skip("Elasticsearch keeps one passage an id")
        before = state(shelf)
        hand.copy_passage("d1", 0, 0)
        assert kinds(looked(shelf)) == [(checkup.LEFT_OVER, "d1")]
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []
        assert state(shelf) == before

    def test_an_unfinished_document_is_written_from_its_own_text(self, shelf: Library, hand: Hand) -> None:
        before = state(shelf)
        hand.unfinish("d2", keep_text=True)
        hand.forget_passage("d2", 1)
        (result,) = looked(shelf)
        assert (result.finding.kind, result.finding.name) == (checkup.UNFINISHED, "d2")
        assert "Load its source again" in result.finding.remedy
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []
        assert state(shelf) == before
        assert [outcome.status for outcome in shelf.put(texts(), "test")] == ["unchanged"] * 3

    def test_an_unfinished_document_without_text_goes_and_can_be_loaded(self, shelf: Library, hand: Hand) -> None:
        before = state(shelf)
        hand.unfinish("d0", keep_text=False)
        assert kinds(looked(shelf)) == [(checkup.UNFINISHED, "d0")]
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []
        assert [held.doc_id for held in shelf.index().held()] == ["d1", "d2"]
        assert [outcome.status for outcome in shelf.put(texts(), "test")] == ["added", "unchanged", "unchanged"]
        assert state(shelf) == before

    def test_many_faults_at_once_are_found_in_order(self, shelf: Library, hand: Hand) -> None:
        hand.forget_entry("d0")
        hand.forget_passage("d1", 0)
        hand.unfinish("d2", keep_text=True)
        expected = [(checkup.STRAY, "d0"), (checkup.LACKING, "d1"), (checkup.UNFINISHED, "d2")]
        assert kinds(looked(shelf)) == expected
        assert all(result.fixed for result in looked(shelf, fix=True))
        assert looked(shelf) == []

    def test_the_version_of_another_embedder_is_repaired_with_its_own(
        self, shelf: Library, hand: Hand, opener: Opener
    ) -> None:
        new = opener("hashing:new")
        target, steps = new.migrate(new.fingerprint())
        assert list(steps)[-1].settled
        new.promote(target.name)
        before = state(shelf)
        hand.forget_passage("d1", 1)
        (result,) = looked(new)
        assert (result.finding.place, result.finding.name) == (hand.name(), "d1")
        assert all(result.fixed for result in looked(new, fix=True))
        assert looked(new) == []
        assert state(shelf) == before

    def test_a_document_that_is_being_written_is_no_finding(self, shelf: Library, hand: Hand) -> None:
        hand.forget_passage("d1", 1)
        (version,) = shelf.versions().all()
        late = threading.Timer(0.5, lambda: list(shelf.put([texts()[1].model_copy(update={"title": "new"})], "test")))
        late.start()
        found = list(Documents(shelf, version, settle_s=2.0).findings())
        late.join()
        assert found == []


class TestPure:
    def test_side_by_side_is_every_id_once_in_order(self) -> None:
        entries = [LedgerEntry(doc_id=name, content_hash="h", passages=1) for name in ("b", "c", "é")]
        holdings = [Held("a", 1, 0), Held("c", 1, 0), Held("d", 2, 1), Held("𐀀", 1, 0)]
        walk = list(checkup.side_by_side(entries, holdings))
        assert [name for name, _ in walk] == ["a", "b", "c", "d", "é", "𐀀"]
        assert [checkup.judge(*pair) for _, pair in walk] == [
            checkup.STRAY, checkup.LACKING, "", checkup.STRAY, checkup.LACKING, checkup.STRAY,
        ]  # fmt: skip

    def test_a_document_without_passages_that_has_none_is_whole(self) -> None:
        assert checkup.judge(LedgerEntry(doc_id="a", content_hash="h", passages=0), None) == ""


class TestVersions:
    def test_a_retired_version_is_named_with_its_command(self, shelf: Library, opener: Opener) -> None:
        name = shelf.index().version
        for number in (1, 2):
            new = opener(f"hashing:{number}")
            target, steps = new.migrate(new.fingerprint())
            assert list(steps)[-1].settled
            new.promote(target.name)
        (result,) = looked(new, fix=True)
        assert result.finding.name == name
        assert f"citewell index drop {name}" in result.finding.remedy
        assert not result.wrong
        new.versions().drop(name)
        assert looked(new) == []

    def test_half_a_version_that_a_migration_left_is_dropped(
        self, shelf: Library, hand: Hand, settings: Settings
    ) -> None:
        name = hand.name(2)
        if hand.embedded:
            database = connected(folder_of(settings))
            database.create_table("documents-000002", schema=hand.table("documents").schema)
        else:
            meta = self._meta(hand)
            body = {"mappings": {"_meta": meta}, "aliases": {f"{name}-documents-write": {}}}
            hand.call("PUT", f"/{name}-documents", body)
        assert kinds(looked(shelf)) == [(HALF_MADE, name)]
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []
        assert [version.name for version in shelf.versions().all()] == [hand.name(1)]

    def test_a_current_version_without_its_ledger(self, shelf: Library, hand: Hand, settings: Settings) -> None:
        self._drop_ledger(hand, settings)
        (result,) = list(checkup.look(shelf.versions().inspection(), fix=True))
        assert (result.finding.kind, result.fixed) == (HALF_MADE, False)
        assert "9 passages and no ledger" in result.finding.reason
        assert "load the documents again" in result.finding.remedy

    def test_an_empty_version_without_its_ledger_gets_one(self, opener: Opener, hand: Hand, settings: Settings) -> None:
        made = opener("hashing")
        made.index()
        self._drop_ledger(hand, settings)
        (result,) = list(checkup.look(made.versions().inspection(), fix=True))
        assert result.fixed
        again = opener("hashing")
        assert [outcome.status for outcome in again.put(texts(), "test")] == ["added"] * 3
        assert looked(again) == []

    def test_a_ledger_that_lost_its_passages(
        self, shelf: Library, hand: Hand, settings: Settings, opener: Opener
    ) -> None:
        if hand.embedded:
            connected(folder_of(settings)).drop_table("passages")
            (result,) = list(checkup.look(shelf.versions().inspection(), fix=True))
            assert (result.finding.kind, result.fixed) == (HALF_MADE, False)
            assert "backup" in result.finding.remedy
            return
        before = state(shelf)
        hand.call("DELETE", f"/{hand.name()}")
        assert kinds(list(checkup.look(shelf.versions().inspection(), fix=False))) == [(HALF_MADE, hand.name())]
        assert [r.fixed for r in checkup.look(shelf.versions().inspection(), fix=True)] == [True]
        assert kinds(looked(shelf, fix=True)) == [(checkup.LACKING, f"d{n}") for n in range(3)]
        assert looked(shelf) == []
        assert state(opener("hashing")) == before

    def test_what_a_killed_restore_left(self, shelf: Library, hand: Hand, settings: Settings) -> None:
        if hand.embedded:
            copy = folder_of(settings) / "documents-000002.unfinished"
            copy.mkdir()
            (copy / "data").write_text("x", "utf-8")
            assert kinds(looked(shelf)) == [("unfinished_copy", copy.name)]
            assert [result.fixed for result in looked(shelf, fix=True)] == [True]
            assert not copy.exists()
        else:
            alias = f"{hand.name()}-write"
            hand.call("DELETE", f"/{hand.name()}/_alias/{alias}")
            assert kinds(looked(shelf)) == [(HALF_MADE, hand.name())]
            assert [result.fixed for result in looked(shelf, fix=True)] == [True]
            assert alias in hand.call("GET", f"/{hand.name()}/_alias")[hand.name()]["aliases"]
        assert looked(shelf) == []

    def test_a_role_without_a_version_is_taken_away(self, shelf: Library, hand: Hand, settings: Settings) -> None:
        if not hand.embedded:
            pytest.skip("an alias goes with its index")
        roles = folder_of(settings) / "versions.json"
        roles.write_text('{"current": 1, "previous": 4}', "utf-8")
        assert kinds(looked(shelf)) == [("role_without_version", hand.name(4))]
        assert [result.fixed for result in looked(shelf, fix=True)] == [True]
        assert looked(shelf) == []

    def test_a_finding_that_is_gone_meanwhile_is_harmless(self, shelf: Library, hand: Hand) -> None:
        inspection = shelf.versions().inspection()
        inspection.repair(Finding(HALF_MADE, hand.name(7), hand.name(7), "it was half made", "--fix drops it."))
        (version,) = shelf.versions().all()
        Documents(shelf, version, settle_s=0).repair(Finding(checkup.LACKING, hand.name(), "none", "gone", "none"))
        assert looked(shelf) == []

    @staticmethod
    def _meta(hand: Hand) -> Any:
        return hand.call("GET", f"/{hand.name()}-documents/_mapping")[f"{hand.name()}-documents"]["mappings"]["_meta"]

    @staticmethod
    def _drop_ledger(hand: Hand, settings: Settings) -> None:
        if hand.embedded:
            connected(folder_of(settings)).drop_table("documents")
        else:
            hand.call("DELETE", f"/{hand.name()}-documents")
