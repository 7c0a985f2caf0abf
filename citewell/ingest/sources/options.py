"""What a person says about a source beside its address. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from citewell.errors import BadInput

FIELDS = ("id", "title", "text", "url", "lang", "groups", "metadata")


@dataclass(frozen=True)
class SourceOptions:
    """Options that not every kind of source takes; `open_source` refuses those that mean nothing to it.

    query     the SELECT of a database, or the body of an Elasticsearch search as JSON
    columns   (field of the document, column) pairs that replace the defaults
    since     column that only grows: the next run asks for rows from its greatest known value on
    sync      the caller deletes what the source no longer has, so the source has to list everything
    api_key   of the Elasticsearch that is read
    pause     seconds between two requests to a web server
    pages     most pages that one sitemap may list
    timeout   seconds that a server may take for one answer
    """

    query: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    since: str = ""
    sync: bool = False
    api_key: str = field(default="", repr=False)
    pause: float = 0.5
    pages: int = 10_000
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if self.since and self.sync:
            raise BadInput(
                "`since` and `sync` exclude each other: a run since a value sees only new and changed rows, so it "
                "cannot tell which were deleted",
                remedy="Run with `since` for the changes, and now and then without it, with `sync`, for the deletions.",
            )

    def refuse(self, kind: str, *names: str) -> None:
        """Raise `BadInput` when one of these options is set although a source of this kind does not take it."""
        for name in names:
            if getattr(self, name):
                raise BadInput(
                    f"{kind} take no `{'map' if name == 'columns' else name}`",
                    remedy="Leave the option out, or load this source with a command of its own.",
                )


def column_pairs(pairs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`FIELD=COLUMN` as the command line and the configuration write it; raises `BadInput`."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, column = pair.partition("=")
        if not sign or not column or name not in FIELDS:
            raise BadInput(
                f"`{pair}` does not map a column", remedy=f"Write FIELD=COLUMN; fields are {', '.join(FIELDS)}."
            )
        if name in found:
            raise BadInput(f"`{name}` is mapped twice", remedy="Map each field to one column.")
        found[name] = column
    return tuple(found.items())
