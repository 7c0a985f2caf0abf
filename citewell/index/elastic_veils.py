"""What of a document readers must not see yet, or no longer: how changes become visible in one step on Elasticsearch.

Passages are written one by one, and a refresh shows whatever is written by then. So a document of several passages is
written beside its former version, in the other of two slots, while a veil hides the new one; then the veil is turned,
in one write, to hide the old one; then that is deleted, and the veil with it. A veil is a document among the passages:
one of each writer at work, whatever the number of documents in its batch. One refresh shows a shard's writes up to one
moment, so whoever finds passages finds the veils that belong to them in the same search.

What a killed writer leaves is a veil, and half of a document behind it. The next writer of the document cleans up.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from citewell.index.elastic_writes import Bulk, Item, spelled

Slot = Literal[0, 1]
Hit = Mapping[str, Any]

# Ends the `_id` of a passage in the second slot; ids of passages end with a digit.
SECOND = "~"
# What an error of the veil itself is filed under: no document has this id.
_VEIL = ""


def other(slot: Slot) -> Slot:
    return 1 if slot == 0 else 0


@dataclass(frozen=True)
class Hidden:
    """Passages of a document in one slot, up to a version. A later writer's have a greater version."""

    doc_id: str
    slot: Slot
    version: int


class Veil:
    """One writer's veil over a batch of documents; `draw` replaces what it hides.

    Each time has a version, so that a request which broke off and arrives late draws nothing anew.
    """

    def __init__(self, bulk: Bulk, index: str) -> None:
        self._bulk = bulk
        self._index = index
        self._name = f"veil:{uuid.uuid4().hex}"
        self._version = 0

    def draw(self, hidden: Iterable[Hidden]) -> str:
        """Hide this and nothing else, in one step; with nothing to hide the veil goes. The reason if it failed."""
        self._version += 1
        listed = [(one.doc_id, one.slot, one.version) for one in hidden]
        # One text: Elasticsearch copies it to each search beside the load, and need not take it apart.
        source = spelled({"veil": True, "hidden": orjson.dumps(listed).decode()}) if listed else b""
        item = Item(_VEIL, "index" if listed else "delete", self._index, self._name, source, version=self._version)
        return self._bulk.send([item]).get(_VEIL, "")


def is_veil(hit: Hit) -> bool:
    return bool(hit["_source"].get("veil"))


def hidden_by(hits: Iterable[Hit]) -> Iterator[tuple[str, Slot, int]]:
    """What the veils among the hits hide, each as the fields of `Hidden`."""
    for hit in hits:
        if is_veil(hit):
            yield from orjson.loads(hit["_source"]["hidden"])


def slot_of(hit: Hit) -> Slot:
    return 1 if hit["_id"].endswith(SECOND) else 0


def crowded(hits: Sequence[Hit], size: int) -> bool:
    """Whether veils, which come first, fill a page of that size: then there may be more of them."""
    return len(hits) >= size and is_veil(hits[size - 1])


def visible(legs: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """The hits of each leg that readers may see: of each document one version, whole as far as it was found.

    A leg is what one refresh showed, and its own veils belong to it. Two legs may come from two refreshes: then the
    newer version of a document stands.
    """
    shown = [_unveiled(hits) for hits in legs]
    newest: dict[str, int] = {}
    for hit in (hit for hits in shown for hit in hits):
        doc_id = hit["_source"]["doc_id"]
        newest[doc_id] = max(hit["_version"], newest.get(doc_id, 0))
    return [[hit for hit in hits if hit["_version"] == newest[hit["_source"]["doc_id"]]] for hits in shown]


def _unveiled(hits: Sequence[Hit]) -> list[Hit]:
    upto: dict[tuple[str, Slot], int] = {}
    for doc_id, slot, version in hidden_by(hits):
        upto[doc_id, slot] = max(version, upto.get((doc_id, slot), 0))
    return [
        hit
        for hit in hits
        if not is_veil(hit) and hit["_version"] > upto.get((hit["_source"]["doc_id"], slot_of(hit)), 0)
    ]
