"""Feedback as a judged set: a folder that `citewell eval`, `citewell tune` and `citewell train reader` read.

One question a wording and language. What people named as correct passages is relevant; where nobody named any, what an
answer that was rated well cited. A refusal that was rated well says that the evidence of then does not answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from citewell.errors import BadInput, UnknownDocument
from citewell.feedback import GOOD
from citewell.records import CitedSpan, Document, Feedback, LedgerEntry, text_hash

FORMAT = "citewell-feedback-1"


@dataclass
class _Asked:
    """What all that was said of one question comes to."""

    text: str
    lang: str
    named: dict[str, None] = field(default_factory=dict)
    cited: dict[str, None] = field(default_factory=dict)
    spans: dict[CitedSpan, None] = field(default_factory=dict)
    around: dict[str, None] = field(default_factory=dict)
    refused: bool = False

    def hear(self, one: Feedback) -> None:
        self.named |= dict.fromkeys(map(_document_of, one.correct_passages))
        if one.rating < GOOD:
            return
        if one.abstained:
            self.refused = True
            self.around |= dict.fromkeys(_document_of(mark.id) for mark in one.evidence)
            return
        self.cited |= dict.fromkeys(span.doc_id for span in one.cited)
        self.spans |= dict.fromkeys(one.cited)


@dataclass(frozen=True)
class Exported:
    """`judged` questions with relevant documents, `unanswerable` ones, `left_out` by the reason why."""

    judged: int
    unanswerable: int
    documents: int
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def export(feedback: Iterable[Feedback], document: Callable[[str], LedgerEntry], folder: Path) -> Exported:
    """Write `queries.jsonl`, `qrels/test.tsv`, `corpus.jsonl` with the judged documents alone, and `meta.json`.

    Documents are as they are now: what has gone is left out, and a quote that reads differently is no answer any more.
    Raises `BadInput` where nothing can be used, and for a folder that has something else in it.
    """
    _must_be_ours(folder)
    asked: dict[tuple[str, str], _Asked] = {}
    for one in feedback:
        key = (" ".join(one.question.text.split()), one.question.lang)
        asked.setdefault(key, _Asked(*key)).hear(one)
    look = _Documents(document)
    left_out: Counter[str] = Counter()
    rows, grades = [], []
    for question in asked.values():
        row, relevant, reason = _row(question, look)
        if row is None:
            left_out[reason] += 1
            continue
        rows.append(row)
        grades += [f"{row['_id']}\t{doc_id}\t1" for doc_id in relevant]
    if not rows:
        why = "; ".join(f"{count} x {reason}" for reason, count in left_out.items()) or "none was given"
        raise BadInput(f"no feedback can be made into a judged question: {why}", remedy="Rate some answers first.")
    unanswerable = sum(row.get("answerable") is False for row in rows)
    _write(folder, rows, grades, look.found.values())
    return Exported(len(rows) - unanswerable, unanswerable, len(look.found), dict(left_out))


class _Documents:
    """Documents by id, each looked up once; those that were used are `found`."""

    def __init__(self, look_up: Callable[[str], LedgerEntry]) -> None:
        self._look_up = look_up
        self.found: dict[str, Document] = {}
        self._gone: set[str] = set()

    def get(self, doc_id: str) -> Document | None:
        if doc_id in self.found or doc_id in self._gone:
            return self.found.get(doc_id)
        try:
            document = self._look_up(doc_id).document
        except UnknownDocument:
            document = None
        if document is None:
            self._gone.add(doc_id)
        else:
            self.found[doc_id] = document
        return document


def _row(question: _Asked, look: _Documents) -> tuple[dict[str, Any] | None, list[str], str]:
    """The question's line and its relevant documents, or why there is none."""
    wanted = question.named or question.cited
    row: dict[str, Any] = {
        "_id": text_hash(f"{question.lang}\0{question.text}")[:16],
        "text": question.text,
        "lang": question.lang,
    }
    if wanted:
        relevant = [doc_id for doc_id in wanted if look.get(doc_id) is not None]
        if not relevant:
            return None, [], "its documents are gone"
        answers, starts = _answers(question, relevant, look)
        return row | {"answers": answers, "starts": starts}, relevant, ""
    if question.refused:
        around = [doc_id for doc_id in question.around if look.get(doc_id) is not None]
        return row | {"answers": [], "answerable": False, "context_ids": around}, [], ""
    return None, [], "nobody rated its answer well or named a passage"


def _answers(question: _Asked, relevant: list[str], look: _Documents) -> tuple[list[str], list[int]]:
    """Quotes that were rated well and still stand where they stood."""
    answers, starts = [], []
    for span in question.spans:
        document = look.get(span.doc_id) if span.doc_id in relevant else None
        quote = document.text[span.start : span.end] if document else ""
        if quote and text_hash(quote) == span.quote_hash and quote not in answers:
            answers.append(quote)
            starts.append(span.start)
    return answers, starts


def _document_of(passage_id: str) -> str:
    return passage_id.rpartition("#")[0]


def _must_be_ours(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        ours = json.loads((folder / "meta.json").read_text("utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise BadInput(f"{folder} holds something else", remedy="Name a new folder, or that of an earlier export.")


def _write(folder: Path, rows: list[dict[str, Any]], grades: list[str], documents: Iterable[Document]) -> None:
    try:
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        corpus = [{"_id": one.id, "title": one.title, "text": one.text, "lang": one.lang} for one in documents]
        for name, lines in (("queries.jsonl", rows), ("corpus.jsonl", corpus)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (folder / name).write_text(text, "utf-8")
        (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *grades]) + "\n", "utf-8")
        meta = {"format": FORMAT, "name": folder.name, "attribution": "feedback on answers"}
        (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise BadInput(f"{folder} cannot be written: {error}", remedy="Check the path and the disk's space.") from None
