"""Honest waiting: where a question stands in the line, and none is taken in that would wait too long."""

from __future__ import annotations

import math

import structlog

from citewell.errors import Overloaded, Unavailable
from citewell.ports import JobQueue, Lines
from citewell.records import Answer, AnswerState, Priority
from citewell.waiting import estimate

log = structlog.get_logger("citewell.admission")


class Admission:
    """`max_wait` is how many seconds a question may be expected to wait for a worker; 0 is any."""

    def __init__(self, lines: Lines, queue: JobQueue, max_wait: float) -> None:
        self._lines = lines
        self._queue = queue
        self._max_wait = max_wait

    def admit(self, generator: str, priority: Priority) -> None:
        """Raises `Overloaded` with the time after which the line will have become short enough.

        Questions that come at once are admitted by the same look at the line. Without a living worker the line counts
        as if there were one with one thread, so that it cannot grow without end; before any answer has been written,
        nothing is known and all are taken in.
        """
        if not self._max_wait:
            return
        try:
            line, slots = self._lines.line(generator, priority), self._queue.slots(generator)
        except Unavailable as error:  # whether the question can be taken in is then for the store to say
            log.warning("line_unknown", generator=generator, reason=error.message)
            return
        wait = estimate(line, max(1, slots)).starts_in_s or 0.0
        if wait <= self._max_wait:
            return
        workers = "" if slots else ", and no worker lives that writes them"
        raise Overloaded(
            f"{line.ahead} questions wait for {generator} and would keep a new one waiting for {wait:.0f} s, longer"
            f" than the setting `max_wait` ({self._max_wait:g} s) allows{workers}",
            detail={"retry_after_s": max(1, math.ceil(wait - self._max_wait)), "waiting": line.ahead},
        )

    def placed(self, answer: Answer) -> Answer:
        """The record, with its place in the line while it is queued."""
        if answer.state is not AnswerState.QUEUED:
            return answer
        try:
            line = self._lines.line(answer.generator, answer.priority, answer.id)
            waiting = estimate(line, self._queue.slots(answer.generator))
        except Unavailable as error:  # the record is worth more than its place
            log.warning("no_place_in_line", answer=answer.id, reason=error.message)
            return answer
        return answer.model_copy(update={"waiting": waiting})
