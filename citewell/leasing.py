"""Holding on while work goes on: a lease that is renewed beside it, and servers that are away for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from citewell.errors import CitewellError, LeaseLost, Unavailable

log = structlog.get_logger("citewell.leasing")

Result = TypeVar("Result")


class Renewal:
    """Calls `renew` every third of `seconds` in a thread of its own; `lost` is set when that raises `LeaseLost`.

    `name` is the thread's, and `told` what the log says of the lease.
    """

    def __init__(self, renew: Callable[[], object], seconds: float, name: str, **told: str | int) -> None:
        self.lost = threading.Event()
        self._renew = renew
        self._seconds = seconds
        self._name = name
        self._told = told
        self._over = threading.Event()

    @contextmanager
    def going(self) -> Iterator[None]:
        """For the length of a block."""
        thread = threading.Thread(target=self._repeat, name=self._name)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _repeat(self) -> None:
        while not self._over.wait(self._seconds / 3):
            try:
                self._renew()
            except LeaseLost:
                self.lost.set()
                return
            except CitewellError as error:
                # Until somebody takes it over, the next renewal brings even a lapsed lease back.
                log.warning("lease_not_renewed", **self._told, reason=error.message)


def patiently(
    call: Callable[[], Result],
    away: type[Unavailable],
    seconds: float,
    *,
    pauses: tuple[float, float],
    stop: threading.Event | None = None,
) -> Result:
    """The call's result, tried again while it raises `away`; `stop` ends the waiting, and so do `seconds`.

    The pauses double from the first to the second of `pauses`, in seconds.
    """
    given_up = stop or threading.Event()
    deadline, (pause, longest) = time.monotonic() + seconds, pauses
    while True:
        try:
            return call()
        except away as error:
            if time.monotonic() + pause > deadline or given_up.is_set():
                raise
            log.warning("server_away", reason=error.message, retry_in_s=pause)
            given_up.wait(pause)
            pause = min(2 * pause, longest)
