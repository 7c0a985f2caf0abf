"""Passages, vectors and the ledger; the versions of an index and their copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from citewell.ports.backend import Backend, Removable, Vectors
from citewell.ports.inspection import Inspected
from citewell.records import Filters, Fingerprint, LedgerEntry, Leg, Passage


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
    """Ranked lists of (passage id, score), best first, and the passages themselves.

    `took_ms` is what each leg took, as the index times it.
    """

    ranked: dict[Leg, list[tuple[str, float]]]
    passages: dict[str, Passage]
    index_version: str = ""
    took_ms: dict[Leg, float] = field(default_factory=dict)


@dataclass(frozen=True)
class WriteResult:
    """Whether one document's write or delete reached the index; `error` is empty when it did.

    `later` is an error that the document has no part in: a busy server.
    """

    doc_id: str
    error: str = ""
    passages: int = 0
    found: bool = True
    later: bool = False


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
