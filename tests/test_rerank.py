"""A real cross-encoder, small enough to be made here, orders passages within its time; out of it, nothing moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from citewell.config import Settings
from citewell.engine import Engine, build
from citewell.errors import RerankerUnavailable
from citewell.ingest.sources import Item
from citewell.records import Document, Question
from citewell.rerank import CrossEncoderReranker
from tests.tiny_models import build_cross_encoder

QUESTION = "When does the shop open?"
TEXTS = ["The shop opens at nine.", "It closes at seven on Fridays."] * 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_cross_encoder(tmp_path_factory.mktemp("reranker"))


def settings(folder: Path, tmp_path: Path, **more: Any) -> Settings:
    return Settings(reranker=str(folder), data_dir=tmp_path, device="cpu", **more)


def test_scores_are_the_model_s_in_the_order_of_the_texts(folder: Path, tmp_path: Path) -> None:
    reranker = CrossEncoderReranker(settings(folder, tmp_path))
    result = reranker.rerank(QUESTION, TEXTS, 60)
    alone = [reranker.rerank(QUESTION, [text], 60).scores[0] for text in TEXTS]
    assert result.scores == pytest.approx(alone, abs=1e-5)
    assert all(0 <= score <= 1 for score in result.scores)
    assert result.stopped == ""
    assert reranker.rerank(QUESTION, [], 60).scores == ()


def test_no_batch_is_begun_that_would_not_end_in_time(folder: Path, tmp_path: Path) -> None:
    result = CrossEncoderReranker(settings(folder, tmp_path)).rerank(QUESTION, TEXTS * 50, 1e-6)
    assert len(result.scores) < len(TEXTS) * 50
    assert "budget" in result.stopped


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RerankerUnavailable, match="nowhere"):
        CrossEncoderReranker(settings(tmp_path / "nowhere", tmp_path)).load()


def loaded(engine: Engine) -> Engine:
    items: list[Item] = [Document(id=f"d{n}", text=f"The shop opens at {n}.", lang="en") for n in range(1, 7)]
    assert {outcome.status for outcome in engine.put(items)} == {"added"}
    return engine


def test_a_search_is_ordered_by_the_reranker_and_says_so(folder: Path, tmp_path: Path) -> None:
    with build(settings(folder, tmp_path, rerank_depth=4, rerank_budget_ms=60_000), "ingest") as engine:
        found = loaded(engine).search(Question(text=QUESTION, lang="en", k=6))
        plain = engine.search(Question(text=QUESTION, lang="en", k=6, mode="bm25"))
        assert engine.check()["reranker"]["ok"]
    read = [hit.rerank for hit in found.hits if hit.rerank is not None]
    assert len(read) == 4
    assert read == sorted(read, reverse=True)
    assert [hit.rank for hit in found.hits] == [1, 2, 3, 4, 5, 6]
    assert [hit.score for hit in found.hits] == sorted((hit.score for hit in found.hits), reverse=True)
    assert {hit.fused_rank for hit in found.hits[:4]} == {1, 2, 3, 4}
    assert found.rerank == {"model": str(folder), "scored": 4, "stopped": ""}
    assert found.timings_ms["rerank"] > 0
    assert plain.rerank == {}


def test_out_of_time_the_fused_order_stands(folder: Path, tmp_path: Path) -> None:
    with build(settings(folder, tmp_path, rerank_budget_ms=1, rerank_depth=1000), "ingest") as engine:
        loaded(engine).reranker.rerank(QUESTION, TEXTS, 60)  # type: ignore[union-attr]
        items: list[Item] = [Document(id=f"e{n}", text=f"A shop, {n} and {n + 1}.", lang="en") for n in range(40)]
        list(engine.put(items))
        found = engine.search(Question(text=QUESTION, lang="en", k=40))
    assert [hit.fused_rank for hit in found.hits] == list(range(1, 41))
    assert [hit.score for hit in found.hits] == [hit.fused for hit in found.hits]
    assert "budget" in found.rerank["stopped"]
