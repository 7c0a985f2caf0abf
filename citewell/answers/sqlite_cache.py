"""Pointers to answers in SQLite that may be given again; they go with their answer."""

from __future__ import annotations

from collections.abc import Callable

from citewell.answers.sqlite_file import AnswersFile
from citewell.config import Settings
from citewell.ports import Kept

# Questions of one scope that are compared.
NEAR = 200


class SqliteCache:
    def __init__(self, file: AnswersFile, settings: Settings, clock: Callable[[], float]) -> None:
        self._file = file
        self._ttl = min(settings.cache_ttl, settings.answer_ttl)
        self._size = settings.cache_size
        self._clock = clock

    def find(self, key: str) -> str:
        with self._file.read("look into the cache") as reader:
            query = "SELECT answer_id FROM cache WHERE key = ? AND expires_at > ?"
            row = reader.execute(query, (key, self._clock())).fetchone()
        return str(row[0]) if row else ""

    def near(self, scope: str) -> list[Kept]:
        with self._file.read("look into the cache") as reader:
            rows = reader.execute(
                "SELECT answer_id, question, vector FROM cache WHERE scope = ? AND vector != x'' AND expires_at > ?"
                " ORDER BY expires_at DESC, rowid DESC LIMIT ?",
                (scope, self._clock(), NEAR),
            )
            return [Kept(*row) for row in rows]

    def keep(self, key: str, scope: str, kept: Kept) -> None:
        with self._file.write("keep an answer") as writer:
            now = self._clock()
            writer.execute(
                "INSERT OR REPLACE INTO cache (key, scope, answer_id, question, vector, expires_at)"
                " SELECT ?, ?, id, ?, ?, ? FROM answers WHERE id = ?",
                (key, scope, kept.question, kept.vector, now + self._ttl, kept.answer_id),
            )
            writer.execute("DELETE FROM cache WHERE expires_at <= ?", (now,))
            writer.execute(
                "DELETE FROM cache WHERE rowid IN"
                " (SELECT rowid FROM cache ORDER BY expires_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                (self._size,),
            )

    def count(self, outcome: str) -> None:
        with self._file.write("count") as writer:
            writer.execute("INSERT INTO counts VALUES (?, 1) ON CONFLICT (outcome) DO UPDATE SET n = n + 1", (outcome,))

    def counts(self) -> dict[str, int]:
        with self._file.read("tell what was counted") as reader:
            return dict(reader.execute("SELECT outcome, n FROM counts").fetchall())
