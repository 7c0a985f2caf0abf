"""How long the line before each generator is, in SQLite: counted from the answers themselves."""

from __future__ import annotations

import sqlite3

from citewell.ports import Line
from citewell.records import Priority

# The first is before an answer of its own priority, the second before those that let it go first.
_AHEAD = (
    "SELECT count(*) FROM answers WHERE state = 'queued' AND generator = :generator AND priority = :priority"
    " AND created_at < coalesce((SELECT created_at FROM answers WHERE id = :id), 9e18)"
)
_FIRST = "SELECT count(*) FROM answers WHERE state = 'queued' AND generator = :generator AND priority = 'interactive'"
_RUNNING = "SELECT count(*) FROM answers WHERE state = 'running' AND generator = :generator AND lease_until > :now"
_PACE = "SELECT coalesce((SELECT seconds FROM paces WHERE generator = :generator), 0)"
# The mean of the first few, later a sliding one.
_TOOK = (
    "INSERT INTO paces VALUES (:generator, 1, :seconds) ON CONFLICT (generator) DO UPDATE SET answers = answers + 1,"
    " seconds = seconds + max(1.0 / (answers + 1), 0.1) * (excluded.seconds - seconds)"
)


def line(reader: sqlite3.Connection, generator: str, priority: Priority, answer_id: str, now: float) -> Line:
    named = {"generator": generator, "priority": priority, "id": answer_id, "now": now}
    first = _FIRST if priority == "batch" else "SELECT 0"
    ahead, quick, running, seconds = reader.execute(
        f"SELECT ({_AHEAD}), ({first}), ({_RUNNING}), ({_PACE})",
        named,
    ).fetchone()
    return Line(ahead + quick, running, seconds)


def took(writer: sqlite3.Connection, generator: str, seconds: float) -> None:
    """An answer of this generator has been written in that time."""
    writer.execute(_TOOK, {"generator": generator, "seconds": seconds})
