"""What the ledger knows of one source."""

from __future__ import annotations

import functools

from citewell.ingest.sources import Known
from citewell.ports import Ledger


def known_of(ledger: Ledger, name: str) -> Known:
    """The revisions of a source's documents; the ledger is walked over once, when something is asked."""

    @functools.cache
    def found() -> tuple[dict[str, str], bool]:
        revisions, unfinished = {}, False
        for entry in ledger.entries():
            if entry.source == name:
                unfinished = unfinished or not entry.content_hash
                if entry.content_hash and entry.revision:
                    revisions[entry.doc_id] = entry.revision
        return revisions, unfinished

    return Known(
        revision=lambda doc_id: found()[0].get(doc_id, ""),
        revisions=lambda: iter(found()[0].values()),
        unfinished=lambda: found()[1],
    )
