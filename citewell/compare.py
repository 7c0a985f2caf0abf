"""Two answers to one question, and why they differ. Pure.

An answer follows from question, evidence, prompt, and the generator with its revision, sampling and seed. Its
record keeps each, so what differs between two records is the reason why their texts do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from citewell.errors import Conflict
from citewell.records import Answer, PassageMark

Status = Literal["gone", "new", "changed", "moved"]
_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class PassageChange:
    """A passage that is not in both evidences as it was; `moved`: the same text under another rank."""

    id: str
    status: Status


@dataclass(frozen=True)
class Change:
    """Something that an answer follows from, and how both have it."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """`same` texts; `changes` that may explain another one; the evidence passage by passage; the verdict."""

    before: str
    after: str
    same: bool
    changes: tuple[Change, ...]
    passages: tuple[PassageChange, ...]
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(before: Answer, after: Answer) -> Comparison:
    """Raises `Conflict` for an answer that is not written: there is nothing to compare yet."""
    for answer in (before, after):
        if answer.state != "done":
            raise Conflict(f"answer {answer.id} is {answer.state}", remedy="Compare answers that are done.")
    same = (before.answer, before.abstained) == (after.answer, after.abstained)
    passages = passage_changes(before.provenance.passages, after.provenance.passages)
    changes = tuple(_changes(before, after, passages))
    return Comparison(before.id, after.id, same, changes, passages, _verdict(before, after, same, changes))


def passage_changes(before: tuple[PassageMark, ...], after: tuple[PassageMark, ...]) -> tuple[PassageChange, ...]:
    """Passages that went, came, say something else under their id, or stand elsewhere among those in both."""
    old, new = {mark.id: mark.hash for mark in before}, {mark.id: mark.hash for mark in after}
    found = [PassageChange(name, "gone") for name in old if name not in new]
    found += [PassageChange(name, "new") for name in new if name not in old]
    found += [PassageChange(name, "changed") for name in old if name in new and old[name] != new[name]]
    both = [name for name in old if old[name] == new.get(name)]
    order = [name for name in new if name in both]
    found += [PassageChange(name, "moved") for name, other in zip(both, order, strict=True) if name != other]
    return tuple(found)


def _changes(before: Answer, after: Answer, passages: tuple[PassageChange, ...]) -> list[Change]:
    looks: dict[str, Callable[[Answer], Any]] = {
        "question": lambda a: a.question.standalone,
        "search": lambda a: a.question.model_dump(mode="json", exclude={"text"}, exclude_defaults=True),
        "index version": lambda a: a.provenance.index_version,
        "evidence": lambda a: len(a.provenance.passages),
        "generator": lambda a: a.generator,
        "model": lambda a: a.provenance.model,
        "revision": lambda a: a.provenance.revision,
        "prompt": lambda a: a.provenance.prompt,
        "wording of the prompt": lambda a: a.provenance.prompt_hash[:12],
        "sampling": lambda a: a.provenance.sampling,
        "seed": lambda a: a.provenance.seed,
    }
    found = []
    for what, look in looks.items():
        one, other = look(before), look(after)
        if what == "evidence" and passages:
            kinds = [change.status for change in passages]
            told = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
            found.append(Change(what, f"{one} passages", f"{other} passages: {told}"))
        elif what != "evidence" and one != other:
            found.append(Change(what, _shown(one), _shown(other)))
    return found


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or _UNKNOWN
    return _UNKNOWN if value in ("", None) else str(value)


def _verdict(before: Answer, after: Answer, same: bool, changes: tuple[Change, ...]) -> str:
    # The number of a version is no reason by itself: what it changed is in the evidence.
    reasons = [change.what for change in changes if change.what != "index version"]
    if same:
        return f"the same answer, although these differ: {', '.join(reasons)}" if reasons else "the same answer"
    if reasons:
        return f"another answer, because these differ: {', '.join(reasons)}"
    if before.provenance.by_chance or after.provenance.by_chance:
        return "another answer although nothing else differs: the generator chooses its words by chance, without a seed"
    return (
        "another answer although nothing that is recorded differs: the generator is not deterministic, or its program, "
        "libraries or device are others"
    )
