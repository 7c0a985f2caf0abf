"""The pipeline on a real embedded index: what is unchanged is skipped, what changed is replaced whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pytest

from citewell import language
from citewell.config import Settings
from citewell.errors import BadInput, EmbedderUnavailable
from citewell.index.lance import LanceIndex
from citewell.ingest.pipeline import Pipeline
from citewell.ingest.sources import Known, Limits, open_source
from citewell.ports import LegsQuery, Vectors
from citewell.records import Document, Fingerprint, LedgerEntry, Outcome
from citewell.split import Splitter
from tests.hashing import DIMENSION, HashingEmbedder


class CountingEmbedder(HashingEmbedder):
    """Counts the passages that it embeds."""

    def __init__(self) -> None:
        self.embedded = 0

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.embedded += len(texts)
        return super().embed_passages(texts)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[LanceIndex]:
    opened = LanceIndex(Settings(data_dir=tmp_path), Fingerprint(embedder="hashing", weights="0", dimension=DIMENSION))
    opened.load()
    yield opened
    opened.close()


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def pipeline(index: LanceIndex, embedder: CountingEmbedder) -> Pipeline:
    return Pipeline(index, embedder, Splitter(embedder.describe().tokenizer, 12), clock=lambda: 1000.0)


def document(name: str, sentences: int = 3, *, title: str = "", url: str = "") -> Document:
    text = " ".join(f"Sentence number {n} about {name} in the guide." for n in range(sentences))
    return Document(id=name, text=text, lang="en", title=title, url=url)


def statuses(outcomes: Iterator[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def found(index: LanceIndex, word: str) -> set[str]:
    legs = index.legs(LegsQuery(text=word, lang="en", vector=None, groups=None, legs=("bm25",), depth=50))
    return {passage.id for passage in legs.passages.values()}


def test_a_second_load_embeds_nothing(pipeline: Pipeline, embedder: CountingEmbedder) -> None:
    documents = [document(name) for name in ("kettle", "lamp", "tent")]
    assert statuses(pipeline.run(documents, "s")) == ["added"] * 3
    before = embedder.embedded
    assert before >= 3
    assert statuses(pipeline.run(documents, "s")) == ["unchanged"] * 3
    assert embedder.embedded == before


def test_a_changed_document_is_replaced_whole(pipeline: Pipeline, index: LanceIndex) -> None:
    list(pipeline.run([document("kettle", 9)], "s"))
    assert len(found(index, "kettle")) == 9
    assert statuses(pipeline.run([document("kettle", 2)], "s")) == ["changed"]
    assert found(index, "kettle") == {"kettle#0", "kettle#1"}
    assert index.ledger(["kettle"])["kettle"].passages == 2


@pytest.mark.parametrize("changed", [document("kettle", title="new"), document("kettle", url="new")])
def test_a_change_beside_the_text_counts(pipeline: Pipeline, changed: Document) -> None:
    list(pipeline.run([document("kettle")], "s"))
    assert statuses(pipeline.run([changed], "s")) == ["changed"]


def test_an_id_that_comes_twice_is_reported_and_the_last_wins(pipeline: Pipeline, index: LanceIndex) -> None:
    outcomes = list(pipeline.run([document("kettle", 2), document("lamp"), document("kettle", 1)], "s"))
    assert [o.status for o in outcomes] == ["added", "added", "changed"]
    assert "came before" in outcomes[2].reason
    assert found(index, "kettle") == {"kettle#0"}


def test_failures_keep_their_place_and_cost_nothing_else(pipeline: Pipeline) -> None:
    bad = Outcome(doc_id="x", status="failed", reason="because")
    wordless = Document(id="w", text="\u2003\u00a0", lang="en")
    outcomes = list(pipeline.run([document("kettle"), bad, wordless, document("lamp")], "s"))
    assert [(o.doc_id, o.status) for o in outcomes] == [
        ("kettle", "added"), ("x", "failed"), ("w", "failed"), ("lamp", "added")
    ]  # fmt: skip


def test_the_ledger_keeps_the_document_and_where_it_came_from(pipeline: Pipeline, index: LanceIndex) -> None:
    original = document("kettle", title="Kettle", url="https://x/k")
    list(pipeline.run([original], "folder"))
    entry = index.ledger(["kettle"], with_document=True)["kettle"]
    assert entry.document == original
    assert (entry.source, entry.indexed_at, entry.content_hash) == ("folder", 1000.0, original.content_hash())


def test_the_language_is_found_or_taken_from_the_tag(pipeline: Pipeline, index: LanceIndex) -> None:
    texts = {
        "a": "La garantía cubre los defectos durante tres años.",
        "b": "返品は三十日以内に承ります。",
        "c": "Short words here.",
    }
    documents = [Document(id=name, text=text) for name, text in texts.items()]
    documents.append(Document(id="d", text="Color and flavour of words.", lang="en-GB"))
    list(pipeline.run(documents, "s"))
    assert {name: entry.lang for name, entry in index.ledger(list("abcd")).items()} == {
        "a": "es", "b": "ja", "c": "en", "d": "en"
    }  # fmt: skip


class SlowEmbedder(CountingEmbedder):
    """Says when it begins with a batch, and goes on when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.open = False

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.begun.release()
        if not self.open:
            assert self.gate.acquire(timeout=30)
        return super().embed_passages(texts)


def loaders() -> list[str]:
    """Threads of loads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("citewell-load")]


@pytest.fixture
def slow(index: LanceIndex, monkeypatch: pytest.MonkeyPatch) -> tuple[Pipeline, SlowEmbedder]:
    """A pipeline in batches of two documents whose embedder waits for the test."""
    monkeypatch.setattr("citewell.ingest.pipeline.LOOKED_UP", 2)
    embedder = SlowEmbedder()
    return Pipeline(index, embedder, Splitter(embedder.describe().tokenizer, 12), clock=lambda: 1000.0), embedder


def names(count: int) -> list[str]:
    return [f"d{number:02d}" for number in range(count)]


def test_reading_goes_on_while_the_embedder_works_and_is_bounded(slow: tuple[Pipeline, SlowEmbedder]) -> None:
    pipeline, embedder = slow
    read: list[str] = []

    def items() -> Iterator[Document]:
        for name in names(40):
            read.append(name)
            yield document(name, 1)

    outcomes: list[Outcome] = []
    load = threading.Thread(target=lambda: outcomes.extend(pipeline.run(items(), "s")))
    load.start()
    assert embedder.begun.acquire(timeout=30)
    deadline = time.monotonic() + 30
    while len(read) < 11 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    # Four batches of two are inside, the fifth is read, and its end is known by the first item of the sixth.
    assert len(read) == 11
    assert outcomes == []
    embedder.open = True
    embedder.gate.release(20)
    load.join(60)
    assert [outcome.doc_id for outcome in outcomes] == names(40)
    assert {outcome.status for outcome in outcomes} == {"added"}
    assert loaders() == []


def test_a_closed_load_leaves_no_thread_and_no_half(slow: tuple[Pipeline, SlowEmbedder], index: LanceIndex) -> None:
    pipeline, embedder = slow
    embedder.gate.release(1)
    outcomes = pipeline.run([document(name, 1) for name in names(40)], "s")
    assert isinstance(outcomes, Generator)
    assert next(outcomes).doc_id == "d00"
    assert loaders()
    for _ in range(2):  # the second batch is at work
        assert embedder.begun.acquire(timeout=30)
    threading.Timer(0.2, embedder.gate.release).start()
    outcomes.close()
    assert loaders() == []
    entries = list(index.entries())
    assert [entry.doc_id for entry in entries] == names(2)  # the second batch was embedded and not written any more
    assert all(entry.content_hash for entry in entries)
    assert embedder.embedded == 4
    embedder.open = True
    assert statuses(pipeline.run([document(name, 1) for name in names(4)], "s")) == [*["unchanged"] * 2, *["added"] * 2]


def test_an_id_that_is_on_its_way_arrives_before_it_is_compared(
    slow: tuple[Pipeline, SlowEmbedder], index: LanceIndex
) -> None:
    pipeline, embedder = slow
    embedder.open = True
    old, new = document("kettle", 2), document("kettle", 3)
    list(pipeline.run([old], "s"))
    outcomes = list(pipeline.run([new, document("lamp"), old, document("tent")], "s"))
    assert [outcome.status for outcome in outcomes] == ["changed", "added", "changed", "added"]
    assert index.ledger(["kettle"])["kettle"].content_hash == old.content_hash()


def test_what_a_source_gave_before_it_broke_is_loaded(pipeline: Pipeline, index: LanceIndex) -> None:
    def items() -> Iterator[Document]:
        yield document("kettle")
        yield document("lamp")
        raise BadInput("the source is gone")

    outcomes: list[str] = []
    with pytest.raises(BadInput, match="the source is gone"):
        outcomes.extend(outcome.doc_id for outcome in pipeline.run(items(), "s"))
    assert outcomes == ["kettle", "lamp"]
    assert sorted(index.ledger(["kettle", "lamp"])) == ["kettle", "lamp"]
    assert loaders() == []


def test_an_embedder_that_fails_stops_the_load_after_what_came_before(
    slow: tuple[Pipeline, SlowEmbedder], index: LanceIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, embedder = slow
    embedder.open = True
    plain = embedder.embed_passages

    def embed(texts: Sequence[str]) -> Vectors:
        if any("d04" in text for text in texts):
            raise EmbedderUnavailable("the embedder is gone")
        return plain(texts)

    monkeypatch.setattr(embedder, "embed_passages", embed)
    told: list[str] = []
    with pytest.raises(EmbedderUnavailable, match="the embedder is gone"):
        told.extend(outcome.doc_id for outcome in pipeline.run([document(name, 1) for name in names(12)], "s"))
    assert told == names(4)
    assert [entry.doc_id for entry in index.entries()] == names(4)
    assert loaders() == []


def test_a_language_is_told_of_new_text_alone(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    detect = language.detect

    def detected(text: str) -> str:
        told.append(text)
        return detect(text)

    monkeypatch.setattr(language, "detect", detected)
    given = Document(id="a", text="La garantía cubre los defectos durante tres años.")
    assert statuses(pipeline.run([given], "s")) == ["added"]
    assert statuses(pipeline.run([given], "s")) == ["unchanged"]
    assert told == [given.text]
    entry = pipeline.index.ledger(["a"], with_document=True)["a"]
    assert (entry.lang, entry.document) == ("es", given)
    assert statuses(pipeline.run([given.model_copy(update={"lang": "pt"})], "s")) == ["changed"]
    assert pipeline.index.ledger(["a"])["a"].lang == "pt"


def test_a_copy_has_the_language_that_the_ledger_names(pipeline: Pipeline, index: LanceIndex) -> None:
    given = Document(id="a", text="Short words here.")
    entry = LedgerEntry(doc_id="a", content_hash="h", lang="es", source="s", indexed_at=5.0, document=given)
    assert pipeline.copy([entry]) == {}
    assert index.ledger(["a"], with_document=True)["a"] == entry.model_copy(update={"passages": 1})
    legs = index.legs(LegsQuery(text="short", lang="en", vector=None, groups=None, legs=("bm25",)))
    assert {passage.lang for passage in legs.passages.values()} == {"es"}


def test_an_id_that_comes_twice_in_several_files_and_formats(
    pipeline: Pipeline, index: LanceIndex, tmp_path: Path
) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"_id": "x", "text": "First words about kettles."}\n')
    (folder / "b.csv").write_text("id,text\nx,Second words about lamps.\ny,Other words.\n")
    (folder / "c.json").write_text('[{"id": "x", "text": "Third words about tents."}]')
    source = open_source(str(folder), Limits(10**6, 10**5))
    outcomes = list(pipeline.run(source.items(Known(), lambda _: None), "s"))
    assert [(o.doc_id, o.status, "came before" in o.reason) for o in outcomes] == [
        ("x", "added", False), ("x", "changed", True), ("y", "added", False), ("x", "changed", True)
    ]  # fmt: skip
    entry = index.ledger(["x"], with_document=True)["x"]
    assert entry.document is not None
    assert entry.document.text == "Third words about tents."
    assert found(index, "tents") == {"x#0"}
    assert found(index, "lamps") == set()
