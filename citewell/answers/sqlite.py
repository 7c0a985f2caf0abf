"""Answers in one SQLite file, for the embedded stack.

`answers.sqlite` in the setting `data_dir`, in WAL mode: readers and one writer at a time, from any number of threads
and processes. Every move is one transaction that takes the write lock before it reads. The file survives a crash of
the process; a power cut may take the last moves back, never leave half of one.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from citewell import metrics
from citewell.answers import moves, sqlite_lines
from citewell.answers.moves import Entry, Move
from citewell.answers.sqlite_cache import SqliteCache
from citewell.answers.sqlite_feedback import SqliteFeedback
from citewell.answers.sqlite_file import AnswersFile
from citewell.answers.sqlite_quotes import SqliteQuotes
from citewell.config import Settings
from citewell.ports import POST_S, Inspection, LeaseGrant, Line
from citewell.records import Answer, AnswerState, Draft, Event, Failure, Job, JobMessage, Lease, Priority

# How long a write of another process may stay unseen by somebody who waits for events.
_POLL_S = 0.1
_OWED = "FROM answers WHERE callback_at > 0 AND callback_at <= :now"
_EVENT_ID = re.compile(r"\d{1,18}", re.ASCII)


class SqliteAnswers:
    """`AnswerStore` and `Leases` on one file. Safe to share between threads."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._file = AnswersFile(settings.data_dir / "answers.sqlite")
        self._ttl = settings.answer_ttl
        self._period = settings.lease_seconds
        self._attempts = settings.callback_attempts
        self._clock = clock
        self._cache = SqliteCache(self._file, settings, clock)
        self._feedback = SqliteFeedback(self._file, settings, clock)
        self._quotes = SqliteQuotes(self._file, clock, self.cancel)

    def load(self) -> None:
        if self._file.load():
            with self._file.write("be purged") as writer:
                self._purge(writer)

    def close(self) -> None:
        self._file.close()

    def info(self) -> dict[str, Any]:
        with self._file.read("tell how it is") as reader:
            counts = dict(reader.execute("SELECT state, count(*) FROM answers GROUP BY state").fetchall())
        return {"store": "sqlite", "path": str(self._file.path), "bytes": self._file.bytes(), "answers": counts}

    def create(self, job: Job) -> Answer:
        with self._file.write("store a question") as writer:
            now = self._clock()
            self._purge(writer)
            entry = self._entry(writer, job.answer_id)
            if entry is not None:
                return moves.known(entry.answer, job.request)
            job, move = moves.created(job, now)
            deadline = move.entry.answer.expires_at
            writer.execute(
                "INSERT INTO answers (id, generator, priority, created_at, deadline, state, attempt, spent,"
                " lease_until, returned, due_at, expires_at, record) VALUES (?, ?, ?, ?, ?, '', 0, 0, 0, 0, 0, 0, '')",
                (job.answer_id, job.generator, job.priority, now, deadline),
            )
            writer.execute("INSERT INTO jobs VALUES (?, ?)", (job.answer_id, job.to_json()))
            self._quotes.enter(writer, job.answer_id, job.evidence)
            self._save(writer, move, due_at=now + self._period)
        return move.entry.answer

    def get(self, answer_id: str) -> Answer:
        with self._file.read("read an answer") as reader:
            entry = self._entry(reader, answer_id)
        if entry is None:
            raise moves.unknown(answer_id)
        return self._expire(answer_id) if moves.overdue(entry.answer, self._clock()) else entry.answer

    def events(self, answer_id: str, after: str = "", wait_s: float = 0.0) -> list[Event]:
        if after and not _EVENT_ID.fullmatch(after):
            raise moves.unknown_event(answer_id, after)
        deadline = time.monotonic() + wait_s
        while True:
            seen = self._file.changes
            found, final = self._read_events(answer_id, after)
            left = deadline - time.monotonic()
            if found or final or left <= 0:
                return found
            self._file.wait(seen, min(left, _POLL_S))

    def cancel(self, answer_id: str) -> Answer:
        with self._file.write("cancel an answer") as writer:
            entry = self._entry(writer, answer_id)
            if entry is None:
                raise moves.unknown(answer_id)
            move = moves.cancelled(entry, self._clock())
            if move is None:
                return entry.answer
            self._save(writer, move)
        return move.entry.answer

    def due(self, *, queued: bool) -> list[JobMessage]:
        with self._file.write("look for answers without a worker") as writer:
            now = self._clock()
            self._purge(writer)
            for (answer_id,) in writer.execute(
                "SELECT id FROM answers WHERE deadline > 0 AND deadline <= ? AND state IN ('queued', 'running')", (now,)
            ).fetchall():
                self._save_expired(writer, answer_id)
            rows = writer.execute(
                "UPDATE answers SET due_at = :next WHERE due_at <= :now AND state IN ('queued', 'running') AND ("
                " (state = 'running' AND lease_until <= :now) OR (state = 'queued' AND (returned OR :queued))"
                ") RETURNING id, generator, priority",
                {"next": now + self._period, "now": now, "queued": queued},
            ).fetchall()
        return [JobMessage(answer_id=key, generator=generator, priority=priority) for key, generator, priority in rows]

    def line(self, generator: str, priority: Priority, answer_id: str = "") -> Line:
        with self._file.read("look at the line") as reader:
            return sqlite_lines.line(reader, generator, priority, answer_id, self._clock())

    def letters(self, limit: int) -> list[Answer]:
        with self._file.read("look for callbacks") as reader:
            if not reader.execute(f"SELECT 1 {_OWED} LIMIT 1", {"now": self._clock()}).fetchone():
                return []
        with self._file.write("look for callbacks") as writer:
            now = self._clock()
            rows = writer.execute(
                f"UPDATE answers SET callback_at = :next WHERE id IN (SELECT id {_OWED}"  # noqa: S608
                " ORDER BY callback_at LIMIT :limit) RETURNING record",
                {"now": now, "next": now + POST_S, "limit": limit},
            ).fetchall()
        return [Answer.from_json(record) for (record,) in rows]

    def posted(self, answer_id: str, reason: str) -> Answer | None:
        with self._file.write("note a callback") as writer:
            entry = self._entry(writer, answer_id)
            move = moves.posted(entry, reason, self._attempts, self._clock()) if entry else None
            if move is None:
                return None
            self._save(writer, move)
        return move.entry.answer

    def lease(self, answer_id: str, owner: str, seconds: float) -> LeaseGrant:
        with self._file.write("lease an answer") as writer:
            entry = self._entry(writer, answer_id)
            row = writer.execute("SELECT job FROM jobs WHERE answer_id = ?", (answer_id,)).fetchone()
            if entry is None or row is None:
                return LeaseGrant("final")
            job = Job.from_json(row[0])
            move = moves.leased(entry, job, seconds, self._clock())
            if isinstance(move, LeaseGrant):
                return move
            self._save(writer, move, due_at=move.entry.lease_until)
        return moves.granted(move.entry, job, owner)

    def renew(self, lease: Lease, seconds: float) -> Lease:
        with self._file.write("renew a lease") as writer:
            moves.held(self._entry(writer, lease.answer_id), lease)
            now = self._clock()
            writer.execute(
                "UPDATE answers SET lease_until = :until, due_at = :until, expires_at = :expires WHERE id = :id",
                {"until": now + seconds, "expires": now + self._ttl, "id": lease.answer_id},
            )
        return lease.model_copy(update={"expires_at": now + seconds})

    def emit(self, lease: Lease, text: str) -> None:
        with self._file.write("store a piece of an answer") as writer:
            now = self._clock()
            fenced = writer.execute(
                "UPDATE answers SET expires_at = ?"
                " WHERE id = ? AND state = 'running' AND attempt = ? AND expires_at > ?",
                (now + self._ttl, lease.answer_id, lease.attempt, now),
            )
            if fenced.rowcount == 0:
                moves.held(self._entry(writer, lease.answer_id), lease)
                raise moves.lost(lease, "it was moved at the same moment")
            self._append(writer, lease.answer_id, "delta", {"text": text, "attempt": lease.attempt})

    def finish(self, lease: Lease, result: Draft | Failure, timings_ms: dict[str, float]) -> Answer:
        with self._file.write("store an answer") as writer:
            entry = self._entry(writer, lease.answer_id)
            move = moves.finished(entry, lease, result, timings_ms, self._clock())
            self._save(writer, move)
            if seconds := moves.took(result, timings_ms):
                sqlite_lines.took(writer, move.entry.answer.generator, seconds)
        return move.entry.answer

    def release(self, lease: Lease) -> None:
        with self._file.write("give an answer back") as writer:
            move = moves.released(self._entry(writer, lease.answer_id), lease)
            self._save(writer, move, due_at=self._clock())

    def cache(self) -> SqliteCache:
        return self._cache

    def quotes(self) -> SqliteQuotes:
        return self._quotes

    def feedback(self) -> SqliteFeedback:
        return self._feedback

    def inspection(self) -> Inspection:
        from citewell.answers.sqlite_inspection import Access, SqliteInspection

        access = Access(self._file.read, self._file.write, self._save)
        return SqliteInspection(access, clock=self._clock, period_s=self._period)

    def _expire(self, answer_id: str) -> Answer:
        """Move an answer that nobody waits for any more; returns its record either way."""
        with self._file.write("drop an answer that nobody waits for") as writer:
            entry = self._save_expired(writer, answer_id)
        if entry is None:
            raise moves.unknown(answer_id)
        return entry.answer

    def _save_expired(self, writer: sqlite3.Connection, answer_id: str) -> Entry | None:
        entry = self._entry(writer, answer_id)
        move = moves.expired(entry, self._clock()) if entry else None
        if move is None:
            return entry
        self._save(writer, move)
        return move.entry

    def _entry(self, connection: sqlite3.Connection, answer_id: str) -> Entry | None:
        row = connection.execute(
            "SELECT record, spent, lease_until, returned FROM answers WHERE id = ? AND expires_at > ?",
            (answer_id, self._clock()),
        ).fetchone()
        if row is None:
            return None
        record, spent, lease_until, returned = row
        return Entry(Answer.from_json(record), spent, lease_until, bool(returned))

    def _save(self, connection: sqlite3.Connection, move: Move, due_at: float = 0.0) -> None:
        entry = move.entry
        connection.execute(
            "UPDATE answers SET state = ?, attempt = ?, spent = ?, lease_until = ?, returned = ?, due_at = ?,"
            " expires_at = ?, callback_at = ?, record = ? WHERE id = ?",
            (
                entry.answer.state.value,
                entry.answer.attempt,
                entry.spent,
                entry.lease_until,
                entry.returned,
                due_at,
                self._clock() + self._ttl,
                (moves.next_post(entry) or self._clock()) if moves.owed(entry.answer) else 0.0,
                entry.answer.to_json(),
                entry.answer.id,
            ),
        )
        if move.kind is not None:
            self._append(connection, entry.answer.id, move.kind, move.data)
            metrics.moved(entry.answer.generator, entry.answer.state.value)

    def _append(
        self, connection: sqlite3.Connection, answer_id: str, kind: moves.EventKind, data: dict[str, Any]
    ) -> None:
        connection.execute(
            "INSERT INTO events (answer_id, kind, data) VALUES (?, ?, ?)",
            (answer_id, kind, json.dumps(data, ensure_ascii=False)),
        )

    def _read_events(self, answer_id: str, after: str) -> tuple[list[Event], bool]:
        """Events later than `after`, and whether the answer is final, so that no more will come."""
        with self._file.read("read events") as reader:
            # One statement, so that state and events are of one moment.
            rows = reader.execute(
                "SELECT a.state, a.deadline, e.id, e.kind, e.data FROM answers a LEFT JOIN events e"
                " ON e.answer_id = a.id AND e.id >= ? WHERE a.id = ? AND a.expires_at > ? ORDER BY e.id",
                (int(after or 0), answer_id, self._clock()),
            ).fetchall()
        if not rows:
            raise moves.unknown(answer_id)
        final, deadline = AnswerState(rows[0][0]).final, rows[0][1]
        if not final and 0 < deadline <= self._clock():
            self._expire(answer_id)
            return self._read_events(answer_id, after)
        if after:
            if rows[0][2] != int(after):
                raise moves.unknown_event(answer_id, after)
            rows = rows[1:]
        return [Event(id=str(key), kind=kind, data=json.loads(data)) for *_, key, kind, data in rows], final

    def _purge(self, connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM answers WHERE expires_at <= ?", (self._clock(),))
