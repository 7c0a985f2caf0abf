"""Where documents come from. A source knows its name and yields its documents; it writes nothing.

Each kind has a module of its own; `open_source` tells from an argument of the command line which one is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from citewell.ingest.sources.files import (
    FileSource,
    Item,
    Limits,
    Tell,
    bounded_lines,
    checked,
    failed,
    from_mapping,
    json_value,
    read_sources,
    size_of,
    spelled,
)

__all__ = [
    "Item",
    "Known",
    "Limits",
    "Source",
    "Tell",
    "bounded_lines",
    "checked",
    "failed",
    "from_mapping",
    "json_value",
    "open_source",
    "read_sources",
    "size_of",
    "spelled",
]


@dataclass(frozen=True)
class Known:
    """What the index knows of a source's documents, looked up only when it is asked for.

    `revision` gives a document's, "" for one that is not there; `revisions` walks over those of all.
    """

    revision: Callable[[str], str] = lambda doc_id: ""
    revisions: Callable[[], Iterator[str]] = lambda: iter(())


class Source(Protocol):
    """One place that documents come from."""

    @property
    def name(self) -> str:
        """What the ledger records as the origin of its documents: the same at every run, and without secrets."""
        ...

    @property
    def size(self) -> int:
        """Bytes that reading it takes, as `tell` will count them; 0 where that is not known beforehand."""
        ...

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        """Every document in a fixed order, or an outcome: `failed` for what it could not read, `unchanged` for what
        `known` has already in this revision.
        """
        ...


def open_source(argument: str, limits: Limits) -> Source:
    """The source that an argument of the command line means; nothing is read yet."""
    return FileSource(argument, limits)
