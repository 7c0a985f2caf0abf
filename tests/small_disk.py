"""A small disk of the test's own: a file system in memory that only commands started through it see.

It lives in a namespace of users and mounts, so it needs no rights where the system lets users make one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """`folder` is the disk to those who see it; `size` is what `mount` takes, like `8m`."""

    def __init__(self, folder: Path, holder: int) -> None:
        self.folder = folder
        self._within = ["nsenter", "--target", str(holder), "--user", "--mount", "--preserve-credentials", "--"]

    def run(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        words: Sequence[str] = [*self._within, *command]
        return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=300)

    def resize(self, size: str) -> None:
        done = self.run("mount", "-o", f"remount,size={size}", str(self.folder))
        assert done.returncode == 0, done.stderr


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """Skips the test where the system has no such thing."""
    if sys.platform != "linux" or not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("a small disk needs Linux with unshare and nsenter")
    folder.mkdir()
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && echo ready && exec cat'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", size, str(folder)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **streams) as holder:  # type: ignore[call-overload]
        try:
            if holder.stdout.readline().strip() != "ready":
                pytest.skip(f"this system lets nobody mount a small disk: {holder.communicate()[1].strip()}")
            yield SmallDisk(folder, holder.pid)
        finally:
            holder.kill()
