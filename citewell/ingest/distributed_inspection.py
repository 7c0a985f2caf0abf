"""Messages for ingest workers whose batch is gone: left by a load that was killed while no worker was there.

The keys of such a load go by themselves within minutes, and a worker that comes takes its messages off; so this is only
about a queue that nobody reads. What looks wrong is looked at again after a pause.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import redis
from pydantic import ValidationError

from citewell.answers.redis_client import translated
from citewell.errors import QueueUnavailable
from citewell.ports import Finding
from citewell.records import BatchMessage

NO_BATCH = "message_without_batch"
PLACE = "queue"
_PAGE = 200
_SETTLE_S = 1.0


class LoadInspection:
    """`queues` are the lists of the ingest workers' messages, `prefix` stands before the keys of runs."""

    def __init__(self, client: redis.Redis, url: str, *, queues: Sequence[str], prefix: str) -> None:
        self._client = client
        self._url = url
        self._queues = queues
        self._prefix = prefix
        self._removed = 0

    def findings(self) -> Iterator[Finding]:
        for queue in self._queues:
            yield from self._found(queue)

    def repair(self, finding: Finding) -> None:
        queue, _, message = finding.handle.partition("\n")
        with self._told("be repaired"):
            self._removed += self._client.lrem(queue, 1, message)

    def _found(self, queue: str) -> Iterator[Finding]:
        """From the oldest message on; what is taken off meanwhile moves the rest up."""
        start = 0
        while True:
            before = self._removed
            with self._told("be looked through"):
                found = cast("list[str]", self._client.lrange(queue, -start - _PAGE, -start - 1))
                lost = self._lost(found)
                if lost:
                    time.sleep(_SETTLE_S)
                    there = set(cast("list[str]", self._client.lrange(queue, 0, -1)))
                    lost = [message for message in self._lost(lost) if message in there]
            if not found:
                return
            for message in lost:
                yield _finding(queue, message)
            start += _PAGE - (self._removed - before)

    def _lost(self, messages: Sequence[str]) -> list[str]:
        """Those for a batch that is not there, or whose reader is gone."""
        batches = {message: batch for message in messages if (batch := batch_of(message)) is not None}
        pipe = self._client.pipeline(transaction=False)
        for batch in batches.values():
            run = f"{self._prefix}:load:{{{batch.run}}}"
            pipe.exists(run)
            pipe.exists(f"{run}:{batch.number}")
        answers = iter(pipe.execute() if batches else [])
        return [message for message in batches if not next(answers) & next(answers)]

    def _told(self, what: str) -> Any:
        return translated(self._url, what, QueueUnavailable)


def _finding(queue: str, message: str) -> Finding:
    batch = batch_of(message)
    assert batch is not None
    reason = f"{queue} has a message for this batch, and it or its load is gone"
    remedy = "--fix takes it off the queue, as any ingest worker would."
    return Finding(NO_BATCH, PLACE, f"{batch.run}:{batch.number}", reason, remedy, handle=f"{queue}\n{message}")


def batch_of(message: str) -> BatchMessage | None:
    """The batch that a message of Celery's is for; None for another task, or one that cannot be read."""
    try:
        envelope = json.loads(message)
        return BatchMessage.model_validate(json.loads(base64.b64decode(envelope["body"]))[0][0])
    except (ValidationError, ValueError, TypeError, KeyError, IndexError):  # the answer: it is for none
        return None
