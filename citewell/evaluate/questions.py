"""Questions with reference answers: a user's own JSON lines, or a test collection's folder.

A line has `text` or `question`, and of these what is known: `_id` or `id` (else its number), `lang`, `answers` (a list
of good short answers), `relevant` (a list of document or passage ids, or an object of ids and grades), and
`"answerable": false` where the documents do not answer, perhaps with `context_ids` that nearly do. Judgements may also
stand in a file of their own, as for `citewell eval retrieval`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citewell.errors import BadInput
from citewell.evaluate.collection import judgements, packed_or_not, text_lines


@dataclass(frozen=True)
class AnswerQuestion:
    """`relevant` are ids of documents, or of passages (`DOC#N`), that answer; `near` of those that nearly do.

    Not `answerable`: the right answer is to say so. Without `answers` only citations and refusals are measured.
    """

    id: str
    text: str
    lang: str = ""
    answers: tuple[str, ...] = ()
    relevant: tuple[str, ...] = ()
    answerable: bool = True
    near: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuestionSet:
    name: str
    questions: tuple[AnswerQuestion, ...]

    def needs_gold(self) -> None:
        """Raises `BadInput` where no question names what is relevant to it."""
        if not any(question.relevant for question in self.questions):
            raise BadInput(
                f"condition `oracle` needs the relevant documents of a question, and {self.name} names none",
                remedy="Add `relevant` to the questions or name --qrels, or leave the condition out.",
            )


def read_questions(place: Path, qrels: Path | None = None, split: str = "test", limit: int = 0) -> QuestionSet:
    """The first `limit` questions (0: all) of a file, or of a folder with `queries.jsonl` and `qrels/SPLIT.tsv`.

    Raises `BadInput` that names file and line.
    """
    folder = place.is_dir()
    file = packed_or_not(place / "queries.jsonl" if folder else place)
    if qrels is None and folder:
        found = packed_or_not(place / "qrels" / f"{split}.tsv")
        qrels = found if found.is_file() else None
    judged = judgements(qrels) if qrels else {}
    questions = tuple(_questions(file, judged))
    if not any(question.answers or not question.answerable for question in questions):
        raise BadInput(
            f"no question of {file} has `answers`",
            remedy='Give each question a list of good short answers, or `"answerable": false`.',
        )
    return QuestionSet(place.resolve().name if folder else place.stem, _spread(questions, limit))


def _spread(questions: Sequence[AnswerQuestion], limit: int) -> tuple[AnswerQuestion, ...]:
    """`limit` questions evenly spread, as collections stand in the order of their documents."""
    if not limit or limit >= len(questions):
        return tuple(questions)
    return tuple(questions[place * len(questions) // limit] for place in range(limit))


def _questions(file: Path, judged: Mapping[str, Mapping[str, int]]) -> Iterator[AnswerQuestion]:
    seen: set[str] = set()
    for number, line in text_lines(file):
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{where}: no JSON: {error}", remedy="Write one JSON object a line.") from None
        if not isinstance(row, dict):
            raise BadInput(f"{where}: not a JSON object", remedy="Write one JSON object a line.")
        question = _question(row, where, number, judged)
        if question.id in seen:
            raise BadInput(f"{where}: the id `{question.id}` was there before", remedy="Give each question its own.")
        seen.add(question.id)
        yield question


def _question(
    row: Mapping[str, Any], where: str, number: int, judged: Mapping[str, Mapping[str, int]]
) -> AnswerQuestion:
    key = str(row.get("_id", row.get("id", number)))
    text = row.get("text", row.get("question", ""))
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f"{where}: a question needs a `text`")
    answerable = row.get("answerable", True)
    if not isinstance(answerable, bool):
        raise BadInput(f"{where}: `answerable` is true or false")
    answers = tuple(answer for answer in _texts(row, "answers", where) if answer.strip())
    grades = row.get("relevant") if isinstance(row.get("relevant"), dict) else judged.get(key, {})
    relevant = tuple(str(name) for name, grade in (grades or {}).items() if _grade(grade, where) > 0)
    if not isinstance(row.get("relevant"), dict):
        relevant = tuple(dict.fromkeys((*_texts(row, "relevant", where), *relevant)))
    if answerable and not answers and not relevant:
        raise BadInput(
            f"{where}: the question `{key}` has neither `answers` nor `relevant` documents",
            remedy='Add what is right, or say `"answerable": false`.',
        )
    near = _texts(row, "context_ids", where)
    return AnswerQuestion(key, text, str(row.get("lang") or ""), answers, relevant, answerable, near)


def _texts(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    found = row.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise BadInput(f"{where}: `{name}` is no list of texts", remedy=f'Write it as in "{name}": ["…"].')
    return tuple(found)


def _grade(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInput(f"{where}: `relevant` has a grade that is no whole number: {value!r}")
    return value
