"""The queue of the ingest workers: Celery on Redis. A message carries a name and no right, as those of answers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from citewell.answers.redis_client import connect, translated
from citewell.config import Settings
from citewell.errors import QueueUnavailable
from citewell.jobs import Publisher, living_workers
from citewell.priorities import queue_name
from citewell.records import BatchMessage, SourceMessage

if TYPE_CHECKING:
    import redis

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
        self._publisher = Publisher(settings)

    def close(self) -> None:
        self._publisher.close()
        self._redis.close()

    def send(self, message: BatchMessage | SourceMessage, *, again: bool = False) -> None:
        """What is sent `again` goes ahead of what waits. Raises `QueueUnavailable` when Redis does not take it."""
        first, rest = ingest_queues(self._settings.index_name)
        self._publisher.send(
            BATCH_TASK if isinstance(message, BatchMessage) else SOURCE_TASK,
            message,
            first if again else rest,
            what="a message for the ingest workers",
            remedy="Check that Redis runs and has memory left.",
        )

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
