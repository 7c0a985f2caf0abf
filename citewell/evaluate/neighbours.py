"""Which passages of a set of marked questions are most like a text by its words, and which half a passage is of.

Half of the questions choose a threshold, the other half say what it is worth. Questions on one title are in one half.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from citewell.records import Passage
from citewell.text import terms
from citewell.train.marked import Marked, MarkedSet, Text


class Neighbours:
    """The set's passages by their topic words, each word weighed by how rare it is among them."""

    def __init__(self, given: MarkedSet, lang: str) -> None:
        self._texts = list(given.texts.values())
        self._lang = lang
        self._held: dict[str, list[int]] = defaultdict(list)
        for place, text in enumerate(self._texts):
            for word in set(terms(text.whole, lang)):
                self._held[word].append(place)

    def scores(self, text: str) -> dict[str, float]:
        """By passage, the weight of the text's words that it holds; only passages that hold one, best first."""
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(set(terms(text, self._lang))):
            held = self._held.get(word, ())
            for place in held:
                scores[place] += math.log(1 + len(self._texts) / len(held))
        order = sorted(scores, key=lambda place: (-scores[place], place))
        return {self._texts[place].id: scores[place] for place in order}


def half(text: Text) -> int:
    """0 or 1, by the title, or where there is none by the id: the same in every run and every set."""
    return hashlib.sha256((text.title or text.id).encode()).digest()[0] % 2


def passage_of(text: Text, lang: str, shown: str | None = None) -> Passage:
    """A text of a set as a passage of its own document; `shown` in place of its text."""
    body = text.text if shown is None else shown
    return Passage(
        id=text.id, doc_id=text.id, ordinal=0, start=0, end=len(body), title=text.title, text=body, lang=lang
    )


def spread(questions: Sequence[Marked], most: int) -> list[Marked]:
    """At most so many, evenly spread; 0 is all."""
    return [questions[n * len(questions) // most] for n in range(most)] if 0 < most < len(questions) else [*questions]


def by_language(given: MarkedSet, questions: Sequence[Marked]) -> Iterator[tuple[str, list[Marked], Neighbours]]:
    """The questions of each language, with the set's passages by the words of that language."""
    for lang in sorted({question.lang for question in questions}):
        yield lang, [question for question in questions if question.lang == lang], Neighbours(given, lang)
