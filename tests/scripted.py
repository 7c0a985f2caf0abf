"""A generator that does what the question says, so that tests can steer a worker in another process.

The question is a list of instructions, separated by `;` and carried out in order (`sleep` holds for all pieces):

    say: a|b|c      three pieces; `\\n` in them is a line break
    sleep: 0.1      seconds before each piece
    echo: 30        that many pieces `0 1 2 ...`
    raise: text     RuntimeError
    fail: text      GenerationFailed
    stop:           end without a last piece
    die:            kill this process as the operating system would
    die once: FILE  the same, unless FILE is there; it is created first
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from citewell.errors import GenerationFailed
from citewell.ports import GeneratorCard
from citewell.records import Draft, Evidence, Job, Piece


class ScriptedGenerator:
    """A real `Generator`, without a model."""

    def load(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to let go of."""

    def info(self) -> dict[str, Any]:
        return {"generator": "scripted"}

    def describe(self) -> GeneratorCard:
        return GeneratorCard("scripted", "scripted", revision="script-1")

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        for job in jobs:
            yield from self._one(job, cancelled)

    def _one(self, job: Job, cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        instructions = [part.partition(":") for part in job.question.text.split(";")]
        steps = [(name.strip(), value.strip(" ")) for name, _, value in instructions]
        pause = sum(float(value) for name, value in steps if name == "sleep")
        for name, value in steps:
            for text in _texts(name, value):
                if not _slept(pause, lambda: cancelled(job.answer_id)):
                    return
                yield Piece(answer_id=job.answer_id, text=text)
            if name == "stop":
                return
        yield Piece(answer_id=job.answer_id, last=True)


def _texts(name: str, value: str) -> Iterator[str]:
    match name:
        case "say":
            yield from value.replace("\\n", "\n").split("|")
        case "echo":
            yield from (f"{number} " for number in range(int(value)))
        case "raise":
            raise RuntimeError(value)
        case "fail":
            raise GenerationFailed(value, remedy="Say something else.")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once":
            if not Path(value).exists():
                Path(value).touch()
                os.kill(os.getpid(), signal.SIGKILL)


def _slept(seconds: float, cancelled: Callable[[], bool]) -> bool:
    """Sleep, asking often; False when cancelled."""
    deadline = time.monotonic() + seconds
    while not cancelled():
        left = deadline - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, 0.02))
    return False


def quote_nothing(text: str, evidence: Evidence, lang: str) -> Draft:
    """A citation step for answers that cite nothing."""
    return Draft(text=text)
