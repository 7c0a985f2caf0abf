"""Questions that a passage seems to answer and does not, made from those that it does.

Of the kinds that people wrote for SQuAD 2.0 (Rajpurkar et al. 2018, table 2): a name or a number exchanged, a word for
one near it in meaning, an antonym, a negation; and besides, the passage without the sentences that hold the answer.
Words near in meaning, antonyms and negations are English; the others need no language, but names are known by their
capitals.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from citewell.evaluate.overlap import normalized
from citewell.text import sentences_over, stop_words
from citewell.train.marked import Marked, Text
from citewell.train.negatives import plain_answers

# How often each way is tried first, about as often as people did it: of a hundred questions without an answer 21 had
# another name or number, 39 asked for something near, 20 had an antonym, 9 a negation (Rajpurkar et al. 2018, table 2).
_SHARES = {"exchanged": 0.3, "near": 0.3, "turned": 0.15, "cut": 0.15, "negated": 0.1}
# A passage shorter than this, in characters, asks for nothing to be looked for in it.
_SHORTEST = 80
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w])")
# Capitalised words in a row, not at the very start, where every word has a capital.
_NAME = re.compile(r"(?<!^)(?<![.?!] )\b[^\W\d_a-z]\w*[\w'’-]*(?: (?:of |the |de |la |von |van )?[^\W\d_a-z][\w'’-]*)*")
# A word in small letters: no name.
_PLAIN = re.compile(r"\b[a-z]+\b")
_NEGATED = {
    "did": "didn't", "does": "doesn't", "do": "don't", "was": "wasn't", "were": "weren't", "is": "isn't",
    "are": "aren't", "can": "can't", "could": "couldn't", "has": "hasn't", "have": "haven't", "had": "hadn't",
    "will": "won't", "would": "wouldn't",
}  # fmt: skip
_AUXILIARY = re.compile(rf"\b({'|'.join(_NEGATED)})\b")
_OPPOSITES = (
    "first last", "most least", "largest smallest", "biggest smallest", "highest lowest", "oldest newest", "more less",
    "before after", "earliest latest", "longest shortest", "best worst", "north south", "northern southern",
    "east west", "eastern western", "began ended", "begin end", "started stopped", "won lost", "increase decrease",
    "increased decreased", "higher lower", "larger smaller", "older younger", "early late", "above below",
    "upper lower", "major minor", "common rare", "male female", "maximum minimum", "accepted rejected",
    "allowed forbidden", "supported opposed", "included excluded", "public private", "outside inside", "without with",
    "always never", "gained lost", "joined left", "bought sold", "positive negative", "strong weak", "hot cold",
    "modern ancient",
)  # fmt: skip
_TURNED: dict[str, str] = {}
for _one, _other in (_pair.split() for _pair in _OPPOSITES):
    _TURNED.setdefault(_one, _other)
    _TURNED.setdefault(_other, _one)
_TURNING = re.compile(rf"\b({'|'.join(sorted(_TURNED, key=len, reverse=True))})\b")

Altered = tuple[Marked, Text]
# Other words for a word: `citewell.train.neighbours`.
Near = Callable[[str], Sequence[str]]


class Alterations:
    """Makes questions without an answer. `texts` are the passages that they, and names to exchange, are taken from."""

    def __init__(self, texts: Mapping[str, Text], near: Near, seed: int) -> None:
        self._texts = texts
        self._near = near
        self._draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._under: dict[str, list[str]] = {}
        for key, text in texts.items():
            self._under.setdefault(text.title, []).append(key)
        self._ways: dict[str, Callable[[Marked, Text], Altered | None]] = {
            "exchanged": self._exchanged,
            "near": self._nearly,
            "cut": _cut,
            "turned": _turned,
            "negated": _negated,
        }

    def of(self, questions: Iterable[Marked]) -> list[Altered]:
        """For each question that allows it another with its passage, which does not answer it."""
        return [made for question in questions if question.spans and (made := self._of(question)) is not None]

    def _of(self, question: Marked) -> Altered | None:
        text = self._texts[question.spans[0].passage]
        for way in self._order():
            made = self._ways[way](question, text)
            if made is not None:
                asked, passage = made
                return replace(asked, id=f"{question.id}~{way}", spans=(), answers=(), passages=(passage.id,)), passage
        return None

    def _order(self) -> list[str]:
        """All ways; the greater a share, the sooner."""
        return sorted(_SHARES, key=lambda way: self._draw.random() ** (1 / _SHARES[way]), reverse=True)

    def _exchanged(self, question: Marked, text: Text) -> Altered | None:
        """A name or number of the question for another, of the passage or of its neighbours under the same title."""
        for kind in self._draw.sample((_NAME, _NUMBER), 2):
            named = _of_kind(kind, question.text)
            if not named:
                continue
            old = self._draw.choice(named)
            neighbour = self._draw.choice(self._under[text.title])
            key = self._draw.choice((text.id, neighbour))
            said = " ".join((question.text, *question.answers)).casefold()
            others = [one for one in _of_kind(kind, self._texts[key].text) if one.casefold() not in said]
            if others:
                return replace(question, text=question.text.replace(old, self._draw.choice(others), 1)), text
        return None

    def _nearly(self, question: Marked, text: Text) -> Altered | None:
        """A word of an English question for one near it in meaning that the answer's own sentences do not have."""
        if question.lang != "en":
            return None
        start, end = question.spans[0].start, question.spans[0].end
        said = " ".join(text.text[a:b] for a, b in sentences_over(text.text, start, end, question.lang))
        taken = set(_PLAIN.findall(f"{question.text} {said}".casefold()))
        places = [place for place in _PLAIN.finditer(question.text) if place.group() not in stop_words("en")]
        for place in self._draw.sample(places, len(places)):
            others = [word for word in self._near(place.group()) if word not in taken]
            if others:
                changed = question.text[: place.start()] + self._draw.choice(others) + question.text[place.end() :]
                return replace(question, text=changed), text
        return None


def _of_kind(kind: re.Pattern[str], text: str) -> list[str]:
    return [found.group() for found in kind.finditer(text)]


def _cut(question: Marked, text: Text) -> Altered | None:
    """The passage without the sentences of the answer, where the rest does not say it as well."""
    start, end = question.spans[0].start, question.spans[0].end
    gone = sentences_over(text.text, start, end, question.lang)
    if not gone:
        return None
    rest = f"{text.text[: gone[0][0]].rstrip()} {text.text[gone[-1][1] :].lstrip()}".strip()
    plain = normalized(rest, question.lang)
    if len(rest) < _SHORTEST or any(answer in plain for answer in plain_answers(question)):
        return None
    return question, Text(f"{text.id}~{question.id}", text.title, rest)


def _turned(question: Marked, text: Text) -> Altered | None:
    return _said_otherwise(question, text, _TURNING, _TURNED)


def _negated(question: Marked, text: Text) -> Altered | None:
    if re.search(r"\b(not|never|no)\b|n't\b", question.text):
        return None
    return _said_otherwise(question, text, _AUXILIARY, _NEGATED)


def _said_otherwise(question: Marked, text: Text, kind: re.Pattern[str], table: Mapping[str, str]) -> Altered | None:
    """The first word of an English question that is of a kind for what a table has in its place."""
    if question.lang != "en" or kind.search(question.text) is None:
        return None
    return replace(question, text=kind.sub(lambda found: table[found[0]], question.text, count=1)), text
