"""Which questions go first: interactive ones, and every so often one of the batch, so that none starves.

A worker that is free takes an interactive question while there is one, but with every `TURN`th take a batch one if any
waits: under any load of interactive questions the batch moves on with that share of the workers. What runs is never
interrupted for another.
"""

from __future__ import annotations

from collections.abc import Iterable

TURN = 8
_BATCH = ":batch"


def queue_name(prefix: str, generator: str, priority: str = "interactive") -> str:
    """The Celery queue, and so the Redis list, of one generator's messages of one priority."""
    return f"{prefix}.{generator}{_BATCH if priority == 'batch' else ''}"


def queue_names(prefix: str, generators: Iterable[str]) -> list[str]:
    """Both queues of each generator."""
    return [
        queue_name(prefix, generator, priority) for generator in generators for priority in ("interactive", "batch")
    ]


def is_batch(queue: str) -> bool:
    return queue.endswith(_BATCH)


class Turns:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._since = 0

    def batch_first(self) -> bool:
        return self._since >= TURN - 1

    def took(self, *, batch: bool) -> None:
        self._since = 0 if batch else self._since + 1


class InteractiveFirst:
    """The order in which a worker of Celery's looks into its queues: kombu's `queue_order_strategy`.

    Queues of one priority take turns.
    """

    def __init__(self, queues: Iterable[str] = ()) -> None:
        self._queues = list(queues)
        self._turns = Turns()

    def update(self, queues: Iterable[str]) -> None:
        self._queues[:] = queues

    def consume(self, count: int) -> list[str]:
        """The first `count` queues to look into, best first."""
        batch_first = self._turns.batch_first()
        return sorted(self._queues, key=lambda name: is_batch(name) != batch_first)[:count]

    def rotate(self, last_used: str) -> None:
        """A message of this queue was taken."""
        self._turns.took(batch=is_batch(last_used))
        if last_used in self._queues:
            self._queues.append(self._queues.pop(self._queues.index(last_used)))
