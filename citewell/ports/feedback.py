"""Judgements of answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from citewell.records import Feedback


class FeedbackStore(Protocol):
    """One judgement by answer and caller, each kept for `feedback_ttl` seconds from when it was given."""

    def give(self, feedback: Feedback) -> bool:
        """Keep it; False when it took the place of an earlier one by the same caller."""
        ...

    def given(self, since: float = 0.0) -> Iterator[Feedback]:
        """All that was given at `since` or later, oldest first; a few at a time are in memory."""
        ...


class Judged(Protocol):
    def feedback(self) -> FeedbackStore: ...
