"""Which answers hold which documents, and documents that went while questions were being asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Quotes(Protocol):
    """Answers by the documents whose passages they hold, from the moment that they are created."""

    def quoting(self, doc_ids: Sequence[str]) -> dict[str, list[str]]:
        """Ids of the answers that hold passages of each document; a document without any is left out."""
        ...

    def remove(self, answer_ids: Sequence[str]) -> int:
        """Stop and remove answers, with all that is kept of them; how many were there."""
        ...


class Departures(Protocol):
    """Documents that were deleted or changed, in the order of their going.

    A change to the index and the removal of answers are two steps on two servers. So the change is announced first, and
    what was announced and never settled (its process was killed) is found by the next one.
    """

    def announce(self, doc_ids: Sequence[str]) -> None:
        """These are about to be deleted or changed."""
        ...

    def unsettled(self, older_than_s: float) -> list[str]:
        """What was announced that long ago and is not settled; some at a time."""
        ...

    def settle(self, doc_ids: Sequence[str]) -> None: ...

    def went(self, doc_ids: Sequence[str] = ()) -> int:
        """Record that searches do not find these any more as they were; the number of that moment.

        Without ids, the number of the last such moment: read before a search, for `gone`.
        """
        ...

    def gone(self, doc_ids: Sequence[str], since: int) -> bool:
        """Whether one of these went after that moment, or may have: only the last some thousands are remembered."""
        ...


class QuoteStore(Quotes, Departures, Protocol):
    """Both sides of one store."""


class Quoted(Protocol):
    def quotes(self) -> QuoteStore: ...
