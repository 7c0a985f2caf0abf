"""What the domain asks of the outside: Protocols of at most five methods, one or more classes behind each.

Constructors are light and do no I/O; `Backend.load` opens sockets, files and models, `Backend.close` lets go of
them. A method that cannot reach its server raises a subclass of `errors.Unavailable`, never its library's error.
The contract tests in `tests/contracts` say what each method promises and run on every class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from citewell.records import (
    Answer,
    Draft,
    Event,
    Failure,
    Filters,
    Fingerprint,
    Job,
    JobMessage,
    Lease,
    LedgerEntry,
    Leg,
    Passage,
    Piece,
    Similarity,
)

Vectors = npt.NDArray[np.float32]


class Backend(Protocol):
    """Life of anything that holds a resource. `load` twice and `close` twice are harmless."""

    def load(self) -> None: ...

    def close(self) -> None: ...

    def info(self) -> dict[str, Any]:
        """What it is and how it is, as JSON; raises `Unavailable` with the reason when it cannot work now."""
        ...


class Embedder(Backend, Protocol):
    """Text to vectors, float32 of shape (len(texts), fingerprint.dimension)."""

    def describe(self) -> EmbedderCard: ...

    def embed_passages(self, texts: Sequence[str]) -> Vectors: ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


@dataclass(frozen=True)
class EmbedderCard:
    """What an embedder is.

    `max_tokens` is the longest input it reads; `tokenizer` a `tokenizers` JSON string, empty when nobody knows it;
    `similarity` how its vectors are compared. `languages` are the ISO 639-1 codes it was made for; empty means that
    it does not say, and is taken for all.
    """

    name: str
    weights: str
    dimension: int
    max_tokens: int
    tokenizer: str
    normalized: bool = True
    languages: tuple[str, ...] = ()
    similarity: Similarity = "cosine"

    def speaks(self, lang: str) -> bool:
        return not self.languages or lang in self.languages


class Reranker(Backend, Protocol):
    """Scores pairs of question and passage by reading them together."""

    def rerank(self, question: str, texts: Sequence[str], budget_s: float) -> RerankResult:
        """Score the texts in order, batch by batch, until the time is up."""
        ...


@dataclass(frozen=True)
class RerankResult:
    """One score for each of the first `len(scores)` texts, in [0, 1] for models with one label.

    `stopped` says why the others have none; empty when all have.
    """

    scores: tuple[float, ...]
    stopped: str = ""


@dataclass(frozen=True)
class DocumentWrite:
    """A document that replaces whatever the index holds under its id. `vectors` has one row a passage."""

    entry: LedgerEntry
    passages: tuple[Passage, ...]
    vectors: Vectors


@dataclass(frozen=True)
class LegsQuery:
    """Both legs of one question. A leg that is not in `legs` is not run; `vector` is None without a dense leg.

    `groups` has no default, so that nobody forgets it: None is the operator, who sees everything.
    """

    text: str
    lang: str
    vector: Vectors | None
    groups: tuple[str, ...] | None
    legs: tuple[Leg, ...] = ("bm25", "dense")
    depth: int = 100
    filters: Filters = Filters()


@dataclass(frozen=True)
class Legs:
    """Ranked lists of (passage id, score), best first, and the passages themselves."""

    ranked: dict[Leg, list[tuple[str, float]]]
    passages: dict[str, Passage]
    index_version: str = ""


@dataclass(frozen=True)
class WriteResult:
    """Whether one document's write or delete reached the index; `error` is empty when it did."""

    doc_id: str
    error: str = ""
    passages: int = 0
    found: bool = True


class Removable(Protocol):
    def remove(self) -> None:
        """Delete all that it holds; it is closed afterwards."""
        ...


class Ledger(Protocol):
    @property
    def version(self) -> str:
        """Name of the index version that is open."""
        ...

    def entries(self) -> Iterator[LedgerEntry]:
        """Every entry, without its document, by document id in the order of code points, in constant memory.

        What is written meanwhile may be missing; after `flush`, what was written before is not.
        """
        ...

    def amend(self, entries: Sequence[LedgerEntry]) -> None:
        """Write the entries' source and revision alone; a document that is not in the ledger is left out."""
        ...


@dataclass(frozen=True)
class Held:
    """The passages that an index holds of one document: how many, and the greatest ordinal among them."""

    doc_id: str
    passages: int
    highest: int


class Holdings(Protocol):
    """The passages as they are, whatever the ledger says of them; for those who compare the two."""

    def held(self, doc_ids: Sequence[str] | None = None) -> Iterator[Held]:
        """Of these documents, or of all, by document id in the order of code points; as searches see them."""
        ...

    def expel(self, doc_id: str, keep: int = 0) -> None:
        """Delete a document's passages from ordinal `keep` on; its ledger entry stays as it is."""
        ...


@dataclass(frozen=True)
class Finding:
    """Two parts that do not agree, or something that nobody needs any more.

    `place` is the part and `name` the thing in it. `remedy` says what a repair does, or, where `fixable` is false, what
    a person has to do. A `note` is worth knowing and nothing wrong. `handle` is for the inspection that found it.
    """

    kind: str
    place: str
    name: str
    reason: str
    remedy: str
    fixable: bool = True
    note: bool = False
    handle: str = ""


class Inspection(Protocol):
    """A part that is looked through for what does not belong together. What is being worked on is no finding."""

    def findings(self) -> Iterator[Finding]:
        """In constant memory; changes nothing. A finding may be repaired before the next one is asked for."""
        ...

    def repair(self, finding: Finding) -> None:
        """Put one fixable finding right; harmless where that has been done meanwhile."""
        ...


class Inspected(Protocol):
    def inspection(self) -> Inspection: ...


class Index(Backend, Ledger, Removable, Holdings, Protocol):
    """Passages with their vectors, and the ledger of documents beside them: one version of an index.

    `load` opens the version that was made with the wanted fingerprint: the current one, or the previous one for a
    process that was started with the settings of before a migration. It creates the first version where there is
    none, and raises `FingerprintMismatch` when none fits.
    """

    def put(self, writes: Sequence[DocumentWrite]) -> list[WriteResult]:
        """Replace each document whole: its left-over passages go, its ledger entry is written last."""
        ...

    def delete(self, doc_ids: Sequence[str]) -> list[WriteResult]: ...

    def flush(self) -> None:
        """After this, searches see every earlier `put` and `delete`."""
        ...

    def legs(self, query: LegsQuery) -> Legs:
        """Both legs in one round trip, filtered before ranking."""
        ...

    def ledger(self, doc_ids: Sequence[str], *, with_document: bool = False) -> dict[str, LedgerEntry]: ...


Role = Literal["current", "next", "previous", "retired"]


@dataclass(frozen=True)
class IndexVersion:
    """One physical index. `current` is searched, a migration builds `next`, `previous` is kept for a rollback.

    These three are written to; a `retired` one is not. `recipe` holds the settings that made it, so that a process
    with other settings can write to it, too. `unfinished` documents were being written when their process ended.
    """

    name: str
    role: Role
    fingerprint: Fingerprint
    recipe: dict[str, Any]
    documents: int = 0
    passages: int = 0
    unfinished: int = 0

    def with_counts(self, documents: int, passages: int, unfinished: int) -> IndexVersion:
        return replace(self, documents=documents, passages=passages, unfinished=unfinished)


class Versions(Protocol):
    """The versions of one index, and which of them is which. Every change of roles is one step."""

    def all(self, *, counted: bool = False) -> list[IndexVersion]:
        """Oldest first, with their counts if asked; empty when there is no index."""
        ...

    def create(self, fingerprint: Fingerprint) -> IndexVersion:
        """An empty version under the role `next`, made by this process's settings.

        Gives back the `next` that has this fingerprint already. Raises `Conflict` when another has the role.
        """
        ...

    def promote(self, name: str) -> None:
        """Make a version current, and the current one previous; what was previous is retired."""
        ...

    def drop(self, name: str) -> None:
        """Delete a version; raises `Conflict` for the current one."""
        ...

    def close(self) -> None: ...


class Backups(Protocol):
    """Copies of the current version, elsewhere."""

    def backup(self, place: str) -> str:
        """Copy the current version to a new place; the place as `restore` wants it."""
        ...

    def restore(self, place: str) -> IndexVersion:
        """Make a copy the current version; the version that was current is retired, not deleted."""
        ...


class VersionStore(Versions, Backups, Inspected, Protocol):
    """All sides of one index's keeper."""


class Generator(Backend, Protocol):
    """Questions with their evidence to text with markers `[n]`, n being the rank of a hit."""

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """Yield pieces for all jobs, interleaved as they come; ask `cancelled(answer_id)` at every step of the
        model, and stop that answer without a `last` piece when it says so."""
        ...


class JobQueue(Backend, Protocol):
    """Brings job messages to workers, at least once. `submit` returns when the message is safe."""

    def submit(self, message: JobMessage) -> None: ...

    def depth(self, generator: str = "") -> int:
        """Messages that wait for a worker: for one generator's, or all."""
        ...


class AnswerStore(Backend, Protocol):
    """Answers as their askers see them. Times to live run from the last write."""

    def create(self, job: Job) -> Answer:
        """Store the job as `queued`; an id that exists keeps its record, which is returned."""
        ...

    def get(self, answer_id: str) -> Answer:
        """Raises `UnknownAnswer`."""
        ...

    def events(self, answer_id: str, after: str = "", wait_s: float = 0.0) -> list[Event]:
        """Events later than id `after`; waits up to `wait_s` seconds for the first. Raises `UnknownAnswer`."""
        ...

    def cancel(self, answer_id: str) -> Answer:
        """Move to `cancelled` unless final already; returns the record either way. Raises `UnknownAnswer`."""
        ...

    def due(self, *, queued: bool) -> list[JobMessage]:
        """Messages of answers that need a worker and seem to have none.

        These are `running` under a lease that has run out, given back by `release` and, with `queued`, those `queued`
        for longer than a lease without being leased. Each is reported once a lease period, so that two sweepers do not
        double the work.
        """
        ...


class Leases(Protocol):
    """Answers as workers see them. Every write is fenced by the lease's attempt, and refused with `LeaseLost`."""

    def lease(self, answer_id: str, owner: str, seconds: float) -> LeaseGrant: ...

    def renew(self, lease: Lease, seconds: float) -> Lease: ...

    def emit(self, lease: Lease, text: str) -> None:
        """Append a `delta` event."""
        ...

    def finish(self, lease: Lease, result: Draft | Failure, timings_ms: dict[str, float]) -> Answer:
        """Move to `done` (a draft) or `failed` (a failure) and append the `final` event."""
        ...

    def release(self, lease: Lease) -> None:
        """Give an unfinished answer back as `queued` (the worker is stopping); this attempt does not count."""
        ...


@dataclass(frozen=True)
class LeaseGrant:
    """What `Leases.lease` answers.

    `granted` with a lease; `busy`: another lease is alive for `retry_after_s` more seconds; `final`: nothing is
    left to do (also when the id is unknown, or when this very call found `max_attempts` used up and failed it).
    """

    status: Literal["granted", "busy", "final"]
    lease: Lease | None = None
    retry_after_s: float = 0.0


class Answers(AnswerStore, Leases, Inspected, Protocol):
    """All sides of one store."""
