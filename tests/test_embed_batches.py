"""Batches of the packaged model: a core each, of texts of like length, and the same vectors as one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from citewell.config import Settings
from citewell.embed.sentence import SentenceTransformerEmbedder

# Much text of few tokens beside little text of many.
TEXTS = [f"{'information ' * (n % 23)}{'zq7x ' * (n % 7)}number {n}" for n in range(75)]


@pytest.fixture(scope="module")
def embedder() -> Iterator[SentenceTransformerEmbedder]:
    opened = SentenceTransformerEmbedder(Settings(embedder_dtype="float32"))
    opened.load()
    yield opened
    opened.close()


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("citewell-embed")]


def test_vectors_keep_their_order(embedder: SentenceTransformerEmbedder) -> None:
    together = embedder.embed_passages(TEXTS)
    alone = np.concatenate([embedder.embed_passages([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_lengths_are_counted_in_tokens(embedder: SentenceTransformerEmbedder) -> None:
    order = embedder._by_length(["information " * 20, "zq7x " * 20, "word", "zq7x " * 400])
    assert order.tolist() == [3, 1, 0, 2]


def test_other_threads_keep_all_cores_and_none_is_left(embedder: SentenceTransformerEmbedder) -> None:
    before = torch.get_num_threads()
    embedder.embed_passages(TEXTS)
    assert torch.get_num_threads() == before
    seen: list[int] = []
    asking = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    asking.start()
    asking.join()
    assert seen == [before]
    assert workers()
    embedder.close()
    assert workers() == []
    assert embedder.embed_passages(TEXTS[:40]).shape == (40, 384)
