"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> bool:
    """Return free pages of the C library's heaps to the system, in about a millisecond; whether it knows how to.

    glibc keeps what is freed in the middle of a heap, and has a heap for every few threads. LanceDB's threads free the
    blocks of each commit so: 3 KB a document stayed behind, which is no leak, but looks like one in a long load.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
    return trim is not None


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not glibc: macOS, musl, Windows
        return None
