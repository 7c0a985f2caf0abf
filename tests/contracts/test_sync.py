"""Sources kept in step with the index, on LanceDB and on a real Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from citewell.config import Settings
from citewell.errors import IndexUnavailable
from citewell.ingest.known import known_of
from citewell.ingest.load import Loading, load_sources, opened, preview_sources
from citewell.ingest.sources import Item, Known, Source, Tell
from citewell.library import Library
from citewell.ports import LegsQuery, Vectors
from citewell.records import Document, Outcome
from tests.hashing import HashingEmbedder
from tests.libraries import library


class CountingEmbedder(HashingEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.embedded = 0

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.embedded += len(texts)
        return super().embed_passages(texts)


class Shelf:
    """A library with the folder that its sources lie in."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.embedder = CountingEmbedder()
        self.library: Library = library(settings, self.embedder)

    def write(self, name: str, **texts: str) -> str:
        """A file of documents: its path."""
        lines = (json.dumps({"id": doc_id, "text": text, "lang": "en"}) for doc_id, text in texts.items())
        (self.folder / name).write_text("".join(line + "\n" for line in lines), "utf-8")
        return str(self.folder / name)

    def load(self, *sources: str | Source, **options: Any) -> dict[str, str]:
        """The last status of each document."""
        return {outcome.doc_id: outcome.status for outcome in self.outcomes(*sources, **options)}

    def outcomes(self, *sources: str | Source, **options: Any) -> list[Outcome]:
        named = opened(sources, self.settings)
        return list(load_sources(self.library, named, Loading(**options), lambda _: None))

    def preview(self, *sources: str | Source, **options: Any) -> dict[str, str]:
        named = opened(sources, self.settings)
        with self.library.looking() as index:
            found = list(preview_sources(index, named, Loading(**options), lambda _: None))
        return {outcome.doc_id: outcome.status for outcome in found}

    def ledger(self) -> dict[str, str]:
        """Every document's source."""
        self.library.index().flush()
        return {entry.doc_id: entry.source for entry in self.library.index().entries()}

    def found(self, word: str) -> set[str]:
        """Documents that either leg finds."""
        vector = self.embedder.embed_queries([word])
        legs = self.library.index().legs(LegsQuery(text=word, lang="en", vector=vector, groups=None, depth=100))
        return {passage.doc_id for passage in legs.passages.values()}


@pytest.fixture(params=["embedded", "served"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    named: dict[str, Any] = {"stack": request.param, "data_dir": tmp_path / "data"}
    if request.param == "served":
        named |= {name: request.getfixturevalue(name) for name in ("elasticsearch_url", "index_name")}
    folder = tmp_path / "sources"
    folder.mkdir()
    made = Shelf(Settings.model_validate(named), folder)
    yield made
    made.library.close()


class Listed:
    """A source of given items; an exception among them is raised there."""

    name, size = "listed", 0

    def __init__(self, *items: Item | Exception) -> None:
        self._items = items

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        for item in self._items:
            if isinstance(item, Exception):
                raise item
            yield item


def document(doc_id: str, text: str = "The lamp is red.", **fields: Any) -> Document:
    return Document(id=doc_id, text=text, lang="en", **fields)


ALL = {"sync": True, "max_delete": "100%"}


def test_a_sync_deletes_what_the_source_no_longer_has_and_nothing_else(shelf: Shelf) -> None:
    first = shelf.write("first.jsonl", a="A lamp.", b="A tent.", c="A kettle.", d="A bell.")
    second = shelf.write("second.jsonl", x="A boat.")
    shelf.load(first, second)
    assert shelf.ledger() == dict.fromkeys("abcd", first) | {"x": second}
    shelf.write("first.jsonl", a="A lamp.", b="A tent that leaks.", e="A spoon.")
    assert set(shelf.load(first)) == {"a", "b", "e"}
    assert set(shelf.ledger()) == {*"abcdex"}, "without --sync everything stays"
    outcomes = shelf.outcomes(first, **ALL)
    gone = {outcome.doc_id: outcome for outcome in outcomes if outcome.status == "deleted"}
    assert set(gone) == {"c", "d"}
    for outcome in gone.values():
        assert outcome.source == first
        assert outcome.receipt == {"passages_removed": 1, "passages_left": 0, "in_ledger": False}
    assert set(shelf.ledger()) == {*"abex"}
    assert not shelf.found("kettle bell") & {"c", "d"}


def test_the_guard_names_counts_and_the_option(shelf: Shelf) -> None:
    file = shelf.write("many.jsonl", **{f"d{n}": f"Lamp {n}." for n in range(10)})
    shelf.load(file)
    shelf.write("many.jsonl", **{f"d{n}": f"Lamp {n}." for n in range(7)})
    refused = shelf.outcomes(file, sync=True)[-1]
    assert (refused.status, refused.code, refused.doc_id) == ("failed", "deletes_refused", file)
    assert "3 of its 10 documents" in refused.reason
    assert "20% (2)" in refused.reason
    assert "--max-delete 3" in refused.remedy
    assert len(shelf.ledger()) == 10
    assert shelf.outcomes(file, sync=True, max_delete="2")[-1].code == "deletes_refused"
    assert shelf.load(file, sync=True, max_delete="3")["d9"] == "deleted"
    assert len(shelf.ledger()) == 7


def test_a_source_that_breaks_off_deletes_nothing(shelf: Shelf) -> None:
    shelf.load(Listed(document("a"), document("b"), document("c")))
    with pytest.raises(IndexUnavailable, match="the database went away"):
        shelf.outcomes(Listed(document("a"), IndexUnavailable("the database went away")), **ALL)
    assert set(shelf.ledger()) == {*"abc"}


def test_a_folder_that_is_gone_deletes_nothing(shelf: Shelf) -> None:
    folder = shelf.folder / "faq"
    folder.mkdir()
    (folder / "a.md").write_text("A lamp.")
    (folder / "b.md").write_text("A tent.")
    shelf.load(str(folder))
    (folder / "a.md").unlink()
    (folder / "b.md").unlink()
    assert shelf.outcomes(str(folder), **ALL)[-1].code == "deletes_refused"
    folder.rmdir()
    assert shelf.outcomes(str(folder), **ALL)[-1].code == "deletes_refused"
    assert set(shelf.ledger()) == {"a.md", "b.md"}


def test_what_failed_counts_as_seen(shelf: Shelf) -> None:
    folder = shelf.folder / "faq"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.md").write_text(f"The {name} lamp.")
    shelf.load(str(folder))
    (folder / "a.md").write_bytes(b"\xff\xfe broken")
    (folder / "b.md").unlink()
    statuses = shelf.load(str(folder), **ALL)
    assert statuses == {"a.md": "failed", "b.md": "deleted", "c.md": "unchanged"}
    assert set(shelf.ledger()) == {"a.md", "c.md"}


def test_a_line_that_cannot_be_read_may_hide_a_document(shelf: Shelf) -> None:
    file = shelf.write("lines.jsonl", a="A lamp.", b="A tent.")
    shelf.load(file)
    Path(file).write_text('{"id": "a", "text": "A lamp.", "lang": "en"}\n{"id": "b", "te\n')
    refused = shelf.outcomes(file, **ALL)[-1]
    assert refused.code == "deletes_refused"
    assert "lines.jsonl:2" in refused.reason
    assert "--ignore-errors" in refused.remedy
    assert set(shelf.ledger()) == {"a", "b"}
    assert shelf.load(file, ignore_errors=True, **ALL)["b"] == "deleted"


def test_an_unchanged_document_moves_to_its_new_source_without_embedding(shelf: Shelf) -> None:
    old = shelf.write("old.jsonl", a="A lamp.", b="A tent.")
    shelf.load(old)
    before = shelf.embedder.embedded
    new = shelf.write("new.jsonl", a="A lamp.")
    assert shelf.load(new) == {"a": "unchanged"}
    assert shelf.ledger() == {"a": new, "b": old}
    assert shelf.embedder.embedded == before
    shelf.write("old.jsonl", b="A tent.")
    assert shelf.load(old, **ALL) == {"b": "unchanged"}
    assert shelf.found("lamp") >= {"a"}
    entry = shelf.library.index().ledger(["a"], with_document=True)["a"]
    assert entry.document is not None
    assert entry.document.text == "A lamp."


def test_a_new_revision_of_the_same_content_is_written_to_the_ledger_alone(shelf: Shelf) -> None:
    shelf.load(Listed(document("a", revision="1"), document("b", revision="1")))
    before, was = shelf.embedder.embedded, shelf.library.index().ledger(["a"])["a"]
    assert shelf.load(Listed(document("a", revision="2"), document("b", revision="1"))) == dict.fromkeys(
        "ab", "unchanged"
    )
    now = shelf.library.index().ledger(["a", "b"])
    assert (now["a"].revision, now["b"].revision) == ("2", "1")
    assert now["a"].model_copy(update={"revision": "1"}) == was
    assert shelf.embedder.embedded == before
    shelf.library.index().flush()
    known = known_of(shelf.library.index(), ["listed"])["listed"]
    assert (known.revision("a"), known.revision("nobody")) == ("2", "")
    assert sorted(known.revisions()) == ["1", "2"]
    assert not list(known_of(shelf.library.index(), ["elsewhere"])["elsewhere"].revisions())


def test_a_document_that_the_source_knows_to_be_unchanged_stays(shelf: Shelf) -> None:
    shelf.load(Listed(document("a", revision="1"), document("b", revision="1")))
    same = Outcome(doc_id="a", status="unchanged", source="listed")
    assert shelf.load(Listed(same), **ALL) == {"a": "unchanged", "b": "deleted"}


def test_what_somebody_else_wrote_meanwhile_stays(shelf: Shelf) -> None:
    shelf.load(Listed(document("a"), document("b")))

    class Busy(Listed):
        """Another load of the same source adds a document while this one reads."""

        def items(self, known: Known, tell: Tell) -> Iterator[Item]:
            yield document("a")
            list(shelf.library.put([document("late")], self.name))

    assert shelf.load(Busy(), **ALL) == {"a": "unchanged", "b": "deleted"}
    assert set(shelf.ledger()) == {"a", "late"}


def test_a_dry_run_tells_the_difference_and_changes_nothing(shelf: Shelf) -> None:
    file = shelf.write("first.jsonl", a="A lamp.", b="A tent.", c="A kettle.")
    assert shelf.preview(file) == dict.fromkeys("abc", "added")
    assert not (shelf.settings.data_dir / "citewell.lancedb").exists(), "a dry run makes no index"
    assert not shelf.library.versions().all()
    shelf.load(file)
    before, ledger = shelf.embedder.embedded, list(shelf.library.index().entries())
    shelf.write("first.jsonl", a="A lamp.", b="A tent that leaks.", d="A spoon.")
    with Path(file).open("a") as stream:
        stream.write('{"id": "e"}\n')
    expected = {"a": "unchanged", "b": "changed", "d": "added", "first.jsonl:4": "failed", "c": "deleted"}
    assert shelf.preview(file, ignore_errors=True, **ALL) == expected
    assert "c" not in shelf.preview(file)
    assert list(shelf.library.index().entries()) == ledger
    assert shelf.embedder.embedded == before
    assert shelf.load(file, ignore_errors=True, **ALL) == expected, "the load does what the dry run said"


def test_mended_failures_are_loaded_again_under_their_id_and_source(shelf: Shelf) -> None:
    kept = shelf.folder / "failures.jsonl"
    wordless = document("bad", " ", revision="7", metadata={"year": 2024}, groups=("staff",), pages=(0,))
    unread = Outcome(doc_id="row 3", status="failed", source="listed", code="bad_input", reason="no id", remedy="Mend.")
    statuses = shelf.load(Listed(document("good"), wordless, unread), failures=kept)
    assert statuses == {"good": "added", "bad": "failed", "row 3": "failed"}
    lines = [json.loads(line) for line in kept.read_text("utf-8").splitlines()]
    assert lines[1] == {
        "id": "row 3", "source": "listed", "code": "bad_input", "reason": "no id", "remedy": "Mend."
    }  # fmt: skip
    assert (lines[0]["id"], lines[0]["source"], lines[0]["code"]) == ("bad", "listed", "invalid_document")
    assert "no words" in lines[0]["reason"]
    assert lines[0]["document"]["text"] == " "

    lines[0]["document"]["text"] = "The lamp is mended."
    kept.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    again = {outcome.doc_id: outcome for outcome in shelf.outcomes(str(kept), failures=kept)}
    assert again.pop("bad").status == "added"
    (left,) = again.values()
    assert "nothing of it could be read then: no id" in left.reason
    assert [json.loads(line)["code"] for line in kept.read_text("utf-8").splitlines()] == ["invalid_document"]
    entry = shelf.library.index().ledger(["bad"], with_document=True)["bad"]
    assert (entry.source, entry.revision) == ("listed", "7")
    assert entry.document is not None
    assert (entry.document.metadata, entry.document.groups) == ({"year": 2024}, ("staff",))
    assert entry.document.pages == (0,)


def test_a_load_that_breaks_off_leaves_the_failures_of_before(shelf: Shelf) -> None:
    kept = shelf.folder / "failures.jsonl"
    kept.write_text("as it was")
    with pytest.raises(IndexUnavailable):
        shelf.outcomes(Listed(document("bad", " "), IndexUnavailable("gone")), failures=kept)
    assert kept.read_text() == "as it was"
    assert [file.name for file in shelf.folder.iterdir()] == ["failures.jsonl"]


def test_a_delete_leaves_a_receipt(shelf: Shelf) -> None:
    shelf.load(Listed(document("a", "The lamp is red. " * 200), document("b")))
    count = shelf.library.index().ledger(["a"])["a"].passages
    assert count > 1
    assert [held.passages for held in shelf.library.index().held(["a", "b", "nobody"])] == [count, 1]
    gone, never = shelf.library.delete(["a", "nobody"])
    assert (gone.status, gone.passages) == ("deleted", count)
    assert gone.receipt == {"passages_removed": count, "passages_left": 0, "in_ledger": False}
    assert (never.status, never.code) == ("failed", "unknown_document")
    assert [held.doc_id for held in shelf.library.index().held(["a", "b"])] == ["b"]
