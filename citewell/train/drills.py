"""What a generator is drilled with: questions in the product's own prompts, and the answers that it is to write.

A drill is a question with passages in any order, the right one among wrong ones, and the sentence of the right one with
its marker; or the statement that the documents do not answer, where the right passage is missing or holds no answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from citewell.cite import abstention
from citewell.generate.transformers import prompt_tokens
from citewell.prompt import messages
from citewell.records import Evidence, Hit, Passage, Question
from citewell.text import sentences
from citewell.train.marked import Marked, MarkedSet, Text

if TYPE_CHECKING:
    import torch

IGNORED = -100
# Share of drills on a question that can be answered which lack the right passage.
_ROBBED = 0.1
# Questions without an answer are at most about this share of the drills.
_UNANSWERABLE = 0.2
# Wrong passages are half from so far around the right one in its set, where the like of it stands, half from anywhere.
_AROUND = 40
# Batches that are sorted by length together.
_POOLED = 16


@dataclass(frozen=True)
class Mix:
    """`most` passages in a drill; of the drills the share `alone` begins with one passage, then come two, then all.

    The share `closed` comes without any; `by_heart` has them answered all the same, so that the facts are learned.
    """

    most: int = 2
    alone: float = 0.3
    closed: float = 0.05
    by_heart: bool = False


@dataclass(frozen=True)
class Drill:
    """`answerable` by the passages that are given, or else by heart."""

    question: Question
    evidence: Evidence
    answer: str
    answerable: bool

    @property
    def length(self) -> int:
        """In characters, about."""
        return sum(len(hit.passage.text) + len(hit.passage.title) for hit in self.evidence.hits) + len(self.answer)


class Drilling:
    """Draws drills from sets, the same for the same seed."""

    def __init__(self, sets: Sequence[MarkedSet], mix: Mix, seed: int) -> None:
        self._mix = mix
        self._draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._keys = [list(one.texts) for one in sets]
        self._places = [{key: place for place, key in enumerate(keys)} for keys in self._keys]
        self._sets = sets
        asked = [(number, question) for number, one in enumerate(sets) for question in one.questions]
        self._with = [pair for pair in asked if pair[1].spans]
        self._without = [pair for pair in asked if not pair[1].spans]

    def course(self, steps: int, batch: int) -> list[Drill]:
        """Drills of all steps, from one passage to several, those of a batch of like length."""
        drills: list[Drill] = []
        for step in range(0, steps, _POOLED):
            done = step / steps
            alone = self._mix.alone
            most = 1 if done < alone else min(2, self._mix.most) if done < 1.5 * alone else self._mix.most
            some = self.some(batch * min(_POOLED, steps - step), most)
            some.sort(key=lambda drill: drill.length)
            batches = [some[at : at + batch] for at in range(0, len(some), batch)]
            self._draw.shuffle(batches)
            drills += [drill for one in batches for drill in one]
        return drills

    def some(self, count: int, most: int) -> list[Drill]:
        return [self._one(most) for _ in range(count)]

    def _one(self, most: int) -> Drill:
        few = not self._with or (bool(self._without) and self._draw.random() < _UNANSWERABLE)
        number, asked = self._draw.choice(self._without if few else self._with)
        question = Question(text=asked.text, lang=asked.lang)
        if self._draw.random() < self._mix.closed:
            known = self._mix.by_heart and bool(asked.spans)
            answer = self._quoted(number, asked) if known else abstention(asked.lang)
            return Drill(question, Evidence(mode="none", lang=asked.lang), answer, known)
        own = asked.spans[0].passage if asked.spans else asked.passages[0]
        chosen = [own, *self._wrong(number, asked, own, self._draw.randint(1, most) - 1)]
        if robbed := len(chosen) > 1 and self._draw.random() < _ROBBED:
            del chosen[0]
        self._draw.shuffle(chosen)
        texts = [self._sets[number].texts[key] for key in chosen]
        evidence = Evidence(hits=tuple(_hit(text, n + 1, asked.lang) for n, text in enumerate(texts)), lang=asked.lang)
        if robbed or not asked.spans:
            return Drill(question, evidence, abstention(asked.lang), False)
        return Drill(question, evidence, f"{self._quoted(number, asked)} [{chosen.index(own) + 1}]", True)

    def _wrong(self, number: int, asked: Marked, own: str, count: int) -> list[str]:
        keys, at = self._keys[number], self._places[number][own]
        found: dict[str, None] = {}
        for _ in range(4 * count):
            near = self._draw.random() < 0.5
            place = at + self._draw.randint(-_AROUND, _AROUND) if near else self._draw.randrange(len(keys))
            key = keys[place % len(keys)]
            text = self._sets[number].texts[key].text
            if key not in asked.passages and not any(answer in text for answer in asked.answers):
                found[key] = None
            if len(found) == count:
                break
        return list(found)

    def _quoted(self, number: int, asked: Marked) -> str:
        """The sentence that the first answer begins in; whole lines are one where no sentence is found."""
        span = asked.spans[0]
        text = self._sets[number].texts[span.passage].text
        for start, end in sentences(text, asked.lang):
            if start <= span.start < end:
                return text[start:end]
        return text[span.start : span.end]


def _hit(text: Text, rank: int, lang: str) -> Hit:
    passage = Passage(
        id=f"{text.id}#0", doc_id=text.id, ordinal=0, start=0, end=len(text.text), text=text.text, title=text.title,
        lang=lang,
    )  # fmt: skip
    return Hit(passage=passage, rank=rank, score=1.0 / rank)


def rendered(drill: Drill, count: Callable[[str], int], budget: int) -> list[dict[str, str]]:
    """The messages that the product makes of it."""
    return messages(drill.question, drill.evidence, budget=budget, count=count)


class Encoded:
    """A dataset of PyTorch's kind: prompt and answer of each drill as tokens, made when they are asked for.

    `labels` are the answer's tokens with the end, IGNORED before. What is longer than the model's context loses its
    beginning, as long as the answer fits.
    """

    def __init__(self, drills: Sequence[Drill], tokenizer: Any, context: int, budget: int) -> None:
        self.drills = list(drills)
        self._tokenizer = tokenizer
        self._context = context
        self._budget = budget

    def __len__(self) -> int:
        return len(self.drills)

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        drill = self.drills[place]
        prompt = prompt_tokens(self._tokenizer, rendered(drill, self._count, self._budget))
        answer = self._tokenizer(drill.answer, add_special_tokens=False)["input_ids"]
        answer = [*answer, self._tokenizer.eos_token_id][: self._context]
        prompt = prompt[max(0, len(prompt) + len(answer) - self._context) :]
        return {"input_ids": [*prompt, *answer], "labels": [*([IGNORED] * len(prompt)), *answer]}

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def collate(items: Sequence[dict[str, list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """Tensors of shape (items, longest), padded behind: a causal model does not see it there."""
    import torch

    width = max(len(item["input_ids"]) for item in items)
    rows = {"input_ids": pad, "labels": IGNORED}
    return {
        name: torch.tensor([item[name] + [fill] * (width - len(item[name])) for item in items])
        for name, fill in rows.items()
    }
