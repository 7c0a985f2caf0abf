"""The passages of documents changed so that readers see each document before or after, never between.

A document of one passage at most, before and after, is changed by one write, in its place. Any other goes through the
veil of its batch (`elastic_veils`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from citewell.index.elastic_errors import translated
from citewell.index.elastic_veils import SECOND, Hidden, Slot, Veil, hidden_by, other
from citewell.index.elastic_writes import Bulk, Item, Token, spelled
from citewell.ports import DocumentWrite, Vectors
from citewell.records import Passage

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

# Makes the body of a passage.
Source = Callable[[Passage, Vectors], Mapping[str, Any]]

# Veils of killed writers that are looked at in one go.
_VEILS_AT_ONCE = 100
_BOTH: tuple[Slot, ...] = (0, 1)


def _nothing(passage: Passage, vector: Vectors) -> Mapping[str, Any]:
    raise AssertionError("a delete writes no passage")


@dataclass(frozen=True)
class Change:
    """What becomes of one document's passages, all of which get `version`; without a `write` they are deleted.

    There may be `former` of them in the slot `was`; where it is `messy`, since somebody's write was cut short, in the
    other one as well. None for `was` is a document that was not there.
    """

    doc_id: str
    version: int
    write: DocumentWrite | None = None
    former: int = 0
    was: Slot | None = None
    messy: bool = False

    @property
    def passages(self) -> tuple[Passage, ...]:
        return self.write.passages if self.write else ()

    @property
    def most(self) -> int:
        return max(self.former, len(self.passages))

    @property
    def simple(self) -> bool:
        """Whether one write does it."""
        return self.most <= 1 and not self.messy

    @property
    def slot(self) -> Slot:
        """Where its passages are afterwards."""
        if self.was is None:
            return 0
        return self.was if self.simple or self.write is None else other(self.was)

    def written(self, index: str, source: Source) -> Iterator[Item]:
        """Its new passages; and what a write that was cut short, or one passage less, leaves in their slot."""
        if self.write is not None:
            for passage, vector in zip(self.write.passages, self.write.vectors, strict=True):
                line = spelled(source(passage, vector))
                yield self._item("index", index, passage.ordinal, self.slot, line)
        if self.simple or (self.messy and self.write is not None):
            yield from self.removed(index, self.slot, start=len(self.passages))

    def removed(self, index: str, slot: Slot, start: int = 0) -> Iterator[Item]:
        return (self._item("delete", index, ordinal, slot) for ordinal in range(start, self.most))

    def hidden(self, slot: Slot) -> Hidden:
        return Hidden(self.doc_id, slot, self.version)

    def _item(self, op: str, index: str, ordinal: int, slot: Slot, source: bytes = b"") -> Item:
        name, ending = Passage.make_id(self.doc_id, ordinal), SECOND if slot else ""
        return Item(self.doc_id, op, index, name, source, version=self.version, ending=ending)


def change(bulk: Bulk, index: str, changes: Sequence[Change], source: Source = _nothing) -> dict[str, str]:
    """Make the changes; reasons by document for those that failed, which readers see as they were.

    Documents that another writer has taken over are among `bulk.conflicts`; what is hidden of them is his.
    """
    veil, veiled = Veil(bulk, index), [one for one in changes if not one.simple]
    errors: dict[str, str] = {}
    coming = [one.hidden(one.slot) for one in veiled if one.write is not None]
    if coming and (reason := veil.draw(coming)):
        errors, veiled = dict.fromkeys((one.doc_id for one in veiled), reason), []
    errors |= bulk.send(item for one in changes if one.doc_id not in errors for item in one.written(index, source))
    left = [one for one in veiled if one.doc_id not in bulk.conflicts]
    outdated = {one.doc_id: _outdated(one, failed=one.doc_id in errors) for one in left}
    hidden = [one.hidden(slot) for one in left for slot in outdated[one.doc_id]]
    if veiled and (reason := veil.draw(hidden)):
        return errors | dict.fromkeys((one.doc_id for one in veiled), reason)
    if hidden:
        items = (item for one in left for slot in outdated[one.doc_id] for item in one.removed(index, slot))
        stuck = bulk.send(items)
        errors = stuck | errors
        stays = [one.hidden(slot) for one in left if one.doc_id in stuck for slot in outdated[one.doc_id]]
        if reason := veil.draw(stays):
            errors = dict.fromkeys((one.doc_id for one in left), reason) | errors
    return errors


def _outdated(one: Change, *, failed: bool) -> tuple[Slot, ...]:
    """The slots that hold nothing for readers once the change is made, or has failed."""
    if one.write is None:
        return _BOTH if one.messy or one.was is None else (one.was,)
    if failed:
        return (one.slot,)
    return () if one.was is None else (one.was,)


@dataclass(frozen=True)
class LeftVeil:
    """A veil that was found, and the state that it was in then."""

    name: str
    hidden: tuple[Hidden, ...]
    token: Token

    def removal(self, index: str) -> Item:
        return Item("", "delete", index, self.name, only_at=self.token)


def left_veils(client: Elasticsearch, address: str, index: str) -> list[LeftVeil]:
    """Veils that are there now; those of writers at work are among them."""
    with translated(address):
        client.indices.refresh(index=index)
        answer = client.search(
            index=index, query={"term": {"veil": True}}, size=_VEILS_AT_ONCE, seq_no_primary_term=True
        )
    return [
        LeftVeil(
            hit["_id"], tuple(Hidden(*one) for one in hidden_by([hit])), Token(hit["_seq_no"], hit["_primary_term"])
        )
        for hit in answer["hits"]["hits"]
    ]
