"""Documents against the ledger: what is new, what changed, and what only comes from elsewhere now. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Literal

from citewell.records import Document, LedgerEntry, Outcome

Status = Literal["added", "changed", "unchanged"]


def status_of(entry: LedgerEntry | None, content_hash: str) -> Status:
    """What a load makes of a document with this hash; one that was being written when its process ended is changed."""
    if entry is None:
        return "added"
    return "unchanged" if entry.content_hash == content_hash else "changed"


def moved(
    items: Iterable[Document | Outcome], known: Mapping[str, LedgerEntry], changed: Container[str], source: str
) -> list[LedgerEntry]:
    """Entries of unchanged documents, with the source or revision that the ledger does not have yet.

    Without this a sync of the source that a document came from before would delete it.
    """
    found = []
    for item in items:
        if isinstance(item, Outcome) or item.id in changed:
            continue
        entry = known[item.id].model_copy(update={"source": item.source or source, "revision": item.revision})
        if entry != known[item.id]:
            found.append(entry)
    return found
