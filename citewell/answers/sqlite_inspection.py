"""Answers in SQLite that nobody works on, and rows that belong to none."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from citewell.answers import findings as wrong
from citewell.answers import moves
from citewell.answers.moves import Entry, Move
from citewell.ports import Finding
from citewell.records import Answer, Job

PLACE = "answers"
_PAGE = 200
_SETTLE_S = 1.0
_ORPHANS = {
    "jobs": "SELECT DISTINCT answer_id FROM jobs WHERE answer_id > ? AND answer_id NOT IN (SELECT id FROM answers)",
    "events": "SELECT DISTINCT answer_id FROM events WHERE answer_id > ? AND answer_id NOT IN (SELECT id FROM answers)",
}
_DELETE = {
    "jobs": "DELETE FROM jobs WHERE answer_id = ? AND answer_id NOT IN (SELECT id FROM answers)",
    "events": "DELETE FROM events WHERE answer_id = ? AND answer_id NOT IN (SELECT id FROM answers)",
}


@dataclass(frozen=True)
class Access:
    """How the store reads and writes its file; `save` writes a move, due at a time, inside a transaction."""

    read: Callable[[str], AbstractContextManager[sqlite3.Connection]]
    write: Callable[[str], AbstractContextManager[sqlite3.Connection]]
    save: Callable[[sqlite3.Connection, Move, float], None]


class SqliteInspection:
    def __init__(self, access: Access, *, clock: Callable[[], float], period_s: float) -> None:
        self._access = access
        self._clock = clock
        self._period = period_s

    def findings(self) -> Iterator[Finding]:
        last = ""
        while ids := self._ids("SELECT id FROM answers WHERE id > ? ORDER BY id LIMIT ?", last):
            last = ids[-1]
            if first := self._judged(ids):
                time.sleep(_SETTLE_S)
                again = self._judged(list(first))
                yield from (finding for name, finding in again.items() if first[name].kind == finding.kind)
        for table, query in _ORPHANS.items():
            last = ""
            while ids := self._ids(query + " ORDER BY answer_id LIMIT ?", last):
                last = ids[-1]
                reason = f"rows of `{table}` belong to no answer"
                for answer_id in ids:
                    yield Finding(wrong.ORPHAN, PLACE, answer_id, reason, "--fix deletes them.", handle=table)

    def repair(self, finding: Finding) -> None:
        with self._access.write("be repaired") as writer:
            if finding.kind == wrong.ORPHAN:
                writer.execute(_DELETE[finding.handle], (finding.name,))
            elif finding.kind == wrong.NO_JOB:
                writer.execute(
                    "DELETE FROM answers WHERE id = ? AND id NOT IN (SELECT answer_id FROM jobs)", (finding.name,)
                )
            elif finding.kind == wrong.UNPOSTED:
                writer.execute("UPDATE answers SET callback_at = ? WHERE id = ?", (self._clock(), finding.name))
            elif finding.kind == wrong.UNWATCHED:
                writer.execute("UPDATE answers SET due_at = ? WHERE id = ?", (self._clock(), finding.name))
            else:
                self._requeue(writer, finding.name)

    def _requeue(self, writer: sqlite3.Connection, answer_id: str) -> None:
        row = writer.execute("SELECT job FROM jobs WHERE answer_id = ?", (answer_id,)).fetchone()
        found = self._read_entries(writer, [answer_id])
        if row is None or answer_id not in found:
            return
        move = moves.requeued(found[answer_id].entry, Job.from_json(row[0]), self._clock())
        if move is not None:
            self._access.save(writer, move, self._clock())

    def _judged(self, ids: Sequence[str]) -> dict[str, Finding]:
        with self._access.read("be looked through") as reader:
            entries = self._read_entries(reader, ids)
        now = self._clock()
        judged = (wrong.judge(PLACE, seen, period_s=self._period, now=now) for seen in entries.values())
        return {finding.name: finding for finding in judged if finding is not None}

    def _read_entries(self, connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, wrong.Seen]:
        marks = ", ".join("?" * len(ids))
        rows = connection.execute(
            "SELECT id, record, spent, lease_until, returned, due_at, callback_at, id IN (SELECT answer_id FROM jobs)"  # noqa: S608
            f" FROM answers WHERE id IN ({marks})",
            tuple(ids),
        )
        found = {}
        for answer_id, record, spent, lease_until, returned, due_at, callback_at, job in rows:
            watched = due_at <= max(self._clock(), lease_until) + 2 * self._period
            entry = Entry(Answer.from_json(record), spent, lease_until, bool(returned))
            found[answer_id] = wrong.Seen(entry, watched=watched, job=bool(job), listed=callback_at > 0)
        return found

    def _ids(self, query: str, last: str) -> list[str]:
        with self._access.read("be looked through") as reader:
            return [row[0] for row in reader.execute(query, (last, _PAGE))]
