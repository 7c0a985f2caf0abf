"""Windows of question and passage with their labels, made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell.generate.windows import NO_SPAN, Window, Windows, batch
from citewell.train.marked import Marked, Span, Text

if TYPE_CHECKING:
    from tokenizers import Encoding


@dataclass(frozen=True)
class Pair:
    """A question, a passage by id, and where it answers; None where it does not."""

    question: Marked
    passage: str
    span: Span | None


class Pairs:
    """A dataset of PyTorch's kind: one item a window, in the order of the pairs.

    An item has `input_ids`, for grouping by length, `window`, and `labels`: first token, last token, whether there is
    an answer, and the item's own place, for whoever groups items anew. An answer that a window does not hold whole is
    none.
    """

    def __init__(self, pairs: Sequence[Pair], texts: dict[str, Text], windows: Windows) -> None:
        self.pairs = list(pairs)
        self._windows = windows
        used = list(dict.fromkeys(pair.passage for pair in self.pairs))
        asked = {pair.question.id: pair.question.text for pair in self.pairs}
        self._texts = dict(zip(used, windows.encode([texts[key].text for key in used]), strict=True))
        self._titles = dict(zip(used, windows.encode([texts[key].title for key in used]), strict=True))
        self._asked: dict[str, Encoding] = dict(zip(asked, windows.encode(list(asked.values())), strict=True))
        self.places = [(n, part) for n in range(len(self.pairs)) for part in range(len(self._cut(n)))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int) -> dict[str, Any]:
        number, part = self.places[place]
        window = self._cut(number)[part]
        span = self.pairs[number].span
        tokens = None if span is None else window.tokens_of(span.start, span.end)
        labels = (NO_SPAN, NO_SPAN, 0, place) if tokens is None else (*tokens, 1, place)
        return {"input_ids": window.ids, "window": window, "labels": labels}

    def _cut(self, number: int) -> list[Window]:
        pair = self.pairs[number]
        return list(
            self._windows.cut(self._asked[pair.question.id], self._titles[pair.passage], self._texts[pair.passage])
        )


def collate(items: Sequence[dict[str, Any]], pad: int) -> dict[str, Any]:
    """Tensors of a batch of items, padded to its longest window."""
    import torch

    arrays = batch([item["window"] for item in items], pad)
    arrays["labels"] = np.array([item["labels"] for item in items], dtype=np.int64)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
