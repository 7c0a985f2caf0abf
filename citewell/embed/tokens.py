"""Texts cut into tokens once: for the lengths that sort them into batches, and for the model's forward pass.

`SentenceTransformer.encode` cuts them again and takes no tokens. A forward pass by hand is only right for a model
without prompts, routes and shortened vectors, so `Tokens.of` compares its vectors with those of `encode_document`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell.ports import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

# Capitals, accents, scripts, symbols and length: what tokenizers differ in.
_PROBES = (
    "",
    "The Return of 3 Ünïcode PARCELS; x_y = 'a'",
    "返品は三十日以内です。 고객",
    "A longer text, of words. " * 400,
)
_SAME = 0.999


class Tokens:
    """`most`: longest input of the model. `step`: batches are padded to a multiple of so many tokens.

    `asks`: questions can be given the same way.
    """

    def __init__(
        self, model: SentenceTransformer, tokenizer: Tokenizer, most: int, step: int, *, asks: bool = False
    ) -> None:
        self.asks = asks
        self._model = model
        self._tokenizer = tokenizer
        self._step = step
        self._padding = int(model.tokenizer.pad_token_id or 0)
        given = model.preprocess(["a"])
        self._rest = {name: value for name, value in given.items() if isinstance(value, str)}
        self._typed = "token_type_ids" in given
        self._most = most
        self._set_up()

    @classmethod
    def of(cls, model: SentenceTransformer, tokenizer: str, most: int, step: int) -> Tokens | None:
        """None for a model whose passages are more than their tokens.

        Where questions are no more than their tokens either, the library cuts no text any more, and its own tokenizer
        serves: one of many words takes as much memory as the weights.
        """
        from sentence_transformers.models import Transformer
        from tokenizers import Tokenizer

        if not isinstance(model[0], Transformer) or model.tokenizer.padding_side != "right":
            return None
        passages, questions = (
            np.asarray(encode(list(_PROBES), show_progress_bar=False), dtype=np.float32)
            for encode in (model.encode_document, model.encode_query)
        )
        shared = cls(model, model.tokenizer.backend_tokenizer, most, step, asks=True)
        own = shared.vectors(shared.cut(_PROBES))
        if not _alike(passages, own):
            return None
        return shared if _alike(questions, own) else cls(model, Tokenizer.from_str(tokenizer), most, step)

    def cut(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text's tokens, the special ones included, at most as many as the model reads."""
        # If the tokenizer is the model's own, a call of the library has set it up in the library's way, with padding.
        # Only then anew: that waits for whatever other threads are cutting.
        if self._tokenizer.padding is not None:
            self._set_up()
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts))]

    def _set_up(self) -> None:
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._most)

    def vectors(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """float32, one row a text, of whatever length the model gives them."""
        import torch

        longest = max(len(ids) for ids in batch)
        width = longest + -longest % self._step
        ids = np.full((len(batch), width), self._padding, dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        for row, text in enumerate(batch):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        features: dict[str, Any] = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self._typed:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        with torch.inference_mode():
            found: Vectors = self._model(features | self._rest)["sentence_embedding"].float().numpy()
        return found


def _alike(given: Vectors, own: Vectors) -> bool:
    if given.shape != own.shape:
        return False
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(own, axis=1)
    return bool(((given * own).sum(axis=1) > _SAME * lengths).all())


def uncut_tokenizer(described: str) -> Tokenizer:
    """A tokenizer from its JSON for counting and cutting by hand: it cuts nothing off and fills nothing up."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(described)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
