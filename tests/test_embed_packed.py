"""Packed layers: what they compute is what PyTorch's own compute, and vectors stay what they were."""

from __future__ import annotations

import numpy as np
import torch

from citewell.config import Settings
from citewell.embed.packed import pack
from citewell.embed.sentence import SentenceTransformerEmbedder

TEXTS = ["returns " * n + f"within {n} days" for n in (1, 15, 16, 40, 157, 300)]


def test_layers_in_bfloat16_are_replaced_and_compute_the_same() -> None:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(64, 96), torch.nn.GELU(), torch.nn.Linear(96, 32, bias=False))
    model = model.to(torch.bfloat16)
    rows = torch.randn(7, 3, 64).to(torch.bfloat16)
    with torch.inference_mode():
        before = model(rows)
        assert pack(model) == 2
        assert not any(isinstance(layer, torch.nn.Linear) for layer in model)
        torch.testing.assert_close(model(rows), before, atol=0.02, rtol=0.02)


def test_layers_in_float32_stay() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    assert pack(model) == 0
    assert isinstance(model[0], torch.nn.Linear)


def test_vectors_are_those_of_float32() -> None:
    """The cosine between precisions was .9999 before layers were packed and batches padded to a multiple."""
    exact = SentenceTransformerEmbedder(Settings(embedder_dtype="float32"))
    quick = SentenceTransformerEmbedder(Settings(embedder_dtype="bfloat16"))
    cosines = (exact.embed_passages(TEXTS) * quick.embed_passages(TEXTS)).sum(axis=1)
    assert np.all(cosines > 0.9995), cosines
    alone = exact.embed_passages(TEXTS[:1])
    np.testing.assert_allclose(alone[0], exact.embed_passages(TEXTS)[0], atol=1e-5)
    exact.close()
    quick.close()
