"""What `citewell doctor` looks for: parts that do not agree with each other, and what nobody needs any more.

Ledger and passages of each live version are walked side by side in the order of ids. A walk is no snapshot, so what
looks wrong is looked at again after a pause: what has moved meanwhile is somebody's work and no finding.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from citewell.errors import CitewellError, IndexUnavailable
from citewell.index.roles import LIVE
from citewell.library import Library
from citewell.ports import Finding, Held, Index, IndexVersion, Inspection
from citewell.records import LedgerEntry

# Seconds between the two looks; a load that is alive has moved on by then.
SETTLE_S = 2.0
_AT_ONCE = 200

STRAY = "passages_without_document"
LACKING = "document_without_passages"
LEFT_OVER = "left_over_passages"
UNFINISHED = "unfinished_document"

# What ledger and index say of one document.
Pair = tuple[LedgerEntry | None, Held | None]


@dataclass(frozen=True)
class Result:
    """A finding and what became of it: `problem` says why a repair failed."""

    finding: Finding
    fixed: bool = False
    problem: str = ""
    remedy: str = ""

    @property
    def wrong(self) -> bool:
        """Whether something is wrong now."""
        return not self.fixed and not self.finding.note


def look(inspection: Inspection, *, fix: bool) -> Iterator[Result]:
    """Everything that one inspection finds, repaired one by one where that is wanted and possible."""
    for finding in inspection.findings():
        if not fix or not finding.fixable:
            yield Result(finding)
            continue
        try:
            inspection.repair(finding)
        except CitewellError as error:
            yield Result(finding, problem=error.message, remedy=error.remedy)
        else:
            yield Result(finding, fixed=True)


def documents(library: Library, *, settle_s: float = SETTLE_S) -> Iterator[Inspection]:
    """An inspection of the documents of each live version."""
    for version in library.versions().all():
        if version.role in LIVE:
            yield Documents(library, version, settle_s=settle_s)


def judge(entry: LedgerEntry | None, held: Held | None) -> str:
    """What is wrong with a document, or "". Pure."""
    if entry is None:
        return STRAY if held else ""
    if not entry.content_hash:
        return UNFINISHED
    count, highest = (held.passages, held.highest) if held else (0, -1)
    if count == entry.passages and highest == entry.passages - 1:
        return ""
    return LEFT_OVER if count > entry.passages else LACKING


def side_by_side(entries: Iterable[LedgerEntry], holdings: Iterable[Held]) -> Iterator[tuple[str, Pair]]:
    """Both walks, each in the order of ids, as one. Pure, in constant memory."""
    held_walk = iter(holdings)
    held = next(held_walk, None)
    for entry in entries:
        while held is not None and held.doc_id < entry.doc_id:
            yield held.doc_id, (None, held)
            held = next(held_walk, None)
        if held is not None and held.doc_id == entry.doc_id:
            yield entry.doc_id, (entry, held)
            held = next(held_walk, None)
        else:
            yield entry.doc_id, (entry, None)
    while held is not None:
        yield held.doc_id, (None, held)
        held = next(held_walk, None)


class Documents:
    """Ledger against passages, in one version."""

    def __init__(self, library: Library, version: IndexVersion, *, settle_s: float) -> None:
        self._library = library
        self._version = version
        self._settle_s = settle_s
        self._index: Index | None = None

    def findings(self) -> Iterator[Finding]:
        with self._open() as index:
            walk = side_by_side(index.entries(), index.held())
            suspects = ((doc_id, pair) for doc_id, pair in walk if judge(*pair))
            while some := dict(islice(suspects, _AT_ONCE)):
                time.sleep(self._settle_s)
                index.flush()
                entries = index.ledger(list(some), with_document=True)
                holdings = {held.doc_id: held for held in index.held(list(some))}
                for doc_id, seen in some.items():
                    entry = entries.get(doc_id)
                    bare = entry.model_copy(update={"document": None}) if entry else None
                    if (bare, holdings.get(doc_id)) == seen:
                        yield self._finding(doc_id, seen, kept=entry is not None and entry.document is not None)

    def repair(self, finding: Finding) -> None:
        with self._open() as index:
            if finding.kind == STRAY:
                index.expel(finding.name)
                return
            entry = index.ledger([finding.name], with_document=True).get(finding.name)
            if entry is None:  # deleted meanwhile; what is left of it is found in the next run
                return
            if entry.document is None:
                index.delete([finding.name])
                index.expel(finding.name)
                index.flush()
                return
            self._write_anew(index, entry)

    def _write_anew(self, index: Index, entry: LedgerEntry) -> None:
        """In place first, so that readers always find the document; from nothing where that does not help."""
        assert entry.document is not None
        whole = entry.model_copy(update={"content_hash": entry.document.content_hash()})
        for from_nothing in (False, True):
            if from_nothing:
                index.expel(entry.doc_id)
            if error := self._library.copy(self._version, [whole]).get(entry.doc_id):
                raise IndexUnavailable(
                    f"{entry.doc_id} cannot be written to {self._version.name}: {error}",
                    remedy="Delete the document, mend it in its source and load it again.",
                )
            index.expel(entry.doc_id, keep=index.ledger([entry.doc_id])[entry.doc_id].passages)
            index.flush()
            held = next(iter(index.held([entry.doc_id])), None)
            if not judge(index.ledger([entry.doc_id]).get(entry.doc_id), held):
                return
        raise IndexUnavailable(
            f"{entry.doc_id} is still not whole in {self._version.name}",
            remedy="If a load is writing it, let that end and look again. Otherwise delete it and load it again.",
        )

    @contextlib.contextmanager
    def _open(self) -> Iterator[Index]:
        """The version, opened once for a whole walk with its repairs."""
        if self._index is not None:
            yield self._index
            return
        with self._library.reading(self._version) as index:
            self._index = index
            try:
                yield index
            finally:
                self._index = None

    def _finding(self, doc_id: str, seen: Pair, *, kept: bool) -> Finding:
        entry, held = seen
        kind = judge(entry, held)
        wanted, count = entry.passages if entry else 0, held.passages if held else 0
        reason = {
            STRAY: f"{count} passages belong to no document",
            LACKING: f"the ledger says {wanted} passages, the index has {count}",
            LEFT_OVER: f"the ledger says {wanted} passages, the index has {count}",
            UNFINISHED: "it was being written when its load ended",
        }[kind]
        if kind == STRAY:
            remedy = "--fix deletes them."
        elif kept:
            remedy = "--fix splits and embeds it anew, from the text that the ledger keeps."
            remedy += " Load its source again, which may hold a newer one." if kind == UNFINISHED else ""
        else:
            remedy = "Its text is not kept: --fix removes what there is of it. Load its source again."
        return Finding(kind, self._version.name, doc_id, reason, remedy)


class Twice:
    """An inspection with few findings, of which only those count that are there again after a pause."""

    def __init__(self, inspection: Inspection, *, settle_s: float = SETTLE_S) -> None:
        self._inspection = inspection
        self._settle_s = settle_s

    def findings(self) -> Iterator[Finding]:
        first = set(self._inspection.findings())
        if first:
            time.sleep(self._settle_s)
            yield from (finding for finding in self._inspection.findings() if finding in first)

    def repair(self, finding: Finding) -> None:
        self._inspection.repair(finding)
