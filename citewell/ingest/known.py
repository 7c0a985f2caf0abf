"""What the ledger knows of the sources of a load."""

from __future__ import annotations

import functools
from collections.abc import Collection

from citewell.ingest.sources import Known
from citewell.ports import Ledger


def known_of(ledger: Ledger, names: Collection[str]) -> dict[str, Known]:
    """The revisions of each source's documents; the ledger is walked over once for all, when something is asked."""

    @functools.cache
    def found() -> tuple[dict[str, dict[str, str]], set[str]]:
        revisions: dict[str, dict[str, str]] = {name: {} for name in names}
        unfinished = set()
        for entry in ledger.entries():
            if entry.source in revisions:
                if not entry.content_hash:
                    unfinished.add(entry.source)
                elif entry.revision:
                    revisions[entry.source][entry.doc_id] = entry.revision
        return revisions, unfinished

    def of(name: str) -> Known:
        return Known(
            revision=lambda doc_id: found()[0][name].get(doc_id, ""),
            revisions=lambda: iter(found()[0][name].values()),
            unfinished=lambda: name in found()[1],
        )

    return {name: of(name) for name in names}
