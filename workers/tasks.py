"""The task that a queue message names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery
from pydantic import ValidationError

from citewell.errors import CitewellError
from citewell.jobs import TASK
from citewell.records import JobMessage

log = structlog.get_logger("citewell.workers")


def register(app: Celery, run: Callable[[JobMessage], object]) -> None:
    """Give the app its task. Every outcome takes the message off the queue: the answer store decides what follows.

    A message that comes again while its answer has a living lease is dropped. If that lease then runs out, the
    sweepers of the workers queue the answer again.
    """

    def answer(payload: dict[str, Any]) -> None:
        try:
            message = JobMessage.model_validate(payload)
        except ValidationError as error:
            log.error("message_unreadable", payload=repr(payload)[:500], reason=str(error))
            return
        try:
            run(message)
        except CitewellError as error:
            log.error("message_not_run", answer=message.answer_id, code=error.code, reason=error.message)

    app.task(answer, name=TASK, ignore_result=True, acks_late=True)
