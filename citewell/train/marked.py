"""Sets of questions whose answers are marked in their passages: a test collection's folder, or a user's own.

A folder holds `corpus.jsonl` ({"_id", "title", "text"}), `queries.jsonl` ({"_id", "text", "lang", "answers", "starts"})
and `qrels/SPLIT.tsv` (query-id, corpus-id, score under a header), each perhaps with `.gz`; `meta.json` names source and
licence. `answerable: false` marks a question that the passages in its `context_ids` do not answer.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from citewell.errors import BadInput
from citewell.evaluate.collection import packed_or_not, text_lines

# Questions that were left out are counted; this many are named.
_NAMED = 5
_APART = "it, or its passage, is in a set that is kept out"


@dataclass(frozen=True)
class Text:
    """A passage."""

    id: str
    title: str
    text: str

    @property
    def whole(self) -> str:
        """What an index embeds of it (`citewell.embed.passage_input`)."""
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True)
class Span:
    """An answer in a passage: `text.text[start:end]`."""

    passage: str
    start: int
    end: int


@dataclass(frozen=True)
class Marked:
    """One question. Without `spans` nothing in `passages` answers it."""

    id: str
    text: str
    lang: str
    answers: tuple[str, ...]
    spans: tuple[Span, ...]
    passages: tuple[str, ...]


@dataclass(frozen=True)
class MarkedSet:
    """`left_out` counts questions by the reason why they cannot be used, `named` has some of them."""

    name: str
    licence: str
    source: str
    texts: Mapping[str, Text]
    questions: tuple[Marked, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    named: tuple[str, ...] = ()

    def hashes(self) -> set[str]:
        """Of every question and passage as they read: without case and spaces."""
        return {text_hash(q.text) for q in self.questions} | {text_hash(t.text) for t in self.texts.values()}

    def without(self, hashes: Collection[str]) -> MarkedSet:
        """The set less the questions and passages whose hashes these are, and the questions on such passages.

        Raises `BadInput` where none is left.
        """
        texts = {key: text for key, text in self.texts.items() if text_hash(text.text) not in hashes}
        kept = tuple(
            one
            for one in self.questions
            if text_hash(one.text) not in hashes and all(passage in texts for passage in one.passages)
        )
        if not kept:
            raise BadInput(f"every question of {self.name} is in a set that is kept out", remedy="Name another set.")
        gone = len(self.questions) - len(kept)
        left_out = {**self.left_out, **({_APART: gone} if gone else {})}
        return replace(self, texts=texts, questions=kept, left_out=left_out)


def read_set(folder: Path) -> MarkedSet:
    """A whole set; raises `BadInput` that names the file and line, or says that nothing in it can be used."""
    texts = {row["_id"]: Text(row["_id"], row.get("title", ""), row["text"]) for row in rows(folder / "corpus.jsonl")}
    judged = relevant(folder)
    left_out: dict[str, int] = {}
    named: list[str] = []
    questions = []
    for row in rows(folder / "queries.jsonl"):
        passages = [p for p in judged.get(row["_id"], row.get("context_ids", [])) if p in texts]
        question, reason = _marked(row, passages, texts)
        if question is not None:
            questions.append(question)
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
            if len(named) < _NAMED:
                named.append(f"{row['_id']}: {reason}")
    if not questions:
        why = "; ".join(f"{count} x {reason}" for reason, count in left_out.items()) or "there is no question"
        raise BadInput(
            f"no question of {folder} can be used: {why}",
            remedy="Each question needs `answers` that stand in its passage, or `answerable: false`.",
        )
    licence, source = licence_and_source(folder)
    return MarkedSet(
        folder.name,
        licence,
        source,
        texts,
        tuple(questions),
        left_out,
        tuple(named),
    )


def _marked(row: dict[str, Any], passages: list[str], texts: Mapping[str, Text]) -> tuple[Marked | None, str]:
    """The question, or why there is none."""
    if not passages:
        return None, "its passage is not in the corpus"
    answers = [str(answer) for answer in row.get("answers") or []]
    lang = str(row.get("lang") or "en")
    if row.get("answerable") is False:
        return Marked(row["_id"], row["text"], lang, (), (), tuple(passages)), ""
    starts = row.get("starts") or [None] * len(answers)
    if len(starts) != len(answers):
        return None, "it has not as many starts as answers"
    spans = []
    for answer, start in zip(answers, starts, strict=True):
        spans += [span for passage in passages if (span := _span(texts[passage], answer, start)) is not None]
    if not spans:
        return None, "no answer of it stands in its passage"
    return Marked(row["_id"], row["text"], lang, tuple(answers), tuple(spans), tuple(passages)), ""


def _span(text: Text, answer: str, start: int | None) -> Span | None:
    """The answer where it is said to be; else where it comes first."""
    if not answer.strip():
        return None
    at = start if start is not None and start >= 0 and text.text.startswith(answer, start) else text.text.find(answer)
    return Span(text.id, at, at + len(answer)) if at >= 0 else None


def relevant(folder: Path) -> dict[str, dict[str, int]]:
    """By question, the grades above 0 of its passages; judgements across languages are left out."""
    found: dict[str, dict[str, int]] = {}
    for file in sorted((folder / "qrels").glob("*.tsv*")):
        if file.name.startswith("cross"):
            continue
        for number, line in text_lines(packed_or_not(file)):
            parts = line.split("\t")
            if len(parts) != 3:
                raise BadInput(f"{file}, line {number}: not three columns", remedy="query-id, corpus-id, score.")
            if parts[2].lstrip("-").isdigit() and int(parts[2]) > 0:
                found.setdefault(parts[0], {})[parts[1]] = int(parts[2])
    return found


def licence_and_source(folder: Path) -> tuple[str, str]:
    """As `meta.json` has them; empty where it does not say or is not there."""
    about = _meta(folder)
    return str(about.get("licence", "")), str(about.get("attribution", ""))


def _meta(folder: Path) -> dict[str, Any]:
    file = folder / "meta.json"
    try:
        read = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}", remedy="Mend it, or leave it out.") from None
    return read if isinstance(read, dict) else {}


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """Of a file of JSON lines with `_id` and `text`; raises `BadInput` that names the line."""
    for number, line in text_lines(packed_or_not(file)):
        try:
            row = json.loads(line)
            if not isinstance(row.get("_id"), str) or not isinstance(row.get("text"), str):
                raise ValueError("`_id` and `text` must be text")
        except (ValueError, AttributeError) as error:
            raise BadInput(f"{file}, line {number}: {error}", remedy="One JSON object a line.") from None
        yield row


def text_hash(text: str) -> str:
    """Of a text as it reads: without case and spaces."""
    plain = "".join(unicodedata.normalize("NFKC", text).lower().split())
    return hashlib.sha256(plain.encode()).hexdigest()
