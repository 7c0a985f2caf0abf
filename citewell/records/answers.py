"""Answers: the job, its result, and what travels while it is being worked on."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from citewell.records.base import SCHEMA_VERSION, Priority, Record
from citewell.records.provenance import Provenance
from citewell.records.questions import Evidence, Question
from citewell.records.terms import Callback, Waiting


class AnswerState(StrEnum):
    """queued -> running -> done | failed | cancelled | expired. Only the answer stores move it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def final(self) -> bool:
        return self not in (AnswerState.QUEUED, AnswerState.RUNNING)


class Citation(Record):
    """Proof of one sentence: `quote == document.text[start:end]`, and the same span inside the passage's text.

    `sentence` is the ordinal of the answer's sentence, `support` in [0, 1] says how much of it the quote carries: words
    and, where it is not None, `cosine`; `entailment` is the probability by the model that is set for it. `added`: the
    generator wrote no marker, and the sentence stands there word for word.
    """

    marker: int
    sentence: int
    passage_id: str
    doc_id: str
    quote: str
    start: int
    end: int
    passage_start: int
    passage_end: int
    support: float
    title: str = ""
    url: str = ""
    heading: str = ""
    page: int = 0
    passage_hash: str = ""
    cosine: float | None = None
    entailment: float | None = None
    added: bool = False


class Sentence(Record):
    """One sentence of an answer, markers removed: `answer.text[start:end]` is the sentence with its markers.

    `unsupported` flags a sentence that no passage supports, and says why: empty where one does.
    """

    text: str
    start: int
    end: int
    supported: bool
    unsupported: str = ""


class Exact(Record):
    """Words that answer by themselves: `document.text[start:end] == text`, within the quote of a citation.

    `marker` is that citation's. `probability` is the generator's own, in [0, 1].
    """

    text: str
    marker: int
    passage_id: str
    doc_id: str
    start: int
    end: int
    passage_start: int
    passage_end: int
    probability: float


class Tokens(Record):
    """What the model counted of one answer: `read` of the whole prompt, instruction and question with it, `written`."""

    read: int = Field(ge=0)
    written: int = Field(ge=0)


class Draft(Record):
    """An answer's text with its checked citations and who wrote it, before it becomes part of the record."""

    text: str = ""
    citations: tuple[Citation, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    exact: tuple[Exact, ...] = ()
    abstained: bool = False
    provenance: Provenance | None = None
    cached_from: str = ""
    tokens: Tokens | None = None


class Job(Record):
    """All that a worker needs: it reaches the worker through the answer store alone."""

    schema_version: int = SCHEMA_VERSION
    answer_id: str
    question: Question
    evidence: Evidence
    generator: str = "extractive"
    max_attempts: int = 3
    created_at: float = 0.0
    request: str = ""
    expires_in: float = 0.0
    priority: Priority = "interactive"
    replay_of: str = ""
    callback_url: str = ""


class JobMessage(Record):
    """What travels through the queue: the id, and what routes it. The job itself is in the answer store."""

    schema_version: int = SCHEMA_VERSION
    answer_id: str
    generator: str = "extractive"
    priority: Priority = "interactive"


class Lease(Record):
    """A worker's right to write one answer. `attempt` is the fencing token: a writer with an older one is refused."""

    answer_id: str
    owner: str
    attempt: int
    expires_at: float
    job: Job


class Failure(Record):
    """Why an answer failed, in the one error shape."""

    code: str
    message: str
    remedy: str = ""


class Answer(Record):
    """The job and its result: one record, one id, from `queued` to a final state.

    `request` is a hash of what an idempotency key was sent with; from `expires_at` on, unless that is 0, nobody waits
    for the answer any more. `exact` are the words that answer, best first, where the generator names them. `waiting`
    is looked up when a queued record is asked for, and never stored. `provenance` says what the text follows from;
    `replay_of` is the answer whose question was asked again, `cached_from` the earlier answer that was given again.
    `tokens` is None where no model counted.
    """

    schema_version: int = SCHEMA_VERSION
    id: str
    state: AnswerState
    question: Question
    generator: str
    answer: str = ""
    abstained: bool = False
    citations: tuple[Citation, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    exact: tuple[Exact, ...] = ()
    evidence: Evidence = Evidence()
    provenance: Provenance = Provenance()
    replay_of: str = ""
    cached_from: str = ""
    error: Failure | None = None
    attempt: int = 0
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    timings_ms: dict[str, float] = Field(default_factory=dict)
    tokens: Tokens | None = None
    request: str = ""
    expires_at: float = 0.0
    priority: Priority = "interactive"
    waiting: Waiting | None = None
    callback: Callback | None = None

    @classmethod
    def queued(cls, job: Job) -> Answer:
        """The record as it is when its job has just been accepted."""
        return cls(
            id=job.answer_id,
            state=AnswerState.QUEUED,
            question=job.question,
            generator=job.generator,
            evidence=job.evidence,
            provenance=Provenance.of(job.evidence),
            replay_of=job.replay_of,
            created_at=job.created_at,
            timings_ms=dict(job.evidence.timings_ms),
            request=job.request,
            priority=job.priority,
            callback=Callback(url=job.callback_url) if job.callback_url else None,
        )


class Event(Record):
    """One step of an answer, for streams. Ids grow within an answer; a client that reconnects names the last it saw.

    `kind`: `state` {"state", "attempt"}, `delta` {"text", "attempt"}, `final` (the whole record as `data["answer"]`).
    A second attempt starts its text anew: a reader drops the deltas of lower attempts.
    """

    id: str
    kind: Literal["state", "delta", "final"]
    data: dict[str, Any] = Field(default_factory=dict)


class Piece(Record):
    """What a generator yields: a bit of text for one answer, `last` when that answer's text is complete.

    `exact` are words of the evidence in this bit that answer by themselves. The last one has the answer's `tokens`,
    where the model counts them.
    """

    answer_id: str
    text: str = ""
    exact: tuple[Exact, ...] = ()
    last: bool = False
    tokens: Tokens | None = None
