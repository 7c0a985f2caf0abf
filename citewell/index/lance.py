"""Passages and ledger in LanceDB: one folder, no server.

Full-text search and vector search both see rows from the moment they are written; `flush` only makes them fast. Each
`put` is three commits in an order that a kill cannot turn into a lie: the ledger says "unfinished", the passages of
all documents of the batch are replaced in one commit, the ledger says "done".
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import structlog

from citewell.config import Settings
from citewell.errors import IndexUnavailable
from citewell.index import lance_rows as rows
from citewell.index import lance_search
from citewell.index.lance_versions import connected, create, folder_of, table_names, versions
from citewell.index.lock import writer_lock
from citewell.index.queries import sql_in
from citewell.index.roles import choose, version_name
from citewell.index.writes import latest, problem, results
from citewell.ports import DocumentWrite, Held, Legs, LegsQuery, WriteResult
from citewell.records import Fingerprint, LedgerEntry

# Below this many passages an exact scan answers in some ten milliseconds, and needs no training.
VECTOR_INDEX_ROWS = 50_000
# Below this many rows a scan for ids is as quick as an index.
SCALAR_INDEX_ROWS = 20_000
# Many small commits slow every reader down; a long load tidies up after this many batches.
OPTIMIZE_EVERY = 64
# A search of another process may still read a version that is this old; no search takes that long.
KEEP_VERSIONS = timedelta(minutes=10)
LOCK_TIMEOUT_S = 120.0
TIDY_ATTEMPTS = 5
TIDY_PAUSE_S = 0.2
_IDS_AT_ONCE = 1000


class LanceIndex:
    """One version of the embedded index: the named one, else the one that fits.

    Any number of processes may read and write the folder; writers take turns.
    """

    def __init__(self, settings: Settings, fingerprint: Fingerprint, version: str = "") -> None:
        self._folder = folder_of(settings)
        self._name = settings.index_name
        self._recipe = settings.recipe()
        self._fingerprint = fingerprint
        self._named = version
        self._found = ""
        self._passages: Any = None
        self._documents: Any = None
        self._snapshots: lance_search.Snapshots | None = None
        self._writes = 0
        self._mutex = threading.Lock()

    # Life

    def load(self) -> None:
        """Create or open the folder. Raises `FingerprintMismatch`, `IndexUnavailable`."""
        import lancedb

        if self._passages is not None:
            return
        with self._translated("open"):
            self._folder.mkdir(parents=True, exist_ok=True)
            session = lancedb.Session()
            database = connected(self._folder, session)
            with writer_lock(self._folder / "writer.lock", LOCK_TIMEOUT_S):
                self._found = self._find(database)
                passages, documents = (database.open_table(name) for name in table_names(self._found))
                _ensure_full_text(passages)
            still = connected(self._folder, session, follow=False)
        self._snapshots = lance_search.Snapshots(lambda: still.open_table(table_names(self._found)[0]))
        self._passages, self._documents = passages, documents

    @property
    def version(self) -> str:
        self._tables()
        return self._found

    def close(self) -> None:
        self._passages = self._documents = self._snapshots = None

    def remove(self) -> None:
        with self._writing("remove"):
            shutil.rmtree(self._folder)  # every version's
        self.close()

    def info(self) -> dict[str, Any]:
        """Counts by kind; `unfinished` documents were being written when their process ended."""
        with self._translated("read"):
            documents, passages = self._tables()
            return {
                "backend": "lancedb",
                "index": self._name,
                "index_version": self._found,
                "documents": documents.count_rows("content_hash != ''"),
                "unfinished": documents.count_rows("content_hash = ''"),
                "passages": passages.count_rows(),
                "fingerprint": self._fingerprint.to_dict(),
                "folder": str(self._folder),
            }

    # Writing

    def put(self, writes: Sequence[DocumentWrite]) -> list[WriteResult]:
        errors = {write.entry.doc_id: problem(write, self._fingerprint.dimension) for write in latest(writes)}
        errors = {doc_id: reason for doc_id, reason in errors.items() if reason}
        good = [write for write in latest(writes) if write.entry.doc_id not in errors]
        if good:
            with self._writing("write to"):
                self._replace(good)
                self._writes += 1
                if self._writes % OPTIMIZE_EVERY == 0:
                    self._optimize()
        return results(writes, errors)

    def delete(self, doc_ids: Sequence[str]) -> list[WriteResult]:
        with self._writing("delete from"):
            documents, passages = self._tables()
            known = self.ledger(doc_ids)
            for some in _chunks(list(known)):
                documents.update(where=sql_in("doc_id", some), values={"content_hash": ""})
                passages.delete(sql_in("doc_id", some))
                documents.delete(sql_in("doc_id", some))
        return [
            WriteResult(doc_id=doc_id, found=doc_id in known, passages=known[doc_id].passages if doc_id in known else 0)
            for doc_id in doc_ids
        ]

    def amend(self, entries: Sequence[LedgerEntry]) -> None:
        """One commit: rows are written whole, with the document as it is."""
        if not entries:
            return
        changed = {e.doc_id: {"source": e.source, "revision": e.revision} for e in entries}
        with self._writing("write to"):
            known = self.ledger(list(changed), with_document=True)
            written = [entry.model_copy(update=changed[doc_id]) for doc_id, entry in known.items()]
            self._tables()[0].merge_insert("doc_id").when_matched_update_all().execute(rows.ledger_rows(written))

    def flush(self) -> None:
        """Bring the indices up to date. Searches see earlier writes without it, only slower: a full disk warns."""
        self._tables()
        try:
            with self._writing("tidy"):
                self._optimize()
        except IndexUnavailable as error:
            structlog.get_logger(__name__).warning("index_not_tidied", reason=error.message, remedy=error.remedy)

    # Reading

    def legs(self, query: LegsQuery) -> Legs:
        self._tables()
        assert self._snapshots is not None
        with self._translated("search"), self._snapshots.latest() as passages:
            return lance_search.legs(passages, query, self._fingerprint.similarity, self._found)

    def ledger(self, doc_ids: Sequence[str], *, with_document: bool = False) -> dict[str, LedgerEntry]:
        columns = rows.LEDGER_COLUMNS + (["document"] if with_document else [])
        found: dict[str, LedgerEntry] = {}
        with self._translated("read"):
            documents, _ = self._tables()
            for some in _chunks(list(dict.fromkeys(doc_ids))):
                search = documents.search().where(sql_in("doc_id", some)).select(columns).limit(len(some))
                for row in search.to_arrow().to_pylist():
                    found[row["doc_id"]] = rows.to_entry(row)
        return found

    def entries(self) -> Iterator[LedgerEntry]:
        with self._translated("read"):
            documents, _ = self._tables()
            count = documents.count_rows()
            if not count:
                return
            table = documents.search().select(rows.LEDGER_COLUMNS).limit(count).to_arrow().sort_by("doc_id")
        for batch in table.to_batches(max_chunksize=_IDS_AT_ONCE):
            for row in batch.to_pylist():
                yield rows.to_entry(row)

    def held(self, doc_ids: Sequence[str] | None = None) -> Iterator[Held]:
        if doc_ids is not None:
            for some in _chunks(sorted(set(doc_ids))):
                with self._translated("read"):
                    found = rows.held(self._tables()[1], sql_in("doc_id", some))
                yield from found
            return
        with self._translated("read"):
            every = rows.held(self._tables()[1])
        yield from every

    def expel(self, doc_id: str, keep: int = 0) -> None:
        with self._writing("tidy"):
            self._tables()[1].delete(f"{sql_in('doc_id', [doc_id])} AND ordinal >= {int(keep)}")

    # Steps

    def _find(self, database: Any) -> str:
        """The version to open, the first one made where there is none; the caller holds the lock."""
        found = versions(database, self._folder, self._name)
        if not found:
            create(database, version_name(self._name, 1), self._fingerprint, self._recipe)
            found = versions(database, self._folder, self._name)
        where = f"the index `{self._name}` in {self._folder}"
        chosen = choose(found, self._fingerprint, self._named, where)
        if chosen is None:
            raise IndexUnavailable(
                f"{where} has no current version, but {', '.join(version.name for version in found)}",
                remedy="`citewell index promote NAME` makes one current.",
            )
        if chosen.role == "previous" and not self._named:
            structlog.get_logger(__name__).warning("index_previous", version=chosen.name)
        return chosen.name

    def _replace(self, writes: list[DocumentWrite]) -> None:
        documents, passages = self._tables()
        known = self.ledger([write.entry.doc_id for write in writes])
        fresh = [write for write in writes if write.entry.doc_id not in known]
        if known:
            documents.update(where=sql_in("doc_id", known), values={"content_hash": ""})
        if fresh:
            documents.add(rows.ledger_rows([_intent(write) for write in fresh]))
        batch = rows.passage_rows(writes, passages.schema)
        if not known:
            if batch.num_rows:
                passages.add(batch)
        elif batch.num_rows:
            merge = passages.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(sql_in("doc_id", known)).execute(batch)
        else:
            passages.delete(sql_in("doc_id", known))
        final = documents.merge_insert("doc_id").when_matched_update_all().when_not_matched_insert_all()
        final.execute(rows.ledger_rows([write.entry for write in writes]))

    def _optimize(self) -> None:
        from lancedb.index import Bitmap, BTree, LabelList

        for table in self._tables():
            _tidy(table)
        documents, passages = self._tables()
        count = passages.count_rows()
        wanted: list[tuple[Any, str, Any]] = []
        if count >= SCALAR_INDEX_ROWS:  # of ids for writes, of the rest for filters: without them, every row is read
            wanted += [(passages, "id", BTree()), (passages, "doc_id", BTree()), (passages, "lang", Bitmap())]
            wanted += [(passages, "readers", LabelList()), (passages, "meta_terms", LabelList())]
        if documents.count_rows() >= SCALAR_INDEX_ROWS:
            wanted.append((documents, "doc_id", BTree()))
        if count >= VECTOR_INDEX_ROWS and self._fingerprint.vector_index != "flat":
            wanted.append((passages, "vector", _vector_index(self._fingerprint)))
        for table, column, config in wanted:
            if column not in _indexed_columns(table):
                table.create_index(column, config=config)

    # Shelter

    def _tables(self) -> tuple[Any, Any]:
        if self._passages is None:
            raise IndexUnavailable("the index is not open", remedy="Call `load` first.")
        return self._documents, self._passages

    @contextlib.contextmanager
    def _writing(self, action: str) -> Iterator[None]:
        self._tables()
        with self._translated(action), self._mutex, writer_lock(self._folder / "writer.lock", LOCK_TIMEOUT_S):
            yield

    def _translated(self, action: str) -> contextlib.AbstractContextManager[None]:
        return rows.translated(str(self._folder), action)


def _tidy(table: Any) -> None:
    """Optimize. A write whose caller was interrupted may still commit in LanceDB's own thread: then once more."""
    for left in range(TIDY_ATTEMPTS - 1, -1, -1):
        try:
            table.optimize(cleanup_older_than=KEEP_VERSIONS)
            return
        except RuntimeError as error:
            if not left or "Retryable commit conflict" not in str(error):
                raise
            time.sleep(TIDY_PAUSE_S)


def _vector_index(fingerprint: Fingerprint) -> Any:
    """LanceDB's nearest to what Elasticsearch calls so: a graph over bytes, or one bit a dimension (RaBitQ)."""
    from lancedb.index import HnswSq, IvfRq

    kind = IvfRq if fingerprint.vector_index == "bbq_hnsw" else HnswSq
    return kind(distance_type=fingerprint.similarity)


def _ensure_full_text(passages: Any) -> None:
    from lancedb.index import FTS

    present = _indexed_columns(passages)
    for column in (rows.WORDS, rows.STEMS):
        if column not in present:
            passages.create_index(column, config=FTS(**rows.TOKENIZER))


def _indexed_columns(table: Any) -> set[str]:
    return {column for index in table.list_indices() for column in index.columns}


def _intent(write: DocumentWrite) -> LedgerEntry:
    """What the ledger says while the passages are being written."""
    return write.entry.model_copy(update={"content_hash": "", "document": None, "passages": len(write.passages)})


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]
