"""What an answer follows from: with it a later answer to the same question can be compared."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from citewell.records.base import Record, text_hash
from citewell.records.questions import Evidence


class PassageMark(Record):
    """A passage of the evidence as it was: its id and the SHA-256 of its text."""

    id: str
    hash: str


class Provenance(Record):
    """Everything that an answer's text follows from, beside its question and the generator's name.

    `passages` are in the order of their ranks. `revision` tells the generator's weights and rules apart; `prompt` is
    the version of what it was asked and `prompt_hash` is over its wording; `sampling` is how words were chosen, `seed`
    None where chance had none. What is empty is not known, or there is none: extractive answers have no prompt.
    """

    index_version: str = ""
    passages: tuple[PassageMark, ...] = ()
    model: str = ""
    revision: str = ""
    prompt: str = ""
    prompt_hash: str = ""
    sampling: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None

    @classmethod
    def of(cls, evidence: Evidence) -> Provenance:
        """What is known before a generator has written."""
        marks = (PassageMark(id=hit.passage.id, hash=text_hash(hit.passage.text)) for hit in evidence.hits)
        return cls(index_version=evidence.index_version, passages=tuple(marks))

    @property
    def by_chance(self) -> bool:
        """Whether the same generator may write something else the next time."""
        drawn = self.sampling.get("method", "greedy" if not self.sampling.get("do_sample") else "sample") != "greedy"
        return drawn and self.seed is None
