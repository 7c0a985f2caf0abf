"""The values that travel: through the pipeline, over HTTP, through Redis and into the index.

All are frozen and turn into JSON and back. Every message carries `schema_version`; a field that is added later has
a default and an unknown one is ignored, so an old worker reads a new message and the reverse.

Offsets are counted in Unicode code points of the document's text, half open: `document.text[start:end]`.
Times are seconds since the epoch (UTC); durations are milliseconds and say so in their name.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
# Of what an index holds; an index of another one has to be migrated.
INDEX_SCHEMA = 4

Mode = Literal["hybrid", "bm25", "dense"]
Leg = Literal["bm25", "dense"]
FilterValue = str | int | float | bool
FusionMethod = Literal["minmax", "rrf", "bm25", "dense"]
Similarity = Literal["cosine", "dot"]
VectorIndex = Literal["int8_hnsw", "bbq_hnsw", "flat"]


class Record(BaseModel):
    """Base of all records: immutable, tolerant to fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        return cls.model_validate_json(data)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return self.model_dump(mode="json")


def text_hash(text: str) -> str:
    """SHA-256 of the text's UTF-8, as hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Document(Record):
    """What a user loads. `groups` empty means that everyone may see it.

    `pages` are the offsets in `text` at which its pages begin, in order, the first one's included; empty where it has
    none. `revision` is what its source calls this state of it (an entity tag, the value of a column that only grows);
    it is no part of the content. `source` is where the ledger says it came from; empty is what its loader is told.
    """

    id: Annotated[str, Field(min_length=1, max_length=512)]
    text: str
    title: str = ""
    url: str = ""
    lang: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    groups: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    revision: str = ""
    source: str = ""

    def content_hash(self) -> str:
        """SHA-256 over everything that the index keeps of the document as it was given; equal hash, nothing to do.

        The texts go in as they are, each behind its length: spelling them as JSON costs more than hashing them.
        """
        metadata = self.model_dump(mode="json", include={"metadata"})["metadata"] if self.metadata else {}
        rest = json.dumps([metadata, self.groups, self.pages], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256()
        for part in (self.id, self.title, self.url, self.lang, rest, self.text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(data))
            digest.update(data)
        return digest.hexdigest()


class Passage(Record):
    """A span of a document, the unit of retrieval: `document.text[start:end] == text`.

    `gap` is the white space between this passage and the next one of its document, so that neighbours can be joined
    without the document: `document.text[end : end + len(gap)] == gap`. It is empty where they touch or overlap.
    `heading` is the path of headings above its first words, its own leading ones included, joined by ` > `; `page` the
    page it starts on, from 1, or 0 where the document has none.
    """

    id: str
    doc_id: str
    ordinal: int
    start: int
    end: int
    text: str
    gap: str = ""
    title: str = ""
    url: str = ""
    lang: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    groups: tuple[str, ...] = ()
    heading: str = ""
    page: int = 0

    @staticmethod
    def make_id(doc_id: str, ordinal: int) -> str:
        return f"{doc_id}#{ordinal}"


class LedgerEntry(Record):
    """What the index knows of one document. `content_hash` is empty while a write is under way."""

    doc_id: str
    content_hash: str
    passages: int = 0
    lang: str = ""
    source: str = ""
    revision: str = ""
    indexed_at: float = 0.0
    document: Document | None = None


class Range(Record):
    """Bounds of a metadata value: numbers, or dates as ISO 8601 writes them. At least one is set."""

    gte: FilterValue | None = None
    gt: FilterValue | None = None
    lte: FilterValue | None = None
    lt: FilterValue | None = None


class Filters(Record):
    """Conditions on passages, all of which must hold; several values of one field mean any of them."""

    lang: tuple[str, ...] = ()
    doc_id: tuple[str, ...] = ()
    url: tuple[str, ...] = ()
    url_prefix: tuple[str, ...] = ()
    metadata: dict[str, tuple[FilterValue, ...]] = Field(default_factory=dict)
    ranges: dict[str, Range] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        return self != Filters()


class Question(Record):
    """A question with what limits its search. `groups` None is the operator, who sees everything."""

    text: str
    lang: str = ""
    k: int = 5
    mode: Mode = "hybrid"
    filters: Filters = Filters()
    groups: tuple[str, ...] | None = None


class LegRank(Record):
    """Where one leg ranked a passage: `rank` from 1, `score` in the leg's own unit (BM25; cosine or dot product).

    `part` is what the leg added to the fused score.
    """

    rank: int
    score: float
    part: float = 0.0


class Hit(Record):
    """A passage in the ranked list: `score` orders it, in the unit of what ranked last (reranker, or fusion).

    `legs` says what each leg thought of it, `fused` and `fused_rank` what their fusion did, `rerank` what the
    reranker did (None: it did not look at it). `merged` names the neighbours that were joined into the passage,
    best first, and `duplicates` the passages left out because they say the same.
    """

    passage: Passage
    rank: int
    score: float
    fused: float = 0.0
    fused_rank: int = 0
    rerank: float | None = None
    legs: dict[str, LegRank] = Field(default_factory=dict)
    merged: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()


class Evidence(Record):
    """The passages that travel with a question to the generator, and everything that ranked them.

    `fusion`: method, weights and where these come from; `rerank`: model, how many it scored, why it stopped;
    `building`: how hits became evidence. `depth` and `filters` limited both legs.
    """

    hits: tuple[Hit, ...] = ()
    mode: Mode = "hybrid"
    fusion: dict[str, Any] = Field(default_factory=dict)
    rerank: dict[str, Any] = Field(default_factory=dict)
    building: dict[str, Any] = Field(default_factory=dict)
    depth: int = 0
    filters: Filters = Filters()
    lang: str = ""
    index_version: str = ""
    embedder: str = ""
    timings_ms: dict[str, float] = Field(default_factory=dict)


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

    `sentence` is the ordinal of the answer's sentence, `support` in [0, 1] says how much of it the quote carries.
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


class Sentence(Record):
    """One sentence of an answer, markers removed: `answer.text[start:end]` is the sentence with its markers."""

    text: str
    start: int
    end: int
    supported: bool


class Draft(Record):
    """An answer's text with its checked citations, before it becomes part of the record."""

    text: str = ""
    citations: tuple[Citation, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    abstained: bool = False


class Job(Record):
    """All that a worker needs: it reaches the worker through the answer store alone."""

    schema_version: int = SCHEMA_VERSION
    answer_id: str
    question: Question
    evidence: Evidence
    generator: str = "extractive"
    max_attempts: int = 3
    created_at: float = 0.0


class JobMessage(Record):
    """What travels through the queue: the id, and what routes it. The job itself is in the answer store."""

    schema_version: int = SCHEMA_VERSION
    answer_id: str
    generator: str = "extractive"


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
    """The job and its result: one record, one id, from `queued` to a final state."""

    schema_version: int = SCHEMA_VERSION
    id: str
    state: AnswerState
    question: Question
    generator: str
    answer: str = ""
    abstained: bool = False
    citations: tuple[Citation, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    evidence: Evidence = Evidence()
    error: Failure | None = None
    attempt: int = 0
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    timings_ms: dict[str, float] = Field(default_factory=dict)

    @classmethod
    def queued(cls, job: Job) -> Answer:
        """The record as it is when its job has just been accepted."""
        return cls(
            id=job.answer_id,
            state=AnswerState.QUEUED,
            question=job.question,
            generator=job.generator,
            evidence=job.evidence,
            created_at=job.created_at,
            timings_ms=dict(job.evidence.timings_ms),
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
    """What a generator yields: a bit of text for one answer, `last` when that answer's text is complete."""

    answer_id: str
    text: str = ""
    last: bool = False


class Outcome(Record):
    """What became of one document: `reason` and `remedy` are filled for `failed`, `receipt` for `deleted`: passages
    removed, and what a look at index and ledger still found. A failure that is not `exact` may hide other documents."""

    doc_id: str
    status: Literal["added", "changed", "unchanged", "deleted", "failed"]
    passages: int = 0
    source: str = ""
    code: str = ""
    reason: str = ""
    remedy: str = ""
    exact: bool = False
    receipt: dict[str, int | bool] | None = None


class Fingerprint(Record):
    """What an index was made with; opening it with anything else is refused.

    `weights` is a hash over the model's files, so that two models of one name are told apart. `vector_index` is how
    the dense leg finds the nearest: `int8_hnsw`, `bbq_hnsw` (one bit a dimension) or `flat` (exact).
    """

    schema_version: int = INDEX_SCHEMA
    embedder: str
    weights: str
    dimension: int
    similarity: Similarity = "cosine"
    normalized: bool = True
    splitter: str = ""
    languages: tuple[str, ...] = ()
    vector_index: VectorIndex = "int8_hnsw"

    def describe(self) -> str:
        return (
            f"{self.embedder} ({self.weights[:12]}, {self.dimension} dimensions, {self.similarity}), "
            f"splitter {self.splitter}, schema {self.schema_version}, languages {','.join(self.languages)}, "
            f"vectors {self.vector_index}"
        )
