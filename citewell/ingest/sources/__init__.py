"""Where documents come from. A source knows its name and yields its documents; it writes nothing.

Each kind has a module of its own; `open_source` tells from an argument of the command line which one is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from citewell.errors import Gone
from citewell.ingest.items import Item, Limits, Tell, checked, failed, spelled
from citewell.ingest.rows import bounded_lines, from_mapping, json_value
from citewell.ingest.sources.files import FileSource
from citewell.ingest.sources.options import SourceOptions
from citewell.records import Outcome

__all__ = [
    "Item",
    "Known",
    "Limits",
    "Source",
    "SourceOptions",
    "Tell",
    "bounded_lines",
    "checked",
    "failed",
    "from_mapping",
    "incomplete",
    "json_value",
    "open_source",
    "spelled",
    "still_there",
]


@dataclass(frozen=True)
class Known:
    """What the index knows of a source's documents, looked up only when it is asked for.

    `revision` gives a document's, "" for one that is not there whole; `revisions` walks over those of all that are.
    `unfinished` says whether some were being written when their process ended: a source that asks only for what is
    new has to ask for everything then.
    """

    revision: Callable[[str], str] = lambda doc_id: ""
    revisions: Callable[[], Iterator[str]] = lambda: iter(())
    unfinished: Callable[[], bool] = lambda: False


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
        `known` has already in this revision. A failure under the source's own name is `incomplete`.
        """
        ...


def incomplete(outcome: Outcome, name: str) -> bool:
    """Whether the source of this name could not list all its documents: what is missing need not be deleted there."""
    return outcome.status == "failed" and outcome.doc_id == name and still_there(outcome)


def still_there(outcome: Outcome) -> bool:
    """Whether a document that failed may be at its source all the same; only `gone` says that it is not."""
    return outcome.code != Gone.code


def open_source(argument: str, limits: Limits, options: SourceOptions = SourceOptions()) -> Source:
    """The source that an argument of the command line means; nothing is read yet.

    Raises `BadInput` for an address or an option without sense, `MissingDependency` for a kind that is not installed.
    """
    scheme = argument.partition("://")[0].lower() if "://" in argument else ""
    if scheme in ("elasticsearch", "elasticsearch+https"):
        from citewell.ingest.sources.elastic import ElasticSource

        return ElasticSource(argument, limits, options)
    if scheme in ("http", "https"):
        from citewell.ingest.sources.web import WebSource

        return WebSource(argument, limits, options)
    if scheme:
        from citewell.ingest.sources.sql import SqlSource

        return SqlSource(argument, limits, options)
    options.refuse("files and folders", "query", "columns", "since")
    return FileSource(argument, limits)
