"""Writes of documents that other processes may be writing at the same moment: one of them wins, whole.

A write has three steps: the ledger says "unfinished" and how many passages there may be, the passages are changed in
one step for readers (`elastic_change`), the ledger says "done" and in which slot they are. The first step is taken only
if the ledger entry is still as it was read, and the last only if it is still as the first one left it. The sequence
number of the first step is the fencing token: passages carry it as their version, so a writer that was overtaken can
neither write over its successor's passages nor beside them, however late it is (Elasticsearch remembers versions of
the deleted for `gc_deletes`). Who was overtaken begins again after a pause, unless the other one has written the same
text.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from citewell.errors import CitewellError
from citewell.index.elastic_change import Change, Source, change, left_veils
from citewell.index.elastic_errors import from_answer, translated
from citewell.index.elastic_layout import Layout
from citewell.index.elastic_veils import Slot
from citewell.index.elastic_writes import Budget, Bulk, Item, Patience, Token, passing, spelled, stored_id
from citewell.index.writes import Later
from citewell.ports import DocumentWrite
from citewell.records import LedgerEntry

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

# Entries of the ledger in one request: without documents, and with them (each may hold megabytes of text).
_AT_ONCE = 1000
_DOCUMENTS_AT_ONCE = 20
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class Seen:
    """A ledger entry as it was read: the state that it was in then, and the slot in which its passages are."""

    entry: LedgerEntry
    token: Token
    slot: Slot

    @property
    def unfinished(self) -> bool:
        return not self.entry.content_hash


@dataclass(frozen=True)
class Target:
    """Where documents are written. The budgets, of writes and of reads, are for a busy server; `writing` is also the
    time for a document that others write.
    """

    client: Elasticsearch
    address: str
    layout: Layout
    writing: Budget
    reading: Budget

    def bulk(self) -> Bulk:
        return Bulk(self.client, self.address, self.writing)


def read(target: Target, doc_ids: Sequence[str]) -> dict[str, Seen]:
    """Ledger entries without their documents, as they are now: a get by id needs no refresh."""
    return {one.entry.doc_id: one for one in entries(target, doc_ids)}


def entries(target: Target, doc_ids: Sequence[str], *, with_document: bool = False) -> Iterator[Seen]:
    """Ledger entries of those documents that have one, as they are now."""
    size, hidden = (_DOCUMENTS_AT_ONCE, None) if with_document else (_AT_ONCE, ["document"])
    for start in range(0, len(doc_ids), size):
        ids = [stored_id(doc_id) for doc_id in doc_ids[start : start + size]]
        # A load waits for a busy server; who asks for a document itself does not.
        patience = Patience(0.0 if with_document else math.inf, target.reading)
        answer = _asked(target, ids, hidden, patience)
        for doc in answer["docs"]:
            if "error" in doc:
                raise from_answer(target.address, 503 if _recovering(doc["error"]) else 404, doc["error"])
            if doc["found"]:
                token = Token(doc["_seq_no"], doc["_primary_term"])
                yield Seen(LedgerEntry.model_validate(doc["_source"]), token, doc["_source"].get("slot", 0))


def _asked(target: Target, ids: Sequence[str], hidden: list[str] | None, patience: Patience) -> Any:
    """The server's answer to the request for these entries, asked for again while that can help."""
    from elastic_transport import ApiError, TransportError

    while True:
        with translated(target.address):
            try:
                answer = target.client.mget(index=target.layout.documents, ids=ids, source_excludes=hidden)
                waits = any(_recovering(doc.get("error")) for doc in answer["docs"])
                target.reading.took(not waits)
                if not waits or not patience.lasts():
                    return answer
            except (ApiError, TransportError) as error:
                if not passing(error):
                    raise
                target.reading.took(False)
                if not patience.lasts():
                    raise


def _recovering(error: Any) -> bool:
    """Whether a single get failed because a node that has just started has not opened the shard yet."""
    return error is not None and error.get("type") != "index_not_found_exception"


def put(target: Target, writes: Sequence[DocumentWrite], source: Source) -> dict[str, str]:
    """Write documents, each at most once in `writes`; reasons by id for those that failed."""
    return _Put(target, writes, source).errors()


def delete(target: Target, doc_ids: Sequence[str]) -> tuple[dict[str, LedgerEntry], dict[str, str]]:
    """Delete documents; what the ledger had of them, and reasons by id for those that failed."""
    known: dict[str, Seen] = {}

    def attempt(ids: Sequence[str], errors: dict[str, str]) -> set[str]:
        seen = read(target, ids)
        for doc_id, one in seen.items():
            known.setdefault(doc_id, one)
        return _delete_once(target, seen, errors)

    errors = _until_won(list(dict.fromkeys(doc_ids)), attempt, target.writing.seconds)
    if any(one.unfinished for one in known.values()):
        tidy(target)
    return {doc_id: one.entry for doc_id, one in known.items()}, errors


class _Put:
    def __init__(self, target: Target, writes: Sequence[DocumentWrite], source: Source) -> None:
        self._target = target
        self._source = source
        self._writes = {write.entry.doc_id: write for write in writes}
        # Documents of which an attempt of ours may have left passages that the winner does not know of.
        self._tried: set[str] = set()
        self._met_unfinished = False

    def errors(self) -> dict[str, str]:
        errors = _until_won(list(self._writes), self._attempt, self._target.writing.seconds)
        if self._met_unfinished:
            tidy(self._target)
        return errors

    def _attempt(self, ids: Sequence[str], errors: dict[str, str]) -> set[str]:
        """One try; the documents in which another writer was quicker."""
        seen = read(self._target, ids)
        self._met_unfinished |= any(one.unfinished for one in seen.values())
        left = [self._writes[doc_id] for doc_id in ids if not self._written_by_another(doc_id, seen.get(doc_id))]
        bulk = self._target.bulk()
        errors |= bulk.send(self._intent(write, seen.get(write.entry.doc_id)) for write in left)
        tokens = dict(bulk.tokens)
        left = [write for write in left if write.entry.doc_id in tokens]
        changes = [self._change(write, seen.get(write.entry.doc_id), tokens) for write in left]
        self._tried |= tokens.keys()
        errors |= change(bulk, self._target.layout.write_passages, changes, self._source)
        bad = errors.keys() | bulk.conflicts
        good = [one for one in changes if one.doc_id not in bad]
        errors |= bulk.send(self._entry(self._writes[one.doc_id], tokens[one.doc_id], one.slot) for one in good)
        return bulk.conflicts - errors.keys()

    def _written_by_another(self, doc_id: str, seen: Seen | None) -> bool:
        """After an attempt of ours: whether the document is there, whole, as it was to be written."""
        write = self._writes[doc_id]
        if doc_id not in self._tried or seen is None:
            return False
        return (seen.entry.content_hash, seen.entry.passages) == (write.entry.content_hash, len(write.passages))

    def _most(self, doc_id: str, seen: Seen | None) -> int:
        """Most passages that the index may have of the document."""
        tried = len(self._writes[doc_id].passages) if doc_id in self._tried else 0
        return max(tried, seen.entry.passages if seen else 0)

    def _intent(self, write: DocumentWrite, seen: Seen | None) -> Item:
        """The document that readers may ask for stays until the last step replaces it."""
        doc_id = write.entry.doc_id
        most = max(self._most(doc_id, seen), len(write.passages))
        fields = write.entry.model_copy(update={"content_hash": "", "passages": most}).to_dict()
        del fields["document"]
        return _step(self._target.layout, doc_id, seen, fields)

    def _change(self, write: DocumentWrite, seen: Seen | None, tokens: dict[str, Token]) -> Change:
        doc_id = write.entry.doc_id
        return Change(
            doc_id,
            version=_version(tokens[doc_id]),
            write=write,
            former=self._most(doc_id, seen),
            was=seen.slot if seen else None,
            messy=doc_id in self._tried or (seen is not None and seen.unfinished),
        )

    def _entry(self, write: DocumentWrite, token: Token, slot: Slot) -> Item:
        doc_id, index = write.entry.doc_id, self._target.layout.write_documents
        source = spelled(write.entry.to_dict() | {"slot": slot})
        return Item(doc_id, "index", index, doc_id, source, only_at=token)


def _delete_once(target: Target, seen: dict[str, Seen], errors: dict[str, str]) -> set[str]:
    """A delete that is cut short must not leave a ledger that says all is well, so it has three steps, too."""
    layout, bulk = target.layout, target.bulk()
    unfinished = {doc_id: {"doc_id": doc_id, "content_hash": ""} for doc_id in seen}
    errors |= bulk.send(_step(layout, doc_id, seen[doc_id], fields) for doc_id, fields in unfinished.items())
    tokens = dict(bulk.tokens)
    changes = [
        Change(
            doc_id,
            version=_version(token),
            former=seen[doc_id].entry.passages,
            was=seen[doc_id].slot,
            messy=seen[doc_id].unfinished,
        )
        for doc_id, token in tokens.items()
    ]
    errors |= change(bulk, layout.write_passages, changes)
    bad = errors.keys() | bulk.conflicts
    errors |= bulk.send(
        Item(doc_id, "delete", layout.write_documents, doc_id, only_at=token)
        for doc_id, token in tokens.items()
        if doc_id not in bad
    )
    return bulk.conflicts - errors.keys()


def tidy(target: Target) -> None:
    """Take away the veils of killed writers. One of which a document is still unfinished stays: he may be at work.

    It changes nothing that readers see, so a server that has no time for it is asked again by the next load.
    """
    try:
        for veil in left_veils(target.client, target.address, target.layout.passages):
            now = read(target, [one.doc_id for one in veil.hidden])
            if not any(one.unfinished for one in now.values()):
                target.bulk().send([veil.removal(target.layout.write_passages)])
    except CitewellError as error:
        structlog.get_logger(__name__).warning("veils_left", reason=error.message, remedy=error.remedy)


def _step(layout: Layout, doc_id: str, seen: Seen | None, fields: dict[str, Any]) -> Item:
    """The ledger entry with these fields changed, if it is still as it was read; a new one if there is none yet."""
    index = layout.write_documents
    if seen is None:
        return Item(doc_id, "create", index, doc_id, spelled(fields))
    line = spelled({"doc": fields, "detect_noop": False})  # a step that changes nothing still needs a new token
    return Item(doc_id, "update", index, doc_id, line, only_at=seen.token)


def _version(token: Token) -> int:
    """Greater than any earlier writer's, and than the counts that Elasticsearch gives to what has no version of ours:
    the ledger is written more often than the passages that it tells of."""
    return token.seq_no + 1


def _until_won(
    ids: Sequence[str], attempt: Callable[[Sequence[str], dict[str, str]], Iterable[str]], busy_s: float
) -> dict[str, str]:
    """Try until no document is lost to another writer; pauses grow beyond the time that a write takes."""
    errors: dict[str, str] = {}
    deadline, pause = time.monotonic() + busy_s, _FIRST_PAUSE_S
    while ids:
        lost = set(attempt(ids, errors))
        ids = [doc_id for doc_id in ids if doc_id in lost]
        if ids and time.monotonic() + pause > deadline:
            return errors | dict.fromkeys(ids, Later(f"other loads kept writing it for {busy_s:.0f} s"))
        if ids:
            time.sleep(pause * random.uniform(0.2, 1.0))  # noqa: S311 - parts two writers, guards nothing
            pause = min(2 * pause, _LONGEST_PAUSE_S)
    return errors
