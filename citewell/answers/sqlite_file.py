"""The SQLite file behind the embedded stack's answers: its schema, connections, transactions and errors."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from citewell.errors import StoreUnavailable

_BUSY_S = 15.0
_SCHEMA = (
    """CREATE TABLE answers (
        id TEXT PRIMARY KEY, generator TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL,
        spent INTEGER NOT NULL, lease_until REAL NOT NULL, returned INTEGER NOT NULL,
        due_at REAL NOT NULL, expires_at REAL NOT NULL, record TEXT NOT NULL)""",
    "CREATE INDEX answers_expiry ON answers (expires_at)",
    "CREATE INDEX answers_due ON answers (due_at) WHERE state IN ('queued', 'running')",
    """CREATE TABLE jobs (
        answer_id TEXT PRIMARY KEY REFERENCES answers (id) ON DELETE CASCADE, job TEXT NOT NULL)""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, answer_id TEXT NOT NULL REFERENCES answers (id) ON DELETE CASCADE,
        kind TEXT NOT NULL, data TEXT NOT NULL)""",
    "CREATE INDEX events_by_answer ON events (answer_id, id)",
)
# What brings a file of version n + 1 to the next; a new file goes the same way.
_UPGRADES = (
    (
        "ALTER TABLE answers ADD COLUMN priority TEXT NOT NULL DEFAULT 'interactive'",
        "ALTER TABLE answers ADD COLUMN created_at REAL NOT NULL DEFAULT 0",
        "ALTER TABLE answers ADD COLUMN deadline REAL NOT NULL DEFAULT 0",
        "CREATE INDEX answers_deadline ON answers (deadline) WHERE state IN ('queued', 'running') AND deadline > 0",
    ),
    (
        "CREATE INDEX answers_line ON answers (generator, priority, created_at) WHERE state = 'queued'",
        "CREATE TABLE paces (generator TEXT PRIMARY KEY, answers INTEGER NOT NULL, seconds REAL NOT NULL)",
    ),
    (
        "ALTER TABLE answers ADD COLUMN callback_at REAL NOT NULL DEFAULT 0",
        "CREATE INDEX answers_callback ON answers (callback_at) WHERE callback_at > 0",
    ),
    (
        """CREATE TABLE quotes (
            doc_id TEXT NOT NULL, answer_id TEXT NOT NULL REFERENCES answers (id) ON DELETE CASCADE,
            PRIMARY KEY (doc_id, answer_id)) WITHOUT ROWID""",
        "CREATE INDEX quotes_by_answer ON quotes (answer_id)",
        "CREATE TABLE announced (doc_id TEXT PRIMARY KEY, at REAL NOT NULL)",
        "CREATE TABLE went (doc_id TEXT PRIMARY KEY, n INTEGER NOT NULL)",
        "CREATE INDEX went_by_moment ON went (n)",
        "CREATE TABLE moments (n INTEGER NOT NULL)",
        "INSERT INTO moments VALUES (0)",
    ),
    (
        """CREATE TABLE cache (
            key TEXT PRIMARY KEY, scope TEXT NOT NULL, question TEXT NOT NULL, vector BLOB NOT NULL,
            answer_id TEXT NOT NULL REFERENCES answers (id) ON DELETE CASCADE, expires_at REAL NOT NULL)""",
        "CREATE INDEX cache_by_scope ON cache (scope, expires_at)",
        "CREATE INDEX cache_by_answer ON cache (answer_id)",
        "CREATE INDEX cache_expiry ON cache (expires_at)",
        "CREATE TABLE counts (outcome TEXT PRIMARY KEY, n INTEGER NOT NULL)",
    ),
    (
        """CREATE TABLE feedback (
            n INTEGER PRIMARY KEY AUTOINCREMENT, answer_id TEXT NOT NULL, caller TEXT NOT NULL,
            given_at REAL NOT NULL, record TEXT NOT NULL, UNIQUE (answer_id, caller))""",
        "CREATE INDEX feedback_by_time ON feedback (given_at, n)",
    ),
)
_VERSION = 1 + len(_UPGRADES)
_REMEDIES = {
    "SQLITE_FULL": "Free space on that disk, then try again.",
    "SQLITE_IOERR": "Check the disk for space, quota and errors, then try again.",
    "SQLITE_CORRUPT": "Move the file away: answers kept in it are lost, documents are not.",
    "SQLITE_NOTADB": "Move the file away: answers kept in it are lost, documents are not.",
    "SQLITE_READONLY": "Make the file and its folder writable, or change the setting `data_dir`.",
    "SQLITE_CANTOPEN": "Make the folder writable, or change the setting `data_dir`.",
    "SQLITE_BUSY": "Another process holds the file for long: end it, or try again.",
}


class AnswersFile:
    """One file in WAL mode. Safe to share between threads; other processes may have it open, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._open = False
        # Writers of this process queue up here, which is fairer than SQLite's busy waiting.
        self._writing = threading.Lock()
        self._changed = threading.Condition()
        self._changes = 0

    def load(self) -> bool:
        """Open the file, and make or upgrade its tables; False when it was open already."""
        if self._open:
            return False
        with self._translated("be opened"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connect()
            try:
                _enter_wal(connection)
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._idle.append(connection)
        self._open = True
        return True

    def close(self) -> None:
        self._open = False
        while self._idle:
            self._idle.pop().close()
        self._tell()

    def bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def changes(self) -> int:
        """How many writes this process has made; `wait` tells of the next."""
        with self._changed:
            return self._changes

    def wait(self, seen: int, seconds: float) -> None:
        """Until this process has written since there were `seen` changes, or for that time."""
        with self._changed:
            if self._changes == seen:
                self._changed.wait(seconds)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Create the tables, or check that they are ours; another process may be doing the same."""
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA:
                connection.execute(statement)
        for upgrade in _UPGRADES[max(0, version - 1) :]:
            for statement in upgrade:
                connection.execute(statement)
        if version < _VERSION:
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        if version < _VERSION:  # the tables' own pages need not stay in the journal
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if version > _VERSION:
            raise StoreUnavailable(
                f"{self.path} has schema {version}; this version of Citewell reads up to {_VERSION}",
                remedy="Use the newer version of Citewell that wrote it, or another `data_dir`.",
            )

    @contextmanager
    def read(self, what: str) -> Iterator[sqlite3.Connection]:
        """A connection for one statement; one that failed is closed, all others are kept for the next."""
        if not self._open:
            raise StoreUnavailable(f"{self.path} is not open and could not {what}", remedy="Call load() first.")
        with self._translated(what):
            connection = self._take() or self._connect()
            try:
                yield connection
            except sqlite3.Error:
                connection.close()
                raise
            except BaseException:
                self._give_back(connection)
                raise
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection | None:
        try:
            return self._idle.pop()
        except IndexError:  # all are in use
            return None

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._open:
            self._idle.append(connection)
        else:
            connection.close()

    @contextmanager
    def write(self, what: str) -> Iterator[sqlite3.Connection]:
        """One transaction that holds the write lock from its start; rolled back by any exception."""
        with self._writing, self.read(what) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself rolls back on a full disk
                    connection.execute("ROLLBACK")
                raise
        self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as cause:
            name = getattr(cause, "sqlite_errorname", "")
            # Extended names (SQLITE_IOERR_WRITE) begin with the plain one.
            known = [remedy for prefix, remedy in _REMEDIES.items() if name.startswith(prefix)]
            remedy = known[0] if known else "Check the folder that the setting `data_dir` names."
            raise StoreUnavailable(f"{self.path} could not {what}: {cause}", remedy=remedy) from cause


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Two first starts that wait for each other's lock in this statement would wait in vain, so each
    tries without waiting, again and again.
    """
    deadline = time.monotonic() + _BUSY_S
    connection.execute("PRAGMA busy_timeout = 0")
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")
