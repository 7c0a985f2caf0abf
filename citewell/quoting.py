"""Answers go with the documents that they quote.

A deleted document takes every answer along whose record holds a passage of it, cited or not: the record has its text. A
changed one takes those that hold a passage which no longer stands there word for word, at its offsets, for the same
groups: their proof is none any more. docs/decisions/0020 has the reasons and the order of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from citewell.errors import Conflict, Unavailable, UnknownAnswer
from citewell.ports import Answers, Index
from citewell.records import Answer, Document, Evidence, Job

# What was announced this long ago and is not settled was left by a process that ended.
_LEFT_AFTER_S = 60.0
_TRIES = 5


def still_there(evidence: Evidence, doc_id: str, document: Document | None) -> bool:
    """Whether everything that an evidence holds of a document stands in it as it is now. Pure."""
    held = (hit.passage for hit in evidence.hits if hit.passage.doc_id == doc_id)
    return document is not None and all(
        document.text[passage.start : passage.end] == passage.text and set(passage.groups) == set(document.groups)
        for passage in held
    )


class Quoting:
    """The way of a delete or a change: `begin`, the writes, `end`. The store is opened when it is first needed."""

    def __init__(self, store: Answers) -> None:
        self._store = store

    def begin(self, doc_ids: Sequence[str]) -> None:
        """Raises `StoreUnavailable`: then nothing may be changed, or answers would stay that nobody finds."""
        if doc_ids:
            self._store.load()
            self._store.quotes().announce(doc_ids)

    def end(self, index: Index, doc_ids: Sequence[str]) -> dict[str, int]:
        """Call when searches see the change; removes answers and says how many, by document."""
        if not doc_ids:
            return {}
        quotes = self._store.quotes()
        # First the moment, then the look: a question that is created in between finds its evidence gone by itself.
        quotes.went(doc_ids)
        quoting = quotes.quoting(doc_ids)
        entries = index.ledger(list(quoting), with_document=True) if quoting else {}
        removed = {}
        for doc_id, answer_ids in quoting.items():
            entry = entries.get(doc_id)
            document = entry.document if entry else None
            removed[doc_id] = quotes.remove([each for each in answer_ids if self._outdated(each, doc_id, document)])
        quotes.settle(doc_ids)
        return removed

    def catch_up(self, index: Index) -> None:
        """Settle what a process left behind that ended between a change and its answers."""
        try:
            self._store.load()
            while left := self._store.quotes().unsettled(_LEFT_AFTER_S):
                self.end(index, left)
        except Unavailable as error:
            structlog.get_logger(__name__).warning("answers_not_compared", reason=error.message, remedy=error.remedy)

    def _outdated(self, answer_id: str, doc_id: str, document: Document | None) -> bool:
        try:
            return not still_there(self._store.get(answer_id).evidence, doc_id, document)
        except UnknownAnswer:
            return False


def create_fresh(store: Answers, make: Callable[[], list[Job]]) -> list[tuple[Job, Answer]]:
    """Create the jobs that `make` searches for, anew when a document of their evidence went meanwhile.

    When this returns, no document of the evidence had gone at the moment when the answers became safe; one that goes
    later finds them. An answer that an earlier request made stays as it is.
    """
    quotes = store.quotes()
    for _ in range(_TRIES):
        moment = quotes.went()
        created = [(job, store.create(job)) for job in make()]
        own = [(job, answer) for job, answer in created if answer.created_at == job.created_at]
        held = {doc_id for job, _ in own for doc_id in job.evidence.documents()}
        if not own or not quotes.gone(sorted(held), moment):
            return created
        quotes.remove([answer.id for _, answer in own])
    raise Conflict(
        "documents that answer this question change faster than it can be asked", remedy="Ask again in a moment."
    )
