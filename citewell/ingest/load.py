"""Sources loaded into the index and, with `sync`, the index kept in step with them: what a source no longer has goes.

Deleting needs certainty. So a source's documents are deleted only after it was read to its end; not while something
in it could not be read that may hide documents; not what somebody else wrote meanwhile; and not more than `max_delete`
of them. A refusal is a failed outcome under the source's name, and the rest of the load stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

from citewell.config import Settings
from citewell.errors import ConfigError, DeletesRefused
from citewell.ingest.compare import status_of
from citewell.ingest.failures import Failures
from citewell.ingest.items import in_batches
from citewell.ingest.known import known_of
from citewell.ingest.sources import Item, Known, Limits, Source, SourceOptions, Tell, failed, open_source, still_there
from citewell.ingest.sources.options import column_pairs
from citewell.ports import Ledger
from citewell.records import Document, LedgerEntry, Outcome
from citewell.schedule import MAX_DELETE, SourceTable, bound_of

_AT_ONCE = 500
# Names of what could not be read that are compared with the ledger; with more, nothing is deleted.
_MOST_DOUBTS = 10_000
_NAMED = 3


@dataclass(frozen=True)
class Loading:
    """How sources are loaded. `max_delete` is a share like `20%` or a number.

    `ignore_errors` deletes although something of the source could not be read. `failures` is where documents go that
    could not be loaded. `distributed` leaves the work to ingest workers, and `note` is told what it has to wait for.
    """

    sync: bool = False
    max_delete: str = MAX_DELETE
    ignore_errors: bool = False
    failures: Path | None = None
    distributed: bool = False
    note: Callable[[str], None] = lambda text: None

    def check(self, settings: Settings) -> None:
        """Raises `ConfigError` for what these settings cannot do."""
        if self.distributed and settings.stack != "served":
            raise ConfigError(
                "a distributed load needs workers, and the embedded stack has none",
                remedy='Leave out --distributed, or set `stack` to "served" and start `citewell worker --ingest`.',
            )


_ONCE = Loading()
_NO_OPTIONS = SourceOptions()


class EntriesById(Ledger, Protocol):
    """The ledger of an open index."""

    def ledger(self, doc_ids: Sequence[str], *, with_document: bool = False) -> dict[str, LedgerEntry]: ...


class Shelf(Protocol):
    """What a load needs of a library."""

    def put(self, items: Iterable[Item], source: str) -> Iterator[Outcome]: ...

    def delete(self, doc_ids: Sequence[str]) -> list[Outcome]: ...

    def index(self) -> EntriesById: ...


def opened(sources: Sequence[Source | str], settings: Settings, options: SourceOptions = _NO_OPTIONS) -> list[Source]:
    """Sources as they are, and what an argument of the command line means."""
    limits = Limits.of(settings)
    return [open_source(source, limits, options) if isinstance(source, str) else source for source in sources]


def source_of(table: SourceTable, settings: Settings, plan: Loading = _ONCE) -> tuple[Source, Loading]:
    """A source of the settings, and how it is loaded: `plan`, changed by what the table says."""
    own = replace(
        plan,
        sync=table.sync or plan.sync,
        max_delete=table.max_delete or plan.max_delete,
        failures=Path(table.failures) if table.failures else plan.failures,
    )
    key = settings.source_api_key.get_secret_value()
    columns = column_pairs([f"{field}={column}" for field, column in table.map.items()])
    options = SourceOptions(query=table.query, columns=columns, since=table.since, sync=own.sync, api_key=key)
    return open_source(table.source, Limits.of(settings), options), own


def load_sources(shelf: Shelf, sources: Sequence[Source], plan: Loading, tell: Tell) -> Iterator[Outcome]:
    """One outcome a document, as it happens; deletes come last. Raises what a source, the index or the embedder
    raises: then nothing is deleted.
    """
    started = time.time()
    readings = [_Reading(source) for source in sources]
    known = known_of(shelf.index(), {reading.name for reading in readings})
    items = chain.from_iterable(reading.items(known[reading.name], tell) for reading in readings)
    with nullcontext() if plan.failures is None else Failures(plan.failures) as file:
        if file is None:
            yield from shelf.put(items, "")
        else:
            yield from file.of(lambda watched: shelf.put(watched, ""), items)
    if plan.sync:
        for reading, gone in zip(readings, _gone(shelf.index(), readings, started), strict=True):
            refusal = reading.refusal(shelf.index(), gone, plan)
            if refusal is not None:
                yield refusal
                continue
            for some in in_batches(gone.doc_ids, _AT_ONCE):
                still = _still_of(shelf.index().ledger(some), reading.name, started)
                yield from (outcome.model_copy(update={"source": reading.name}) for outcome in shelf.delete(still))


def preview_sources(
    ledger: EntriesById | None, sources: Sequence[Source], plan: Loading, tell: Tell
) -> Iterator[Outcome]:
    """What `load_sources` would do; writes and embeds nothing. A `ledger` of None is an index that is not there yet."""
    started = time.time()
    readings = [_Reading(source) for source in sources]
    known = {} if ledger is None else known_of(ledger, {reading.name for reading in readings})
    for reading in readings:
        yield from _compared(ledger, reading.items(known.get(reading.name, Known()), tell))
    if not plan.sync or ledger is None:
        return
    for reading, gone in zip(readings, _gone(ledger, readings, started), strict=True):
        refusal = reading.refusal(ledger, gone, plan)
        if refusal is not None:
            yield refusal
        for doc_id in gone.doc_ids:
            yield Outcome(doc_id=doc_id, status="deleted", source=reading.name)


@dataclass
class _Gone:
    """Documents of a source that it no longer has, and how many the ledger has of it."""

    doc_ids: list[str] = field(default_factory=list)
    total: int = 0


def _gone(ledger: Ledger, readings: Sequence[_Reading], started: float) -> list[_Gone]:
    """For each source; the ledger is walked over once."""
    found = [_Gone() for _ in readings]
    of: dict[str, list[tuple[_Reading, _Gone]]] = {}
    for reading, gone in zip(readings, found, strict=True):
        of.setdefault(reading.name, []).append((reading, gone))
    for entry in ledger.entries():
        for reading, gone in of.get(entry.source, ()):
            gone.total += 1
            if entry.indexed_at < started and not reading.saw(entry.doc_id):
                gone.doc_ids.append(entry.doc_id)
    return found


class _Reading:
    """One source being read: which documents it has, and whether that is all of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name
        self._seen: set[int] = set()
        self._doubts: list[str] = []
        self._ended = False

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        """The source's items, documents under its name unless they have another."""
        for item in self._source.items(known, tell):
            if isinstance(item, Document):
                self._seen.add(_key(item.id))
                yield item if item.source else item.model_copy(update={"source": self.name})
                continue
            if still_there(item):
                self._seen.add(_key(item.doc_id))
            elif item.status == "failed":
                yield item
                continue
            if item.status == "failed" and not item.exact and len(self._doubts) <= _MOST_DOUBTS:
                self._doubts.append(item.doc_id)
            yield item
        self._ended = True

    def saw(self, doc_id: str) -> bool:
        return _key(doc_id) in self._seen

    def refusal(self, ledger: EntriesById, gone: _Gone, plan: Loading) -> Outcome | None:
        """Why these are not deleted, if they are not."""
        count = len(gone.doc_ids)
        doubts = [] if plan.ignore_errors or not count else self._hiding(ledger)
        allowed = bound_of(plan.max_delete).of(gone.total)
        if count and not self._ended:
            error = DeletesRefused("nothing was deleted: the source was not read to its end", remedy="Load it again.")
        elif doubts:
            named = ", ".join(doubts[:_NAMED]) + (" …" if len(doubts) > _NAMED else "")
            error = DeletesRefused(
                f"{count} documents that it no longer has were not deleted: {len(doubts)} items could not be read and "
                f"may hide them: {named}",
                remedy="Mend those, or say --ignore-errors.",
            )
        elif count > allowed:
            error = DeletesRefused(
                f"{count} of its {gone.total} documents are no longer there, and {plan.max_delete} ({allowed}) may be "
                "deleted at once; none was",
                remedy=f"Check the source. If it is right: --max-delete {count}.",
            )
        else:
            return None
        return failed(self.name, self.name, error)

    def _hiding(self, ledger: EntriesById) -> list[str]:
        """Failures that do not name a document of this source."""
        if len(self._doubts) > _MOST_DOUBTS:
            return self._doubts
        known = ledger.ledger(self._doubts)
        return [name for name in self._doubts if name not in known or known[name].source != self.name]


def _key(doc_id: str) -> int:
    """64 bits a document instead of its id. Two that share them are both taken for seen."""
    return hash(doc_id)


def _still_of(entries: dict[str, LedgerEntry], name: str, started: float) -> list[str]:
    """Those that nobody has written, or given another source, since they were found gone."""
    return [entry.doc_id for entry in entries.values() if entry.source == name and entry.indexed_at < started]


def _compared(ledger: EntriesById | None, items: Iterable[Item]) -> Iterator[Outcome]:
    for batch in in_batches(items, _AT_ONCE):
        ids = [item.id for item in batch if isinstance(item, Document)]
        known = ledger.ledger(ids) if ledger is not None else {}
        for item in batch:
            if isinstance(item, Outcome):
                yield item
            else:
                status = status_of(known.get(item.id), item.content_hash())
                yield Outcome(doc_id=item.id, status=status, source=item.source)
