"""Answers that an evaluation has so far, on disk, so that one that was killed goes on where it was.

One JSON line each, the first naming the run. A line that was cut off by the end of its process is dropped; its question
is then asked under the same idempotency key as before, so the service gives the answer that it has.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from citewell.errors import BadInput, Conflict
from citewell.records import Answer

Key = tuple[str, str]


class Journal:
    """`answers` by (cell, question id). `run` is the same in every process that works on this evaluation.

    `index` is what is known of the documents that are asked about. Raises `BadInput` for a file that cannot be used,
    and `Conflict` where it has answers from other documents: the figures would be of neither.
    """

    def __init__(self, file: Path, index: Mapping[str, Any] | None = None) -> None:
        self._file = file
        self._index = dict(index or {})
        self.answers: dict[Key, Answer] = {}
        self.run = uuid.uuid4().hex
        self.started = time.time()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            whole = self._read()
            self._lines = file.open("r+b" if whole else "wb")
            self._lines.seek(whole)
            self._lines.truncate()
        except OSError as error:
            raise BadInput(f"the evaluation's answers cannot be kept in {file}: {error}") from None
        self.resumed = len(self.answers)
        if not whole:
            self._append({"run": self.run, "started": self.started, "index": self._index})

    def _read(self) -> int:
        """Take in what is there; the length of its whole lines in bytes."""
        if not self._file.is_file():
            return 0
        whole = 0
        for line in self._file.read_bytes().splitlines(keepends=True):
            row = _row(line)
            if row is None or (not whole and "run" not in row):
                break
            if "run" in row:
                self.run, self.started = row["run"], row["started"]
                self._compare(row.get("index") or {})
            else:
                self.answers[row["cell"], row["question"]] = Answer.model_validate(row["answer"])
            whole += len(line)
        return whole

    def _compare(self, then: Mapping[str, Any]) -> None:
        """What both know of the index has to be the same."""
        changed = [name for name in then if name in self._index and then[name] != self._index[name]]
        if changed:
            told = ", ".join(f"{name} {then[name]}, now {self._index[name]}" for name in changed)
            raise Conflict(
                f"the documents have changed since this evaluation began: {told}",
                remedy="Ask all anew: --fresh. Or bring the documents back.",
            )

    def add(self, cell: str, question: str, answer: Answer) -> None:
        self.answers[cell, question] = answer
        self._append({"cell": cell, "question": question, "answer": answer.to_dict()})

    def _append(self, row: dict[str, Any]) -> None:
        try:
            self._lines.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            self._lines.flush()
        except OSError as error:
            raise BadInput(f"the evaluation's answers cannot be kept in {self._file}: {error}") from None

    def close(self) -> None:
        self._lines.close()


def _row(line: bytes) -> dict[str, Any] | None:
    """None for a line that is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
