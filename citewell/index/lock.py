"""One writer at a time in a folder, across threads and processes.

LanceDB lets two processes commit at once, but its tables have no unique key: two loads of one document would leave
its passages twice. The operating system drops the lock with its process, so a kill leaves nothing to clean up.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from citewell.errors import IndexUnavailable

_POLL_S = 0.02


@contextlib.contextmanager
def writer_lock(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock file at `path`; raises `IndexUnavailable` when others hold it for `timeout_s` seconds."""
    with locked(path, timeout_s) as mine:
        if not mine:
            raise IndexUnavailable(
                f"another process has been writing to {path.parent} for {timeout_s:.0f} seconds",
                remedy="Wait for the other load to finish, then try again.",
            )
        yield


@contextlib.contextmanager
def locked(path: Path, timeout_s: float) -> Iterator[bool]:
    """Hold the lock file at `path`; False when others hold it for `timeout_s` seconds."""
    with path.open("ab") as handle:
        deadline = time.monotonic() + timeout_s
        mine = _try_lock(handle)
        while not mine and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            mine = _try_lock(handle)
        try:
            yield mine
        finally:
            if mine:
                _unlock(handle)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: IO[bytes]) -> bool:
        try:
            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(handle: IO[bytes]) -> None:
        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(handle: IO[bytes]) -> bool:
        try:
            fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: IO[bytes]) -> None:
        fcntl.flock(handle.fileno(), fcntl.LOCK_UN)
