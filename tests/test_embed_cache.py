"""The caches in front of an embedder: same vectors, less work, and no vector of another model."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from citewell.config import Settings
from citewell.embed.cache import CachedEmbedder
from citewell.errors import EmbedderUnavailable
from citewell.index.lance import LanceIndex
from citewell.ingest.pipeline import Pipeline
from citewell.ports import EmbedderCard, Vectors
from citewell.records import Document, Fingerprint
from citewell.split import Splitter
from tests.hashing import DIMENSION, HashingEmbedder


class Counting(HashingEmbedder):
    """Notes every text that reaches it; `weights` tells models apart."""

    def __init__(self, weights: str = "0" * 64) -> None:
        self.weights = weights
        self.seen: list[str] = []

    def describe(self) -> EmbedderCard:
        return dataclasses.replace(super().describe(), weights=self.weights)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.seen += texts
        return super().embed_passages(texts)


TEXTS = ["a red fox", "a hen", "a red fox", "", "狐"]


def test_passages_are_computed_once(tmp_path: Path) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, file=tmp_path / "new" / "vectors.sqlite")
    cached.load()
    np.testing.assert_array_equal(cached.embed_passages(TEXTS), HashingEmbedder().embed_passages(TEXTS))
    assert sorted(inner.seen) == sorted(set(TEXTS)), "also a text that comes twice in one call"
    cached.close()
    again = CachedEmbedder(inner, file=tmp_path / "new" / "vectors.sqlite")
    np.testing.assert_array_equal(again.embed_passages(TEXTS), HashingEmbedder().embed_passages(TEXTS))
    assert len(inner.seen) == 4
    assert again.info()["cache"] == {"hits": 5, "misses": 0}
    assert again.embed_passages([]).shape == (0, DIMENSION)
    again.close()


def test_another_model_meets_no_old_vectors(tmp_path: Path) -> None:
    first, second = Counting(), Counting("1" * 64)
    for inner in (first, second):
        cached = CachedEmbedder(inner, file=tmp_path / "v.sqlite")
        cached.embed_passages(["x"])
        cached.close()
    assert first.seen == second.seen == ["x"]


def test_the_last_questions_are_kept() -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, questions=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        np.testing.assert_array_equal(cached.embed_queries([text]), HashingEmbedder().embed_queries([text]))
    assert inner.seen == ["a", "b", "c", "b"], "`a` was used last when `c` came"
    assert cached.embed_queries(["c", "d", "c"]).shape == (3, DIMENSION)
    assert CachedEmbedder(inner).embed_queries(["a"]).shape == (1, DIMENSION)


def test_threads_share_both_caches(tmp_path: Path) -> None:
    cached = CachedEmbedder(Counting(), file=tmp_path / "v.sqlite", questions=5)
    cached.load()
    wrong: list[str] = []

    def use(seed: int) -> None:
        for number in range(30):
            texts = [f"text {(seed * number) % 11}", f"text {number % 7}"]
            expected = HashingEmbedder().embed_passages(texts)
            found = (cached.embed_passages(texts), cached.embed_queries(texts))
            wrong.extend(str(texts) for vectors in found if not np.array_equal(vectors, expected))

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cached.close()
    assert wrong == []


def test_two_processes_may_share_the_file(tmp_path: Path) -> None:
    one, two = (CachedEmbedder(Counting(), file=tmp_path / "v.sqlite") for _ in range(2))
    one.embed_passages(["a", "b"])
    two.embed_passages(["b", "c"])
    assert one.embed_passages(["c"]).shape == (1, DIMENSION)
    assert one.info()["cache"]["hits"] == 1
    one.close()
    two.close()


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "v.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(EmbedderUnavailable, match=r"v\.sqlite") as told:
        CachedEmbedder(Counting(), file=tmp_path / "v.sqlite").load()
    assert "delete the file" in told.value.remedy


def test_splitting_anew_and_a_migration_embed_only_what_they_cut_anew(tmp_path: Path) -> None:
    inner = Counting()
    embedder = CachedEmbedder(inner, file=tmp_path / "v.sqlite")
    fingerprint = Fingerprint(embedder="hashing", weights="0", dimension=DIMENSION)
    short = [Document(id=f"s{n}", text=f"Short text number {n}.", lang="en") for n in range(20)]
    long = Document(id="long", text=" ".join(f"Sentence number {n} of the long text." for n in range(9)), lang="en")
    tokenizer = inner.describe().tokenizer

    def load(name: str, capacity: int) -> LanceIndex:
        index = LanceIndex(Settings(data_dir=tmp_path / name), fingerprint)
        index.load()
        outcomes = Pipeline(index, embedder, Splitter(tokenizer, capacity)).run([*short, long], "s")
        assert {outcome.status for outcome in outcomes} == {"added"}
        return index

    first = load("first", 12)
    before = len(inner.seen)
    assert before == 20 + 9
    second = load("second", 24)
    assert all("long text" in text for text in inner.seen[before:]), "the short ones are cut as before"
    assert 0 < len(inner.seen) - before < 9
    before = len(inner.seen)
    third = LanceIndex(Settings(data_dir=tmp_path / "third"), fingerprint)
    third.load()
    entries = first.ledger([d.id for d in [*short, long]], with_document=True)
    assert Pipeline(third, embedder, Splitter(tokenizer, 12)).copy(list(entries.values())) == {}
    assert len(inner.seen) == before, "a migration to the same cut embeds nothing"
    for index in (first, second, third):
        index.close()
    embedder.close()


def test_what_is_forgotten_is_computed_anew(tmp_path: Path) -> None:
    inner = Counting()
    cached = CachedEmbedder(inner, file=tmp_path / "vectors.sqlite")
    cached.embed_passages(["a red fox", "a hen"])
    assert cached.forget(["a red fox", "never seen"]) == 0
    cached.embed_passages(["a red fox", "a hen"])
    assert inner.seen == ["a red fox", "a hen", "a red fox"]
    assert CachedEmbedder(inner).forget(["a hen"]) is None, "it keeps no passages"
    cached.close()
