"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from citewell.memory import give_back

PROGRAM = """
from pathlib import Path
from citewell.memory import give_back
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [bytes(2000) for _ in range(100_000)]
last, blocks = blocks[-1], None
held = resident()
give_back()
print(held - resident())
"""


@pytest.mark.skipif(not give_back(), reason="this C library cannot give memory back")
def test_blocks_freed_below_one_that_is_kept_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100_000_000
