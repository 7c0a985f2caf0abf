"""The queue of the ingest workers: Celery on Redis. A message carries a name and no right, as those of answers do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from citewell.answers.redis import address_of, connect, translated
from citewell.config import Settings
from citewell.errors import QueueUnavailable
from citewell.jobs import celery_config, living_workers
from citewell.priorities import queue_name
from citewell.records import BatchMessage, SourceMessage

if TYPE_CHECKING:
    import redis
    from celery import Celery

# The names under which workers know their tasks.
BATCH_TASK = "citewell.ingest"
SOURCE_TASK = "ingest.source"
ROLE = "ingest"


def ingest_queues(prefix: str) -> tuple[str, str]:
    """The Celery queues, and so the Redis lists, of the ingest workers: what goes first, and the rest."""
    return queue_name(prefix, ROLE), queue_name(prefix, ROLE, "batch")


class IngestQueue:
    """Sends messages to ingest workers, and tells who they are. Light to make; safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis: redis.Redis = connect(settings.redis_url)
        self._celery: Celery | None = None
        self._guard = threading.Lock()

    def close(self) -> None:
        with self._guard:
            if self._celery is not None:
                self._celery.close()
                self._celery = None
        self._redis.close()

    def send(self, message: BatchMessage | SourceMessage, *, again: bool = False) -> None:
        """What is sent `again` goes ahead of what waits. Raises `QueueUnavailable` when Redis does not take it."""
        from celery.exceptions import CeleryError
        from kombu.exceptions import KombuError
        from redis import RedisError

        task = BATCH_TASK if isinstance(message, BatchMessage) else SOURCE_TASK
        first, rest = ingest_queues(self._settings.index_name)
        queue, policy = first if again else rest, {"max_retries": 1, "interval_start": 0.0}
        try:
            self._app().send_task(task, args=[message.to_dict()], queue=queue, retry=True, retry_policy=policy)
        except (CeleryError, KombuError, RedisError, OSError) as cause:
            raise QueueUnavailable(
                f"the queue in Redis at {address_of(self._settings.redis_url)} did not take a message for the ingest "
                f"workers: {type(cause).__name__}: {cause}",
                remedy="Check that Redis runs and has memory left.",
            ) from cause

    def depth(self) -> int:
        """Messages that wait for a worker."""
        names = ingest_queues(self._settings.index_name)
        return int(self._ask("count messages", lambda client: sum(client.llen(name) for name in names)))

    def workers(self) -> list[dict[str, Any]]:
        """The ingest workers that have given a sign of life, with their `state`: `loading` or `ready`."""
        prefix = self._settings.index_name
        found = self._ask("list workers", lambda client: living_workers(client, prefix))
        return [worker for worker in found if ROLE in worker.get("roles", ())]

    def _ask(self, what: str, question: Callable[[redis.Redis], Any]) -> Any:
        with translated(self._settings.redis_url, what, QueueUnavailable):
            return question(self._redis)

    def _app(self) -> Celery:
        with self._guard:
            if self._celery is None:
                from celery import Celery

                app = Celery("citewell", set_as_current=False, fixups=[])
                app.conf.update(celery_config(self._settings))
                app.conf.broker_transport_options |= {"max_retries": 1, "connect_retries_timeout": 3.0}
                self._celery = app
            return self._celery
