"""Whether a sentence follows from a span, by a cross-encoder for natural language inference."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell import device
from citewell.config import Settings, stay_offline
from citewell.errors import EntailmentUnavailable

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_BATCH = 16


class CrossEncoderEntailment:
    """A cross-encoder by folder, or by hub name (looked for in the local cache alone), one label of it `entailment`."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.entailment
        self._device = settings.device
        self._model: CrossEncoder | None = None
        self._label = 0
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read the weights; raises `EntailmentUnavailable` when they are not here, or no label says `entailment`."""
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
            raise EntailmentUnavailable(f"the model `{self._name}` cannot be loaded: {error}") from error
        labels = getattr(model.config, "id2label", None) or {}
        names = {str(name).lower(): int(place) for place, name in labels.items()}
        if model.num_labels < 2 or "entailment" not in names:
            raise EntailmentUnavailable(f"the model `{self._name}` has the labels {sorted(names)}, no `entailment`")
        self._label = names["entailment"]
        return model

    def close(self) -> None:
        self._model = None

    def info(self) -> dict[str, Any]:
        model = self._used()
        return {"name": self._name, "device": str(model.device), "dtype": str(model.dtype).removeprefix("torch.")}

    def entail(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Probability that the second text of each pair follows from the first, in [0, 1]."""
        if not pairs:
            return []
        import torch

        found = self._used().predict(
            list(pairs), batch_size=_BATCH, activation_fn=torch.nn.Softmax(dim=-1), show_progress_bar=False
        )
        return [float(row[self._label]) for row in np.asarray(found, dtype=np.float64)]

    def _used(self) -> CrossEncoder:
        self.load()
        assert self._model is not None
        return self._model
