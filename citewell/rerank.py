"""Pairs of question and passage read together by a cross-encoder, within a time budget.

Nogueira and Cho, "Passage Re-ranking with BERT" (2019). Any model with one label that sentence-transformers can read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell import device
from citewell.config import Settings, stay_offline
from citewell.errors import RerankerUnavailable
from citewell.ports import RerankResult

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_CPU_BATCH = 8
_GPU_BATCH = 64


class CrossEncoderReranker:
    """A cross-encoder by folder, or by hub name (looked for in the local cache alone)."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.reranker
        self._device = settings.device
        self._model: CrossEncoder | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read the weights; raises `RerankerUnavailable` when the model is not here, or has not one label."""
        with self._lock:
            if self._model is None:
                self._model = self._open()

    def _open(self) -> CrossEncoder:
        stay_offline()
        from sentence_transformers import CrossEncoder
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        where = device.chosen(self._device)
        try:
            model: CrossEncoder = CrossEncoder(self._name, device=where, model_kwargs={"dtype": device.dtype(where)})
        except Exception as error:  # the library raises many kinds for a model that is absent or broken
            raise RerankerUnavailable(f"the reranker `{self._name}` cannot be loaded: {error}") from error
        if model.num_labels != 1:
            raise RerankerUnavailable(f"the reranker `{self._name}` has {model.num_labels} labels, not one score")
        return model

    def close(self) -> None:
        self._model = None

    def info(self) -> dict[str, Any]:
        model = self._used()
        return {"name": self._name, "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch.")}

    def rerank(self, question: str, texts: Sequence[str], budget_s: float) -> RerankResult:
        """Scores in [0, 1] of the texts in order; a batch that would not end within the budget is not begun."""
        import torch

        model = self._used()
        batch = _CPU_BATCH if model.device.type == "cpu" else _GPU_BATCH
        started = time.monotonic()
        longest = 0.0
        scores: list[float] = []
        for place in range(0, len(texts), batch):
            begun = time.monotonic()
            if begun - started + longest >= budget_s:
                return RerankResult(tuple(scores), f"the budget of {budget_s * 1e3:.0f} ms was used up")
            pairs = [(question, text) for text in texts[place : place + batch]]
            found = model.predict(pairs, batch_size=batch, activation_fn=torch.nn.Sigmoid(), show_progress_bar=False)
            scores += np.asarray(found, dtype=np.float64).reshape(-1).tolist()
            longest = max(longest, time.monotonic() - begun)
        return RerankResult(tuple(scores))

    def _used(self) -> CrossEncoder:
        self.load()
        assert self._model is not None
        return self._model
