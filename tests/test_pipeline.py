"""The pipeline on a real embedded index: what is unchanged is skipped, what changed is replaced whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from citewell.config import Settings
from citewell.index.lance import LanceIndex
from citewell.ingest.pipeline import Pipeline
from citewell.ports import LegsQuery, Vectors
from citewell.records import Document, Fingerprint, Outcome
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
