"""Answers in SQLite by the documents that they hold: rows that go with their answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

from citewell.answers.sqlite_file import AnswersFile
from citewell.errors import UnknownAnswer
from citewell.records import Answer, Evidence

# Documents that went which are remembered; a question whose search began before all of them is searched again.
REMEMBERED = 10_000
_AT_ONCE = 500


class SqliteQuotes:
    def __init__(self, file: AnswersFile, clock: Callable[[], float], cancel: Callable[[str], Answer]) -> None:
        self._file = file
        self._clock = clock
        self._cancel = cancel

    def enter(self, writer: sqlite3.Connection, answer_id: str, evidence: Evidence) -> None:
        """In the transaction that creates the answer."""
        rows = [(doc_id, answer_id) for doc_id in evidence.documents()]
        writer.executemany("INSERT OR IGNORE INTO quotes VALUES (?, ?)", rows)

    def quoting(self, doc_ids: Sequence[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        with self._file.read("look for answers that quote documents") as reader:
            for some in _pages(doc_ids):
                query = f"SELECT doc_id, answer_id FROM quotes WHERE doc_id IN ({_marks(some)})"  # noqa: S608
                for doc_id, answer_id in reader.execute(query, some):
                    found.setdefault(doc_id, []).append(answer_id)
        return found

    def remove(self, answer_ids: Sequence[str]) -> int:
        count = 0
        for answer_id in answer_ids:
            try:
                self._cancel(answer_id)
            except UnknownAnswer:  # it has expired, or was removed with another document
                continue
            with self._file.write("remove an answer") as writer:
                count += writer.execute("DELETE FROM answers WHERE id = ?", (answer_id,)).rowcount
        return count

    def announce(self, doc_ids: Sequence[str]) -> None:
        with self._file.write("note what is about to go") as writer:
            now = self._clock()
            writer.executemany("INSERT OR REPLACE INTO announced VALUES (?, ?)", [(doc_id, now) for doc_id in doc_ids])

    def unsettled(self, older_than_s: float) -> list[str]:
        with self._file.read("look for what was not settled") as reader:
            latest = self._clock() - older_than_s
            rows = reader.execute("SELECT doc_id FROM announced WHERE at <= ? LIMIT ?", (latest, _AT_ONCE))
            return [row[0] for row in rows]

    def settle(self, doc_ids: Sequence[str]) -> None:
        with self._file.write("note what has gone") as writer:
            writer.executemany("DELETE FROM announced WHERE doc_id = ?", [(doc_id,) for doc_id in doc_ids])

    def went(self, doc_ids: Sequence[str] = ()) -> int:
        if not doc_ids:
            with self._file.read("read when documents went") as reader:
                return int(reader.execute("SELECT n FROM moments").fetchone()[0])
        with self._file.write("note what has gone") as writer:
            (number,) = writer.execute("UPDATE moments SET n = n + 1 RETURNING n").fetchone()
            writer.executemany("INSERT OR REPLACE INTO went VALUES (?, ?)", [(doc_id, number) for doc_id in doc_ids])
            writer.execute(
                "DELETE FROM went WHERE doc_id IN (SELECT doc_id FROM went ORDER BY n DESC LIMIT -1 OFFSET ?)",
                (REMEMBERED,),
            )
        return int(number)

    def gone(self, doc_ids: Sequence[str], since: int) -> bool:
        with self._file.read("look whether documents have gone") as reader:
            count, oldest = reader.execute("SELECT count(*), min(n) FROM went").fetchone()
            if count >= REMEMBERED and since < oldest:
                return True
            query = "SELECT 1 FROM went WHERE n > ? AND doc_id IN ({})"
            return any(
                reader.execute(query.format(_marks(some)), (since, *some)).fetchone() for some in _pages(doc_ids)
            )


def _pages(doc_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (doc_ids[start : start + _AT_ONCE] for start in range(0, len(doc_ids), _AT_ONCE))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
