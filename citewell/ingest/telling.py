"""How a load tells of its documents and ends, whoever does the work."""

from __future__ import annotations

import structlog

from citewell.errors import IndexUnavailable
from citewell.ports import Index
from citewell.records import Outcome

log = structlog.get_logger("citewell.ingest")


class Repeats:
    """Says of an outcome that its id came before in the same load. 64 bits a document instead of its id."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def told(self, outcome: Outcome) -> Outcome:
        key = hash(outcome.doc_id)
        if key in self._seen and outcome.status != "failed":
            note = "this id came before in the same load; the last one wins"
            outcome = outcome.model_copy(update={"reason": note})
        self._seen.add(key)
        return outcome


def flush(index: Index, *, quiet: bool) -> None:
    """`quiet` where the load has told of a fault already: what is wrong here must not hide it."""
    try:
        index.flush()
    except IndexUnavailable as error:
        if not quiet:
            raise
        log.warning("index_not_flushed", reason=error.message, remedy=error.remedy)
