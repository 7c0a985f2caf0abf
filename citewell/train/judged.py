"""Sets of questions with the passages that answer them, without marks: for a retriever's training and its figures.

The folders are those of `citewell.train.marked`.
"""

from __future__ import annotations

from collections.abc import Collection as Held
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from citewell.errors import BadInput
from citewell.train.marked import Text, licence_and_source, relevant, rows, text_hash
from citewell.train.parallel import Translation


@dataclass(frozen=True)
class Asked:
    """A question and the ids of what answers it, with their grades."""

    id: str
    text: str
    grades: dict[str, int]


@dataclass(frozen=True)
class JudgedSet:
    """`lang` is the commonest of the questions' languages."""

    name: str
    lang: str
    licence: str
    source: str
    texts: dict[str, Text]
    questions: tuple[Asked, ...]

    def hashes(self) -> set[str]:
        """Of every question and passage as they read: without case and spaces."""
        return {text_hash(q.text) for q in self.questions} | {text_hash(t.text) for t in self.texts.values()}

    def without(self, hashes: Held[str]) -> JudgedSet:
        """The set less the texts, and the questions, whose hashes these are."""
        texts = {key: text for key, text in self.texts.items() if text_hash(text.text) not in hashes}
        kept = []
        for one in self.questions:
            grades = {key: grade for key, grade in one.grades.items() if key in texts}
            if grades and text_hash(one.text) not in hashes:
                kept.append(Asked(one.id, one.text, grades))
        return JudgedSet(self.name, self.lang, self.licence, self.source, texts, tuple(kept))

    def reduced(self, questions: int, texts: int) -> JudgedSet:
        """The first questions, spread evenly, with what answers them and as many other passages as `texts` allows."""
        step = max(1, len(self.questions) // max(1, questions))
        asked = self.questions[::step][:questions]
        wanted = dict.fromkeys(key for one in asked for key in one.grades)
        others = [key for key in self.texts if key not in wanted]
        step = max(1, len(others) // max(1, texts - len(wanted)))
        keys = [*wanted, *others[::step][: max(0, texts - len(wanted))]]
        kept = {key: self.texts[key] for key in keys}
        return JudgedSet(self.name, self.lang, self.licence, self.source, kept, asked)


@dataclass(frozen=True)
class Parallel:
    """One file or folder of translations: how many are used, by language."""

    name: str
    licence: str
    source: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Given:
    """What the files hold, less every text of a development set; `parallel` says where the translations are from."""

    translations: list[Translation]
    pairs: list[JudgedSet]
    dev: list[JudgedSet]
    parallel: list[Parallel]

    @property
    def languages(self) -> tuple[str, ...]:
        """Of translations and questions, the teacher's first."""
        return tuple(dict.fromkeys(("en", *sorted({t.lang for t in self.translations} | {p.lang for p in self.pairs}))))


def read_judged(folder: Path) -> JudgedSet:
    """A whole set; raises `BadInput` that names the file and line, or says that nothing in it can be used."""
    texts = {row["_id"]: Text(row["_id"], row.get("title") or "", row["text"]) for row in rows(folder / "corpus.jsonl")}
    grades = relevant(folder)
    asked: list[Asked] = []
    langs: list[str] = []
    for row in rows(folder / "queries.jsonl"):
        own = {key: grade for key, grade in grades.get(row["_id"], {}).items() if key in texts}
        if own:
            asked.append(Asked(row["_id"], row["text"], own))
            langs.append(str(row.get("lang") or "en"))
    if not asked:
        raise BadInput(
            f"no question of {folder} has a passage that answers it",
            remedy="Check that queries, qrels and corpus use the same ids.",
        )
    licence, source = licence_and_source(folder)
    return JudgedSet(
        folder.name,
        max(sorted(set(langs)), key=langs.count),
        licence,
        source,
        texts,
        tuple(asked),
    )


def hashes_of(sets: Sequence[JudgedSet]) -> set[str]:
    return set[str]().union(*(one.hashes() for one in sets))
