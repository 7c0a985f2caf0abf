"""One index version brought up to another, by their ledgers, while both may be written to.

Both ledgers are read side by side in the order of ids; only documents whose hashes differ are split and embedded. So a
pass over what is done already costs two walks over the ledgers, and a run that was killed goes on where it stopped. A
document that changes between being read and being written has another hash in the next pass; the last pass finds
nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from citewell.ingest.items import in_batches
from citewell.ingest.pipeline import Pipeline
from citewell.ports import Index
from citewell.records import LedgerEntry

BATCH_DOCUMENTS = 64
# Dual writes leave a pass less and less to do; an index that changes faster than it is read would need endless passes.
MAX_PASSES = 50


@dataclass(frozen=True)
class Progress:
    """After a batch: totals of this run. `failed` has reasons by document id.

    `settled` is true once a whole pass had nothing to do but what failed.
    """

    copied: int = 0
    deleted: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    passes: int = 0
    settled: bool = False


def follow(source: Index, target: Pipeline, *, delete: bool = True) -> Iterator[Progress]:
    """Copy what `target` lacks of `source`, and delete what `source` no longer has, pass by pass until nothing is left.

    Without `delete` (after a swap, when new documents may reach the target first) only what is newer in the source is
    copied. Raises what the indices and the embedder raise; what is written stays, and another run goes on.
    """
    failed: dict[str, str] = {}
    copied = deleted = 0
    for number in range(1, MAX_PASSES + 1):
        source.flush()
        target.index.flush()
        before = copied + deleted
        for ids in in_batches(differing(source.entries(), target.index.entries(), both=delete), BATCH_DOCUMENTS):
            found = source.ledger([doc_id for doc_id in ids if doc_id not in failed], with_document=True)
            ready = [entry for entry in found.values() if entry.content_hash]
            errors = target.copy(ready)
            failed |= errors
            copied += len(ready) - len(errors)
            gone = [doc_id for doc_id in ids if doc_id not in found and doc_id not in failed] if delete else []
            deleted += sum(result.found for result in target.index.delete(gone)) if gone else 0
            yield Progress(copied, deleted, failed, number)
        if copied + deleted == before:
            break
    target.index.flush()
    yield Progress(copied, deleted, failed, number, settled=copied + deleted == before)


def behind(source: Index, target: Index) -> int:
    """Documents that `target` has otherwise than `source`, or not, or still has."""
    return sum(1 for _ in differing(source.entries(), target.entries()))


def differing(source: Iterable[LedgerEntry], target: Iterable[LedgerEntry], *, both: bool = True) -> Iterator[str]:
    """Ids of documents that the two ledgers, each in the order of ids, do not have alike.

    What is half-written in the source has no hash yet and is left to its writer. Without `both`, only documents that
    the source has, and has newer.
    """
    theirs = iter(target)
    other = next(theirs, None)
    for entry in source:
        while other is not None and other.doc_id < entry.doc_id:
            if both:
                yield other.doc_id
            other = next(theirs, None)
        if other is not None and other.doc_id == entry.doc_id:
            newer = both or not other.content_hash or entry.indexed_at > other.indexed_at
            if entry.content_hash not in ("", other.content_hash) and newer:
                yield entry.doc_id
            other = next(theirs, None)
        elif entry.content_hash:
            yield entry.doc_id
    while both and other is not None:
        yield other.doc_id
        other = next(theirs, None)
