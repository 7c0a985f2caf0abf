"""The packaged embedder in both precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from citewell import device
from citewell.config import load_settings
from citewell.embed.sentence import SentenceTransformerEmbedder

TEXTS = [
    f"A tent of {n} poles stands in a wind of {n * 7} knots, and its pegs hold in sand. " * (n % 5 + 1)
    for n in range(40)
]


def embedded(precision: str) -> tuple[np.ndarray, str]:
    embedder = SentenceTransformerEmbedder(load_settings(device="cpu", embedder_dtype=precision))
    return embedder.embed_passages(TEXTS), embedder.info()["dtype"]


def test_bfloat16_vectors_have_unit_length_and_point_the_same_way() -> None:
    (exact, kind), (quick, other) = embedded("float32"), embedded("bfloat16")
    assert (kind, other) == ("float32", "bfloat16")
    for vectors in (exact, quick):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert (exact * quick).sum(axis=1).min() > 0.999


@pytest.mark.parametrize("has_amx", [True, False])
def test_bfloat16_is_taken_where_the_processor_is_quick_at_it(monkeypatch: pytest.MonkeyPatch, has_amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": has_amx})
    assert device.dtype("cpu") == (torch.bfloat16 if has_amx else torch.float32)
    assert device.dtype("cpu", "float32") == torch.float32
