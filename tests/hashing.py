"""An embedder without a model: character n-grams hashed to 64 dimensions. Small, real and the same everywhere.

It says that it speaks no language (`zxx`), so that the extractive generator trusts words alone.
"""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from citewell.errors import EmbedderUnavailable
from citewell.ports import EmbedderCard, Vectors

DIMENSION = 64


class HashingEmbedder:
    """Texts that share many three-letter pieces are near each other. Another name has vectors that fit no other's."""

    _name = "hashing"

    def __init__(self, name: str = "hashing") -> None:
        self._name = name

    def load(self) -> None:
        """A name that does not begin with `hashing` is a model that this machine does not have."""
        if not self._name.startswith("hashing"):
            raise EmbedderUnavailable(f"the model {self._name} is not here", remedy="Bring it here.")

    def close(self) -> None:
        """Nothing to let go of."""

    def info(self) -> dict[str, Any]:
        return {"name": self._name, "dimension": DIMENSION}

    def describe(self) -> EmbedderCard:
        tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        return EmbedderCard(
            name=self._name,
            weights="0" * 64,
            dimension=DIMENSION,
            max_tokens=256,
            tokenizer=tokenizer.to_str(),
            languages=("zxx",),
        )

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        seed = 0 if self._name == "hashing" else crc32(self._name.encode())
        return np.stack([_vector(text, seed) for text in texts]) if texts else np.zeros((0, DIMENSION), np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_passages(texts)


def _vector(text: str, seed: int) -> Vectors:
    vector = np.zeros(DIMENSION, np.float32)
    padded = f"  {text.lower()} "
    for start in range(len(padded) - 2):
        hashed = crc32(padded[start : start + 3].encode("utf-8", "replace"), seed)
        vector[hashed % DIMENSION] += 1.0 if hashed & 0x10000 else -1.0
    length = float(np.linalg.norm(vector))
    if length == 0:
        vector[0] = length = 1.0
    return vector / np.float32(length)
