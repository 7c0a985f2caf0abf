"""Looking for what does not belong together, and putting it right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Finding:
    """Two parts that do not agree, or something that nobody needs any more.

    `place` is the part and `name` the thing in it. `remedy` says what a repair does, or, where `fixable` is false, what
    a person has to do. A `note` is worth knowing and nothing wrong. `handle` is for the inspection that found it.
    """

    kind: str
    place: str
    name: str
    reason: str
    remedy: str
    fixable: bool = True
    note: bool = False
    handle: str = ""


class Inspection(Protocol):
    """A part that is looked through for what does not belong together. What is being worked on is no finding."""

    def findings(self) -> Iterator[Finding]:
        """In constant memory; changes nothing. A finding may be repaired before the next one is asked for."""
        ...

    def repair(self, finding: Finding) -> None:
        """Put one fixable finding right; harmless where that has been done meanwhile."""
        ...


class Inspected(Protocol):
    def inspection(self) -> Inspection: ...
