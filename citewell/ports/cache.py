"""Answers that may be given again, by what was asked. A store of pointers: the answers themselves are records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Kept:
    """A question that was answered: `vector` is its float16 bytes, empty where near questions do not matter."""

    answer_id: str
    question: str
    vector: bytes = b""


class AnswerCache(Protocol):
    """Bounded by `cache_size` questions in all, the oldest go first, and by `cache_ttl` seconds each.

    A pointer may outlive its answer: who follows it finds no record.
    """

    def find(self, key: str) -> str:
        """The answer that was kept under the key, "" without one."""
        ...

    def near(self, scope: str) -> list[Kept]:
        """The latest questions of a scope, newest first."""
        ...

    def keep(self, key: str, scope: str, kept: Kept) -> None: ...

    def count(self, outcome: str) -> None: ...

    def counts(self) -> dict[str, int]:
        """How often each outcome was counted."""
        ...


class Caching(Protocol):
    def cache(self) -> AnswerCache: ...
