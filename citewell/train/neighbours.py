"""Words that mean nearly, but not quite, what a word means, from an encoder's own word embeddings.

A question with one of its words exchanged for such a neighbour reads like the question and asks for something else, as
in AddSent (Jia & Liang 2017), where the neighbours come from GloVe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

# Cosine of two words: above it they mean the same ("established" of "founded"), below it they have little in common.
_LEAST, _MOST = 0.3, 0.48
_FEWEST_LETTERS = 4
# Words that a question loses nothing with: another in their place asks for the same.
_EMPTY = frozenset("kind type sort form term word name called given known used made many much also".split())
_KEPT = 8
_WORD = re.compile(rf"[a-z]{{{_FEWEST_LETTERS},}}")
# Words of one kind end alike, so that an exchanged word stands where the first could.
_ENDINGS = ("ing", "ed", "ly", "est", "er", "s")


class Neighbours:
    """`vocabulary` is a tokenizer's, word to row; `rows` the word embeddings, of shape (words, dimensions).

    Of the vocabulary only the words of `known` count: others are names, or words that questions do not use.
    """

    def __init__(
        self, vocabulary: Mapping[str, int], rows: npt.NDArray[np.float32], known: frozenset[str] | set[str]
    ) -> None:
        self._words = sorted(word for word in vocabulary if word in known - _EMPTY and _WORD.fullmatch(word))
        self._place = {word: place for place, word in enumerate(self._words)}
        own = rows[[vocabulary[word] for word in self._words]] if self._words else rows[:0]
        self._rows = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-9)
        self._found: dict[str, tuple[str, ...]] = {}

    def __call__(self, word: str) -> tuple[str, ...]:
        """The nearest first; empty for a word that is not known."""
        if word not in self._place:
            return ()
        if word not in self._found:
            near = self._rows @ self._rows[self._place[word]]
            places = [place for place in np.argsort(-near, kind="stable") if _LEAST <= near[place] <= _MOST]
            others = (self._words[place] for place in places)
            self._found[word] = tuple(other for other in others if _another(word, other))[:_KEPT]
        return self._found[word]


def _another(word: str, other: str) -> bool:
    return word[:_FEWEST_LETTERS] != other[:_FEWEST_LETTERS] and _ending(word) == _ending(other)


def _ending(word: str) -> str:
    return next((ending for ending in _ENDINGS if word.endswith(ending)), "")
