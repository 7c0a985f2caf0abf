"""What a student is shown, batch by batch: translations, the teacher's own language, questions, ciphers.

Every batch is drawn from the seed and the number of its step alone, so a run that goes on sees what it would have seen.
Texts of like length stand together, as many as fit a number of tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell.train.alignment import Floats, Ints
from citewell.train.student import padded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Share of the batches; what a run has no material for falls to the others. Languages have the same of a kind, and so do
# the sources of one language: what has most text would drown what has the right one.
SHARES = {"translations": 0.55, "alone": 0.2, "answers": 0.15, "ciphers": 0.1}
# A batch is drawn from so many times as many neighbours in length.
_AROUND = 8
# One text in the teacher's language for so many translations: it knows them already, and is to keep them.
_OWN = 4
_MOST = 256
# Tokens that a cipher leaves as they are: the commonest, which are the sentence around the words.
_PLAIN = 300


@dataclass(frozen=True)
class Lesson:
    """`items` are numbers of texts, one row a question with its passage and a wrong one (-1 for none), or a text with
    its translation, or a text alone; sorted by the length of the longest."""

    kind: str
    lang: str
    items: Ints
    lengths: Ints


class Texts:
    """Distinct texts as tokens; `vectors` are the teacher's of those that it was asked for."""

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self._tokenizer = tokenizer
        self._longest = longest
        self._places: dict[str, int] = {}
        self.rows: list[Any] = []
        self.vectors: dict[int, int] = {}
        self.taught: Any = None

    def add(self, texts: Sequence[str]) -> list[int]:
        """Their numbers, in their order."""
        new = [text for text in dict.fromkeys(texts) if text not in self._places]
        for text, one in zip(new, self._tokenizer.encode_batch_fast(new), strict=True):
            self._places[text] = len(self.rows)
            ids = one.ids if len(one.ids) <= self._longest else [*one.ids[: self._longest - 1], one.ids[-1]]
            self.rows.append(np.array(ids, dtype=np.int32))
        return [self._places[text] for text in texts]

    def teach(self, texts: Sequence[str], vectors: Any) -> None:
        """Keep the teacher's vectors of texts that were added, in half precision."""
        self.vectors = {self._places[text]: place for place, text in enumerate(texts)}
        self.taught = vectors

    def aims(self, numbers: Sequence[int]) -> Floats:
        found: Floats = self.taught[[self.vectors[number] for number in numbers]].astype(np.float32)
        return found

    def lesson(self, kind: str, lang: str, items: Sequence[tuple[int, ...]]) -> Lesson:
        lengths = np.array([max(len(self.rows[n]) for n in item if n >= 0) for item in items], dtype=np.int64)
        order = np.argsort(lengths, kind="stable")
        return Lesson(kind, lang, np.array(items, dtype=np.int64)[order], lengths[order])


class Batches:
    """A dataset of PyTorch's kind with a whole batch as an item: what `Student.forward` wants, by step."""

    def __init__(self, texts: Texts, lessons: Sequence[Lesson], steps: int, tokens: int, seed: int) -> None:
        self._texts = texts
        self._lessons = [one for one in lessons if len(one.items)]
        spoken = Counter(kind for kind, _ in {(one.kind, one.lang) for one in self._lessons})
        sources = Counter((one.kind, one.lang) for one in self._lessons)
        each = [SHARES[one.kind] / spoken[one.kind] / sources[one.kind, one.lang] for one in self._lessons]
        shares = np.array(each)
        self._shares = shares / shares.sum()
        self._steps, self._tokens, self._seed = steps, tokens, seed
        counts = np.bincount(np.concatenate(texts.rows))
        self._size = len(counts)
        self._plain = np.argsort(-counts)[:_PLAIN]

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> dict[str, Any]:
        lesson, draw = self.drawn(step)
        return self.batch(lesson, draw)

    def drawn(self, step: int) -> tuple[Lesson, np.random.Generator]:
        """What a step is a batch of, and what draws it."""
        draw = np.random.default_rng([self._seed, step])
        return self._lessons[int(draw.choice(len(self._lessons), p=self._shares))], draw

    def batch(self, lesson: Lesson, draw: np.random.Generator) -> dict[str, Any]:
        items = self._drawn(lesson, draw)
        if lesson.kind == "translations":
            return self._translations(items)
        if lesson.kind == "alone":
            return self._tensors(items[:, 0].tolist(), aimed=len(items))
        return self._answers(items, lesson, draw)

    def _drawn(self, lesson: Lesson, draw: np.random.Generator) -> Ints:
        """Items of like length, none with a text of another."""
        centre = int(draw.integers(len(lesson.items)))
        columns = lesson.items.shape[1]
        want = int(np.clip(self._tokens // (max(8, lesson.lengths[centre]) * columns), 2, _MOST))
        span = min(len(lesson.items), want * _AROUND)
        start = int(np.clip(centre - span // 2, 0, len(lesson.items) - span))
        seen: set[int] = set()
        chosen = []
        for place in draw.permutation(span)[: want * 2].tolist():
            item = lesson.items[start + place]
            if not seen.intersection(item.tolist()):
                seen.update(n for n in item.tolist() if n >= 0)
                chosen.append(item)
            if len(chosen) == want:
                break
        return np.array(chosen)

    def _translations(self, items: Ints) -> dict[str, Any]:
        own = items[: max(1, len(items) // _OWN), 0].tolist()
        given = self._tensors([*items[:, 1].tolist(), *own])
        return given | self._aimed([*items[:, 0].tolist(), *own]) | {"left": _places(len(items)), "weight": 0.3}

    def _answers(self, items: Ints, lesson: Lesson, draw: np.random.Generator) -> dict[str, Any]:
        wrong = [n for n in items[:, 2].tolist() if n >= 0] if lesson.kind == "answers" else []
        numbers = [*items[:, 0].tolist(), *items[:, 1].tolist(), *wrong]
        taught = lesson.kind == "answers" and all(number in self._texts.vectors for number in numbers)
        cipher = self._cipher(draw) if lesson.kind == "ciphers" else None
        given = self._tensors(numbers, aimed=len(numbers) if taught else 0, cipher=cipher)
        count = len(items)
        return given | {"left": _places(count), "right": _places(len(numbers) - count) + count, "weight": 0.5}

    def _cipher(self, draw: np.random.Generator) -> Ints:
        """Every token but the commonest as another: words are told apart that no translation explains."""
        new = draw.permutation(self._size)
        new[self._plain] = self._plain
        return new

    def _tensors(self, numbers: Sequence[int], aimed: int = 0, cipher: Ints | None = None) -> dict[str, Any]:
        rows = [self._texts.rows[n] for n in numbers]
        given = padded(rows if cipher is None else [cipher[row] for row in rows])
        return given | (self._aimed(numbers[:aimed]) if aimed else {})

    def _aimed(self, numbers: Sequence[int]) -> dict[str, Any]:
        import torch

        return {"aims": torch.from_numpy(self._texts.aims(numbers)), "aimed": _places(len(numbers))}


def _places(count: int) -> Any:
    import torch

    return torch.arange(count)


def shares(lessons: Sequence[Lesson]) -> Mapping[str, int]:
    """How much there is to be shown, by kind and language."""
    found: dict[str, int] = {}
    for one in lessons:
        name = f"{one.kind} {one.lang}"
        found[name] = found.get(name, 0) + len(one.items)
    return found
