"""Vectors that were computed before: of passages in a file, of questions in memory.

The key is a hash of the embedder's card, the side (passage or question) and the text, so one file serves any number of
embedders, and a changed model never meets the vectors of the old one.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog

from citewell.errors import EmbedderUnavailable
from citewell.ports import Embedder, EmbedderCard, Vectors

log = structlog.get_logger(__name__)

_AT_ONCE = 500
T = TypeVar("T")


class CachedEmbedder:
    """Another embedder behind its caches. `file` None keeps no passages; `questions` 0 keeps no questions."""

    def __init__(self, inner: Embedder, *, file: Path | None = None, questions: int = 0) -> None:
        self._inner = inner
        self._file = file
        self._most = questions
        self._kept: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self.counts = {"hits": 0, "misses": 0}

    def load(self) -> None:
        self._inner.load()
        with self._lock:
            if self._file is not None and self._database is None:
                self._database = self._open(self._file)

    def close(self) -> None:
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
        self._inner.close()

    def info(self) -> dict[str, Any]:
        return self._inner.info() | {"cache": dict(self.counts)}

    def describe(self) -> EmbedderCard:
        return self._inner.describe()

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension); only texts that are not in the file are embedded."""
        if self._file is None:
            return self._inner.embed_passages(texts)
        self.load()
        keys = [self._key("passage", text) for text in texts]
        with self._lock:
            known = self._read(keys)
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self.counts["hits"] += len(texts) - len(new)
        self.counts["misses"] += len(new)
        if new:
            vectors = self._inner.embed_passages(list(new.values()))
            fresh = dict(zip(new, vectors, strict=True))
            with self._lock:
                self._keep(fresh)
            known |= fresh
        return self._stacked([known[key] for key in keys])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension); the last `questions` different ones are in memory."""
        if not self._most:
            return self._inner.embed_queries(texts)
        keys = [self._key("question", text) for text in texts]
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
            for key in known:
                self._kept.move_to_end(key)
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self.counts["hits"] += len(texts) - len(new)
        self.counts["misses"] += len(new)
        if new:
            fresh = dict(zip(new, self._inner.embed_queries(list(new.values())), strict=True))
            known |= fresh
            with self._lock:
                self._kept |= fresh
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return self._stacked([known[key] for key in keys])

    def forget(self, texts: Sequence[str]) -> int | None:
        """Drop the vectors of these passages from the file; how many are still in it, None without a file."""
        if self._file is None:
            return None
        self.load()
        keys = [(self._key("passage", text),) for text in texts]

        def drop() -> None:
            with self._used() as database:
                database.executemany("DELETE FROM vectors WHERE key = ?", keys)

        with self._lock:
            self._translated(drop)
            return len(self._read([key for (key,) in keys]))

    def _key(self, side: str, text: str) -> str:
        card = self._inner.describe()
        digest = hashlib.sha256(f"{card.name}\0{card.weights}\0{side}\0".encode())
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:32]

    def _stacked(self, vectors: list[Vectors]) -> Vectors:
        return np.stack(vectors) if vectors else np.zeros((0, self.describe().dimension), dtype=np.float32)

    def _open(self, file: Path) -> sqlite3.Connection:
        def opened() -> sqlite3.Connection:
            file.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(file, timeout=60, check_same_thread=False)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
            return database

        return self._translated(opened)

    def _read(self, keys: Sequence[str]) -> dict[str, Vectors]:
        found: dict[str, Vectors] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            sql = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"  # noqa: S608 - marks alone
            rows = self._translated(lambda sql=sql, some=some: self._used().execute(sql, some).fetchall())  # type: ignore[misc]
            found |= {key: np.frombuffer(vector, dtype="<f4") for key, vector in rows}
        return found

    def _keep(self, vectors: dict[str, Vectors]) -> None:
        """A file that cannot take them, as on a full disk, costs computing them again, and no document."""
        try:
            self._write(vectors)
        except EmbedderUnavailable as error:
            log.warning("vectors_not_kept", count=len(vectors), reason=error.message, remedy=error.remedy)

    def _write(self, vectors: dict[str, Vectors]) -> None:
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()]

        def write() -> None:
            with self._used() as database:
                database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

        self._translated(write)

    def _used(self) -> sqlite3.Connection:
        assert self._database is not None
        return self._database

    def _translated(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except (sqlite3.Error, OSError) as error:
            raise EmbedderUnavailable(
                f"the cache of vectors {self._file} cannot be used: {error}",
                remedy="Free space on its disk, or delete the file: it is made anew.",
            ) from None
