"""Judgements of answers in SQLite; they stay when their answers go."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from citewell.answers.sqlite_file import AnswersFile
from citewell.config import Settings
from citewell.records import Feedback

_AT_ONCE = 500


class SqliteFeedback:
    def __init__(self, file: AnswersFile, settings: Settings, clock: Callable[[], float]) -> None:
        self._file = file
        self._ttl = settings.feedback_ttl
        self._clock = clock

    def give(self, feedback: Feedback) -> bool:
        key = (feedback.answer_id, feedback.caller)
        with self._file.write("keep feedback") as writer:
            writer.execute("DELETE FROM feedback WHERE given_at <= ?", (self._clock() - self._ttl,))
            earlier = writer.execute("DELETE FROM feedback WHERE answer_id = ? AND caller = ?", key).rowcount
            writer.execute(
                "INSERT INTO feedback (answer_id, caller, given_at, record) VALUES (?, ?, ?, ?)",
                (*key, feedback.given_at, feedback.to_json()),
            )
        return not earlier

    def given(self, since: float = 0.0) -> Iterator[Feedback]:
        at, row = max(since, self._clock() - self._ttl), 0
        while True:
            with self._file.read("read feedback") as reader:
                found = reader.execute(
                    "SELECT given_at, n, record FROM feedback"
                    " WHERE (given_at, n) > (?, ?) ORDER BY given_at, n LIMIT ?",
                    (at, row, _AT_ONCE),
                ).fetchall()
            if not found:
                return
            for at, row, record in found:  # noqa: B007 - the last one is where the next query goes on
                yield Feedback.from_json(record)
