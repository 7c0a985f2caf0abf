"""Judged questions from files: a user's own, or a test collection's.

Questions are JSON lines (`_id` or `id`, `text`, `lang` if known), or tab-separated id and text. Judgements are
tab-separated query-id, corpus-id and grade under a header line (BEIR's layout), or TREC's four columns. `.gz` is read.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from citewell.errors import BadInput


@dataclass(frozen=True)
class JudgedQuestion:
    """`relevant` maps document ids to grades; at least one is above 0."""

    id: str
    text: str
    lang: str
    relevant: dict[str, int]


@dataclass(frozen=True)
class Collection:
    """`unjudged` questions had no relevant document and are left out; `unknown` judgements had no question."""

    name: str
    questions: tuple[JudgedQuestion, ...]
    unjudged: int = 0
    unknown: int = 0


def from_folder(folder: Path, split: str = "test", limit: int = 0) -> Collection:
    """A test collection: `queries.jsonl` and `qrels/SPLIT.tsv`, each perhaps with `.gz`."""
    return from_files(
        packed_or_not(folder / "queries.jsonl"), packed_or_not(folder / "qrels" / f"{split}.tsv"), folder.name, limit
    )


def from_files(queries: Path, qrels: Path, name: str = "", limit: int = 0) -> Collection:
    """The judged questions of two files, the first `limit` of them; raises `BadInput` that names file and line."""
    judged = judgements(qrels)
    found: list[JudgedQuestion] = []
    unjudged, known = 0, set()
    for key, text, lang in _questions(queries):
        known.add(key)
        relevant = judged.get(key, {})
        if any(grade > 0 for grade in relevant.values()):
            found.append(JudgedQuestion(key, text, lang, relevant))
        else:
            unjudged += 1
    if not found:
        raise BadInput(
            f"no question of {queries} has a relevant document in {qrels}",
            remedy="Check that both files use the same question ids, and that some grades are above 0.",
        )
    unknown = sum(len(grades) for key, grades in judged.items() if key not in known)
    return Collection(name or queries.stem, tuple(found[: limit or None]), unjudged, unknown)


def packed_or_not(file: Path) -> Path:
    """The file, or the one with `.gz` where that alone is there."""
    packed = file.with_name(file.name + ".gz")
    return packed if packed.is_file() and not file.is_file() else file


def text_lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a text file; empty lines are left out."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}", remedy="Check the path, and that it is UTF-8.") from None


def _questions(file: Path) -> Iterator[tuple[str, str, str]]:
    seen: set[str] = set()
    for number, line in text_lines(file):
        if line.lstrip().startswith("{"):
            key, text, lang = _json_question(file, number, line)
        else:
            key, tab, text = line.partition("\t")
            lang = ""
            if not tab:
                raise BadInput(f"{file}, line {number}: neither JSON nor an id, a tab and a question")
        if not key or not text.strip():
            raise BadInput(f"{file}, line {number}: a question needs an id and a text")
        if key in seen:
            raise BadInput(
                f"{file}, line {number}: the id `{key}` was there before", remedy="Give each question its own."
            )
        seen.add(key)
        yield key, text, lang


def _json_question(file: Path, number: int, line: str) -> tuple[str, str, str]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{file}, line {number}: no JSON: {error}") from None
    key = row.get("_id", row.get("id", ""))
    return str(key), str(row.get("text", "")), str(row.get("lang") or "")


def judgements(file: Path) -> dict[str, dict[str, int]]:
    """Grades by document id, by question id; raises `BadInput` that names file and line."""
    judged: dict[str, dict[str, int]] = {}
    for number, line in text_lines(file):
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) == 4:  # TREC: question, iteration, document, grade
            fields = [fields[0], fields[2], fields[3]]
        if number == 1 and len(fields) == 3 and not _is_grade(fields[2]):
            continue  # the header
        if len(fields) != 3 or not _is_grade(fields[2]):
            raise BadInput(
                f"{file}, line {number}: not a judgement",
                remedy="Write question id, document id and grade, tab-separated.",
            )
        judged.setdefault(fields[0], {})[fields[1]] = int(fields[2])
    return judged


def _is_grade(text: str) -> bool:
    return text.strip().removeprefix("-").isdigit()
