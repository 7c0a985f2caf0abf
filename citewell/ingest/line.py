"""Work in steps that run at the same time, each in a thread of its own, while what comes out keeps its order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Line(Generic[T]):
    """Values that every step works on in turn; the caller's thread puts them in and takes them out.

    The caller bounds how many are inside. Once a step has failed, what was put in before is still finished and what
    came after is not begun. `close` sets `stopped`: a step that takes long may look at it to end early.
    """

    def __init__(self, steps: Sequence[Callable[[T], None]], stopped: threading.Event) -> None:
        self._steps = steps
        self._stopped = stopped
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="citewell-load") for _ in steps]
        self._inside: deque[tuple[T, Future[None]]] = deque()
        self._count = 0
        self._failed: int | None = None  # number of the oldest value that a step failed on

    def __len__(self) -> int:
        return len(self._inside)

    def __iter__(self) -> Iterator[T]:
        """What is inside, oldest first."""
        return iter([value for value, _ in self._inside])

    def put(self, value: T) -> None:
        before: Future[None] | None = None
        for step, thread in zip(self._steps, self._threads, strict=True):
            before = thread.submit(self._do, step, value, self._count, before)
        assert before is not None
        self._count += 1
        self._inside.append((value, before))

    def ready(self) -> bool:
        """Whether `get` would not wait."""
        return bool(self._inside) and self._inside[0][1].done()

    def get(self) -> T:
        """The oldest value, once its last step is done; raises what a step raised."""
        value, last = self._inside[0]
        last.result()
        self._inside.popleft()
        return value

    def close(self) -> None:
        """Wait for the steps that are at work; no thread is left when this returns."""
        self._stopped.set()
        for thread in self._threads:
            thread.shutdown(wait=True, cancel_futures=True)

    def _do(self, step: Callable[[T], None], value: T, number: int, before: Future[None] | None) -> None:
        if before is not None:
            before.result()
        if self._stopped.is_set() or (self._failed is not None and self._failed < number):
            raise CancelledError
        try:
            step(value)
        except BaseException:
            self._failed = number if self._failed is None else min(self._failed, number)
            raise
