"""Invented facts with questions on them: a marked set in which nothing is true and nothing can be known beforehand.

Names are made of two words, numbers are drawn. Each name and number belongs by its hash to one part: what is trained
on, what a training is watched with, or what is held out. So no held-out fact shares a name or value with a training.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citewell.errors import BadInput
from citewell.train.marked import Marked, MarkedSet, Span, Text

LICENCE = "CC0-1.0"
TRAIN, DEV, HELD_OUT = "train", "dev", "held-out"
# Of so many names and numbers one is held out, and one is for watching.
_SHARES = 5
# Facts told of a thing, of those that its kind has; questions on the others have no answer.
_TOLD = 3
# More things than this would need more names than there are in a part.
_MOST = 8_000

_ONSETS = "b br ch d dr f g gl h j k kr l m n p pl r s sh st t th tr v w z".split()
# A name is two words, each a beginning with one of these.
_FIRST = "abin edor ilan osk umar enna".split()
_SECOND = "aven ekral ibur otan ulsen irrow".split()


@dataclass(frozen=True)
class _Fact:
    """What can be said and asked: `{it}` is the thing, `{value}` what is drawn."""

    drawn: str
    sentence: str
    question: str


@dataclass(frozen=True)
class _Kind:
    """A kind of thing; `noun` stands in the title."""

    noun: str
    facts: tuple[_Fact, ...]


def _kind(noun: str, *facts: tuple[str, str, str]) -> _Kind:
    return _Kind(noun, tuple(_Fact(*fact) for fact in facts))


_KINDS = {
    "en": (
        _kind(
            "town",
            ("name", "The mayor of {it} is {value}.", "Who is the mayor of {it}?"),
            ("name", "The river of {it} is {value}.", "What is the river of {it}?"),
            ("number", "The population of {it} is {value}.", "What is the population of {it}?"),
            ("year", "The founding year of {it} is {value}.", "What is the founding year of {it}?"),
            ("name", "The market of {it} is {value}.", "Where is the market of {it}?"),
        ),
        _kind(
            "company",
            ("name", "The director of {it} is {value}.", "Who is the director of {it}?"),
            ("name", "The seat of {it} is {value}.", "Where is the seat of {it}?"),
            ("number", "The staff of {it} is {value}.", "How large is the staff of {it}?"),
            ("year", "The opening year of {it} is {value}.", "What is the opening year of {it}?"),
            ("name", "The product of {it} is {value}.", "What is the product of {it}?"),
        ),
        _kind(
            "device",
            ("name", "The maker of {it} is {value}.", "Who is the maker of {it}?"),
            ("number", "The price of {it} is {value}.", "What is the price of {it}?"),
            ("number", "The weight of {it} is {value}.", "What is the weight of {it}?"),
            ("date", "The release date of {it} is {value}.", "What is the release date of {it}?"),
            ("name", "The inventor of {it} is {value}.", "Who is the inventor of {it}?"),
        ),
        _kind(
            "festival",
            ("name", "The host of {it} is {value}.", "Who is the host of {it}?"),
            ("date", "The date of {it} is {value}.", "What is the date of {it}?"),
            ("name", "The place of {it} is {value}.", "Where is the place of {it}?"),
            ("number", "The fee of {it} is {value}.", "What is the fee of {it}?"),
            ("name", "The prize of {it} is {value}.", "What is the prize of {it}?"),
        ),
    ),
}  # fmt: skip
LANGUAGES = tuple(_KINDS)
_MONTHS = "January February March April May June July August September October November December".split()


def invent(things: int, seed: int, part: str, langs: Sequence[str] = ("en",)) -> MarkedSet:
    """A set on so many things; the same for the same arguments. Raises `BadInput` for a language without wordings."""
    if things > _MOST:
        raise BadInput(f"{things} things are more than there are names for", remedy=f"Ask for {_MOST} at most.")
    for lang in langs:
        if lang not in _KINDS:
            raise BadInput(f"there are no invented facts in `{lang}`", remedy=f"Choose from {', '.join(_KINDS)}.")
    names = _Names(random.Random(f"{seed} {part}"), part)  # noqa: S311 - repeatable, not secret
    texts: dict[str, Text] = {}
    questions: list[Marked] = []
    kinds = [(lang, kind) for lang in langs for kind in _KINDS[lang]]
    for number in range(things):
        lang, kind = kinds[number * len(kinds) // things]  # neighbours are alike, and so hard to tell apart
        text, asked = _thing(f"{lang}-{kind.noun}-{number}", lang, kind, names)
        texts[text.id] = text
        questions += asked
    return MarkedSet(f"invented-{part}", LICENCE, f"invented facts, {part}", texts, tuple(questions))


def _thing(key: str, lang: str, kind: _Kind, names: _Names) -> tuple[Text, list[Marked]]:
    it = names.new()
    told = names.draw.sample(kind.facts, _TOLD)
    said = [fact.sentence.format(it=it, value=names.value(fact.drawn)) for fact in told]
    text = Text(key, f"{it}, {kind.noun}", " ".join(said))
    asked = []
    for number, fact in enumerate(kind.facts):
        question = fact.question.format(it=it)
        if fact not in told:
            asked.append(Marked(f"{key}-{number}", question, lang, (), (), (key,)))
            continue
        sentence = said[told.index(fact)]
        value = sentence.removesuffix(".").removeprefix(fact.sentence.format(it=it, value="\0").partition("\0")[0])
        starts = [text.text.index(sentence), text.text.index(sentence) + sentence.index(value)]
        spans = tuple(Span(key, at, at + len(one)) for at, one in zip(starts, (sentence, value), strict=True))
        asked.append(Marked(f"{key}-{number}", question, lang, (sentence, value), spans, (key,)))
    return text, asked


def part_of(word: str) -> str:
    """The part that a name or number belongs to."""
    return {0: HELD_OUT, 1: DEV}.get(hashlib.sha256(word.encode()).digest()[0] % _SHARES, TRAIN)


def write_set(made: MarkedSet, folder: Path) -> None:
    """As files that `citewell ingest`, `citewell eval` and `--train` read (the layout of `read_set`)."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    texts = [{"_id": text.id, "title": text.title, "text": text.text} for text in made.texts.values()]
    _write(folder / "corpus.jsonl", texts)
    _write(folder / "queries.jsonl", [_row(question) for question in made.questions])
    judged = [f"{question.id}\t{span.passage}\t1" for question in made.questions for span in question.spans[:1]]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n", "utf-8")
    about = {"name": made.name, "licence": made.licence, "attribution": made.source}
    (folder / "meta.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def _row(question: Marked) -> dict[str, Any]:
    row: dict[str, Any] = {"_id": question.id, "text": question.text, "lang": question.lang}
    if not question.spans:
        return row | {"answerable": False, "context_ids": list(question.passages)}
    return row | {"answers": list(question.answers), "starts": [span.start for span in question.spans]}


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


class _Names:
    """Draws words of one part; the names of things never come twice."""

    def __init__(self, draw: random.Random, part: str) -> None:
        self.draw = draw
        self._part = part
        self._taken: set[str] = set()

    def new(self) -> str:
        while (name := self._word(self._name)) in self._taken:
            pass
        self._taken.add(name)
        return name

    def value(self, kind: str) -> str:
        if kind == "year":
            return self._word(lambda: str(self.draw.randint(1000, 2029)))
        if kind == "date":
            return f"{self.draw.choice(_MONTHS)} {self.draw.randint(1, 28)}, {self.value('year')}"
        if kind == "number":
            return self._word(lambda: str(self.draw.randint(100, 99_999)))
        return self._word(self._name)

    def _name(self) -> str:
        words = (self.draw.choice(_ONSETS) + self.draw.choice(rimes) for rimes in (_FIRST, _SECOND))
        return " ".join(word.capitalize() for word in words)

    def _word(self, made: Callable[[], str]) -> str:
        while part_of(word := made()) != self._part:
            pass
        return word
