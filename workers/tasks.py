"""Tasks that queue messages name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from celery import Celery
from pydantic import ValidationError

from citewell.errors import CitewellError
from citewell.jobs import TASK
from citewell.records import JobMessage, Record

log = structlog.get_logger("citewell.workers")

Message = TypeVar("Message", bound=Record)


def register(app: Celery, run: Callable[[JobMessage], object]) -> None:
    """Give the app the task of answers. Every outcome takes the message off the queue: the answer store decides what
    follows.

    A message that comes again while its answer has a living lease is dropped. If that lease then runs out, the
    sweepers of the workers queue the answer again.
    """
    register_task(app, TASK, JobMessage, run)


def register_task(app: Celery, name: str, kind: type[Message], run: Callable[[Message], object]) -> None:
    """A task whose one argument is a message of a kind. What cannot be read or run is told in the log, and dropped."""

    def task(payload: dict[str, Any]) -> None:
        try:
            message = kind.model_validate(payload)
        except ValidationError as error:
            log.error("message_unreadable", payload=repr(payload)[:500], reason=str(error))
            return
        try:
            run(message)
        except CitewellError as error:
            log.error("message_not_run", **message.to_dict(), code=error.code, reason=error.message)

    app.task(task, name=name, ignore_result=True, acks_late=True)
