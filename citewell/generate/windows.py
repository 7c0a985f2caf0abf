"""Question and passage as a reader takes them: `[CLS] question [SEP] title text [SEP]`, long texts in windows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Tokens of a window in all, of a question and of a title at most, and those that two windows have in common.
WINDOW = 256
_QUESTION = 64
_TITLE = 16
_OVERLAP = 64
_LEAST_TEXT = 32
# PyTorch's attention on a CPU is slower for other lengths (docs/LOG.md, "The forward pass").
_STEP = 16
# Begin and end of an answer, as labels, where there is none.
NO_SPAN = -100
# Spans that are kept of each passage, for questions that ask for several things.
SPANS = 3


@dataclass(frozen=True)
class Window:
    """Token ids of one window; the tokens from `first` on are the passage's, `offsets` their characters in its text.

    `second` is where the second segment begins: the title.
    """

    ids: tuple[int, ...]
    second: int
    first: int
    offsets: tuple[tuple[int, int], ...]

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last token of a span of characters; None where the window does not hold all of it."""
        if not self.offsets or start < self.offsets[0][0] or end > self.offsets[-1][1]:
            return None
        inside = [n for n, (a, b) in enumerate(self.offsets) if a < end and b > start]
        return (self.first + inside[0], self.first + inside[-1]) if inside else None


class Windows:
    """Cuts pairs into windows. The tokenizer must be of BERT's kind: with `[CLS]`, `[SEP]` and `[PAD]`."""

    def __init__(self, tokenizer: Tokenizer, size: int = WINDOW) -> None:
        self._tokenizer = tokenizer
        self._size = size
        known = tokenizer.get_vocab()
        try:
            self._cls, self._sep, self.pad = (known[mark] for mark in ("[CLS]", "[SEP]", "[PAD]"))
        except KeyError as missing:
            raise ValueError(f"the tokenizer has no {missing}") from None

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Texts as tokens without marks, nothing cut off; for `cut`."""
        return self._tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def cut(self, question: Encoding, title: Encoding, text: Encoding) -> Iterator[Window]:
        """The windows of one pair, in the order of the text."""
        asked = question.ids[:_QUESTION]
        named = title.ids[:_TITLE]
        head = [self._cls, *asked, self._sep]
        room = max(_LEAST_TEXT, self._size - len(head) - len(named) - 1)
        step = max(1, room - _OVERLAP)
        for begin in range(0, max(1, len(text.ids)), step):
            ids = text.ids[begin : begin + room]
            yield Window(
                (*head, *named, *ids, self._sep),
                second=len(head),
                first=len(head) + len(named),
                offsets=tuple(text.offsets[begin : begin + room]),
            )
            if begin + room >= len(text.ids):
                return


def batch(windows: Sequence[Window], pad: int) -> dict[str, Integers]:
    """The network's inputs, each of shape (windows, tokens of the longest, padded to a multiple of 16)."""
    longest = max(len(window.ids) for window in windows)
    shape = (len(windows), -(-longest // _STEP) * _STEP)
    made = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids", "text_mask")}
    made["input_ids"][:] = pad
    for row, window in enumerate(windows):
        length = len(window.ids)
        made["input_ids"][row, :length] = window.ids
        made["attention_mask"][row, :length] = 1
        made["token_type_ids"][row, window.second : length] = 1
        made["text_mask"][row, window.first : window.first + len(window.offsets)] = 1
    return made


@dataclass(frozen=True)
class Found:
    """A span of characters in a passage's text; `score` is the logit of begin and end over all tokens of the window."""

    start: int
    end: int
    score: float


def best_spans(window: Window, start: Floats, end: Floats, most: int = 1, longest: int = 30) -> list[Found]:
    """The best spans of one window that do not overlap, best first.

    `start` and `end` are scores by token; a span's score is the log-probability of its two ends. `longest` is in
    tokens.
    """
    count = len(window.offsets)
    if not count:
        return []
    begin = _log_softmax(start[window.first : window.first + count])
    finish = _log_softmax(end[window.first : window.first + count])
    pairs = begin[:, None] + finish[None, :]
    upper = np.triu(np.ones((count, count), bool)) & ~np.triu(np.ones((count, count), bool), longest)
    pairs = np.where(upper, pairs, -np.inf)
    found: list[Found] = []
    taken = np.zeros(count, bool)
    for flat in np.argsort(pairs, axis=None)[::-1][: 20 * most]:
        first, last = divmod(int(flat), count)
        if not np.isfinite(pairs[first, last]) or len(found) == most:
            break
        if not taken[first : last + 1].any():
            taken[first : last + 1] = True
            found.append(Found(window.offsets[first][0], window.offsets[last][1], float(pairs[first, last])))
    return found


def spans_of(window: Window, start: Floats, end: Floats, answers: float, most: int = SPANS) -> list[Found]:
    """As `best_spans`, with the log-probability added that the window answers, of which `answers` is the logit."""
    says = -float(np.logaddexp(0.0, -answers))
    return [Found(span.start, span.end, span.score + says) for span in best_spans(window, start, end, most)]


def _log_softmax(scores: Any) -> Floats:
    shifted = scores.astype(np.float32) - scores.max()
    logs: Floats = (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)
    return logs
