"""Dense passage retrieval: one encoder for questions, another for passages, compared by dot product.

Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering" (EMNLP 2020). The encoders are those of
transformers, as Facebook published them (`dpr-question_encoder-*`, `dpr-ctx_encoder-*`) or as trained elsewhere.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from citewell.config import Settings, stay_offline
from citewell.embed.sentence import card_languages, weights_hash
from citewell.errors import ConfigError, EmbedderUnavailable
from citewell.ports import EmbedderCard, Vectors

PREFIX = "dpr:"
_CPU_BATCH, _GPU_BATCH = 16, 128
_LONGEST = 512


class PairEmbedder:
    """Two encoders by folder, or by hub name (looked for in the local cache alone): `dpr:QUESTION,PASSAGE`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = [name.strip() for name in settings.embedder.removeprefix(PREFIX).split(",")]
        self._encoders: tuple[tuple[Any, Any], tuple[Any, Any]] | None = None
        self._card: EmbedderCard | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read both encoders; raises `ConfigError`, `EmbedderUnavailable`."""
        with self._lock:
            if self._encoders is None:
                self._encoders = self._open()
                self._card = self._describe(self._encoders)

    def _open(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        if len(self._names) != 2 or not all(self._names):
            raise ConfigError(
                f"setting `embedder`: `{self._settings.embedder}` does not name two encoders",
                remedy=f"Write `{PREFIX}QUESTION_ENCODER,PASSAGE_ENCODER`.",
            )
        stay_offline()
        import torch
        from transformers import AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        device = self._settings.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        pair = []
        for name, kind in zip(self._names, (DPRQuestionEncoder, DPRContextEncoder), strict=True):
            try:
                model: Any = kind.from_pretrained(name)
                pair.append((AutoTokenizer.from_pretrained(name), model.to(device).eval()))
            except Exception as error:  # the library raises many kinds for a model that is absent or broken
                raise EmbedderUnavailable(
                    f"the encoder `{name}` cannot be loaded: {error}",
                    remedy=f"Give folders with {kind.__name__} models. Models are not downloaded unless "
                    "HF_HUB_OFFLINE=0 is set.",
                ) from error
        return pair[0], pair[1]

    def _describe(self, encoders: tuple[tuple[Any, Any], tuple[Any, Any]]) -> EmbedderCard:
        digest = hashlib.sha256()
        for name, (_, model) in zip(self._names, encoders, strict=True):
            folder = Path(name)
            known = weights_hash(folder) if folder.is_dir() else str(getattr(model.config, "_commit_hash", "") or name)
            digest.update(known.encode())
        (_, question), (tokenizer, passage) = encoders
        dimensions = [int(model.config.projection_dim or model.config.hidden_size) for model in (question, passage)]
        if dimensions[0] != dimensions[1]:
            raise EmbedderUnavailable(
                f"the encoders do not fit together: vectors of {dimensions[0]} and {dimensions[1]} dimensions",
                remedy="Name two encoders that were trained as a pair.",
            )
        return EmbedderCard(
            name=self._settings.embedder,
            weights=digest.hexdigest(),
            dimension=dimensions[0],
            max_tokens=min(_LONGEST, int(passage.config.max_position_embeddings)),
            tokenizer=tokenizer.backend_tokenizer.to_str(),
            similarity="dot",
            normalized=False,
            languages=self._settings.embedder_languages or card_languages(Path(self._names[1])),
        )

    def close(self) -> None:
        with self._lock:
            self._encoders = None

    def info(self) -> dict[str, Any]:
        card = self.describe()
        return {
            "name": card.name,
            "weights": card.weights[:12],
            "dimension": card.dimension,
            "max_tokens": card.max_tokens,
            "languages": list(card.languages) or "all",
        }

    def describe(self) -> EmbedderCard:
        self.load()
        assert self._card is not None
        return self._card

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension), as the encoder leaves them: their length counts."""
        return self._encode(texts, 1)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension), as the encoder leaves them."""
        return self._encode(texts, 0)

    def _encode(self, texts: Sequence[str], side: int) -> Vectors:
        import torch

        card = self.describe()
        assert self._encoders is not None
        tokenizer, model = self._encoders[side]
        batch = self._settings.embed_batch or (_CPU_BATCH if model.device.type == "cpu" else _GPU_BATCH)
        # Texts of like length together: less padding.
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        vectors = np.zeros((len(texts), card.dimension), dtype=np.float32)
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            inputs = tokenizer(
                [texts[n] for n in some], padding=True, truncation=True, max_length=card.max_tokens, return_tensors="pt"
            ).to(model.device)
            with torch.inference_mode():
                vectors[some] = model(**inputs).pooler_output.float().cpu().numpy()
        return vectors
