"""Passages given to a model as tokens: the same vectors as `encode_document`, and only where that is so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from citewell.config import Settings
from citewell.embed.sentence import SentenceTransformerEmbedder
from citewell.embed.tokens import Tokens
from citewell.ports import Vectors

TEXTS = [
    "",
    "Returns within 30 days.",
    "返品は三十日以内です。",
    "Ünïcode\n\tand LINES",
    *("parcel " * n for n in range(1, 400, 9)),
]


@pytest.fixture(scope="module")
def embedder() -> Iterator[SentenceTransformerEmbedder]:
    opened = SentenceTransformerEmbedder(Settings(embedder_dtype="float32"))
    opened.load()
    yield opened
    opened.close()


def unit(vectors: Vectors) -> Vectors:
    scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def test_vectors_are_those_of_the_library(embedder: SentenceTransformerEmbedder) -> None:
    assert embedder._tokens is not None
    given = unit(np.asarray(embedder._used().encode_document(TEXTS, show_progress_bar=False)))
    np.testing.assert_allclose(embedder.embed_passages(TEXTS), given, atol=2e-5)


def test_questions_go_the_same_way_whatever_the_library_did_before(embedder: SentenceTransformerEmbedder) -> None:
    assert embedder._tokens is not None
    assert embedder._tokens.asks
    assert embedder._counter is None
    for texts in (TEXTS, TEXTS[:3]):
        given = unit(np.asarray(embedder._used().encode_query(texts, show_progress_bar=False)))
        np.testing.assert_allclose(embedder.embed_queries(texts), given, atol=2e-5)


def test_a_model_that_wants_a_prompt_for_questions_has_them_from_the_library(
    embedder: SentenceTransformerEmbedder,
) -> None:
    model, card = embedder._used(), embedder.describe()
    kept = dict(model.prompts)
    try:
        model.prompts["query"] = "a question about the sea: "
        found = Tokens.of(model, card.tokenizer, card.max_tokens, 16)
    finally:
        model.prompts.update(kept)
    assert found is not None
    assert not found.asks
    assert found._tokenizer is not model.tokenizer.backend_tokenizer


def test_a_model_that_wants_a_prompt_is_left_to_the_library(embedder: SentenceTransformerEmbedder) -> None:
    model, card = embedder._used(), embedder.describe()
    kept = dict(model.prompts)
    try:
        model.prompts["document"] = "passage of a book about the sea: "
        assert Tokens.of(model, card.tokenizer, card.max_tokens, 16) is None
    finally:
        model.prompts.update(kept)
    assert Tokens.of(model, card.tokenizer, card.max_tokens, 16) is not None


def test_a_model_of_shorter_vectors_is_left_to_the_library(embedder: SentenceTransformerEmbedder) -> None:
    model, card = embedder._used(), embedder.describe()
    model.truncate_dim = 128
    try:
        assert Tokens.of(model, card.tokenizer, card.max_tokens, 16) is None
    finally:
        model.truncate_dim = None
