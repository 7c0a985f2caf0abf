"""What people say of answers, kept apart from them: it outlives the answer's record and holds no text of a document."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from citewell.records.base import SCHEMA_VERSION, Record
from citewell.records.provenance import PassageMark
from citewell.records.questions import Question

WORST, BEST = 1, 5


class CitedSpan(Record):
    """What a sentence rested on: `document.text[start:end]`, if its SHA-256 still is `quote_hash`."""

    doc_id: str
    passage_id: str
    start: int
    end: int
    quote_hash: str


class Opinion(Record):
    """What is sent: a `rating` from 1 (wrong) to 5 (right and complete), and what may go with it.

    `correct_passages` are ids of the passages that answer the question, found or not.
    """

    rating: int = Field(ge=WORST, le=BEST)
    comment: str = ""
    correct_passages: tuple[str, ...] = ()


class Feedback(Opinion):
    """One caller's judgement of one answer; a later one takes its place.

    `caller` tells holders of keys apart without telling the key. The rest is of the answer as it was: what it cited,
    what it was written from, its milliseconds from question to end and its estimated tokens.
    """

    schema_version: int = SCHEMA_VERSION
    answer_id: str
    caller: str = ""
    given_at: float = 0.0
    question: Question
    generator: str
    model: str = ""
    revision: str = ""
    abstained: bool = False
    cited: tuple[CitedSpan, ...] = ()
    evidence: tuple[PassageMark, ...] = ()
    asked_at: float = 0.0
    answer_ms: float = 0.0
    tokens_read: int = 0
    tokens_written: int = 0

    def told(self) -> dict[str, Any]:
        """What the caller said; the rest is of the answer, which they have."""
        return self.model_dump(include={"answer_id", "rating", "comment", "correct_passages", "given_at"}, mode="json")
