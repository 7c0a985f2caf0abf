"""Files read in a child process, within a time and a memory limit.

A parser of binary formats can hang, crash or eat all memory on a file that is broken or made to do so. Here such a file
costs itself alone: its child process is ended and made anew, and the file fails with the reason. One child serves all
files of a load.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from citewell.errors import CitewellError, InvalidDocument, TooLarge
from citewell.ingest.items import Item, Limits, failed
from citewell.ingest.parser_child import DOCUMENT, END, over_memory
from citewell.records import Document, Outcome

# So few bytes of text cannot keep a parser busy for long, whatever they are: the caller reads them itself.
SMALL = 4_000
_CHILD = "citewell.ingest.parser_child"
_LOOK_S = 0.05
_START_S = 60.0
_PAGE = resource.getpagesize()


class Parser:
    """The child process; it starts with the first file. Not for several threads at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = bytearray()
        self._base = 0

    def items(self, path: Path, kind: str, name: str) -> Iterator[Item]:
        """The documents of a file; `kind` is its suffix. What breaks a limit or the child is one failed outcome."""
        whole = False
        try:
            self._start()
            self._ask({"path": str(path.absolute()), "kind": kind, "name": name})
            while (line := self._answer(self._limits.parse_seconds))[:1] != END:
                record = Document if line[:1] == DOCUMENT else Outcome
                yield record.from_json(line[1:])
            whole = True
        except CitewellError as error:
            yield failed(name, name, error)
        finally:
            # Also where the reader of the documents stopped half-way. What the child did not give back is not the
            # next file's to miss.
            if not whole or self._memory() > self._base + self._limits.parse_bytes // 4:
                self.close()

    def close(self) -> None:
        """End the child; the next file starts another."""
        process, self._process = self._process, None
        self._waiting.clear()
        if process is not None:
            process.kill()
            with process:  # waits for it, and closes both pipes
                pass

    def _start(self) -> None:
        if self._process is not None:
            return
        limits = json.dumps(dataclasses.asdict(self._limits))
        self._process = subprocess.Popen(  # noqa: S603 - our own module; -P keeps modules of the working directory out
            [sys.executable, "-P", "-m", _CHILD, limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # nothing is left to be written when a child that died is closed
            process_group=0,  # Ctrl-C is for the load, which ends the child itself
        )
        self._base = sys.maxsize // 2
        self._answer(_START_S)
        self._base = self._memory()

    def _ask(self, request: dict[str, str]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._crashed() from None

    def _answer(self, seconds: float) -> bytes:
        """The child's next line. The clock runs only while somebody waits for it."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe, seen = self._process.stdout.fileno(), 0
        deadline = time.monotonic() + seconds
        while (end := self._waiting.find(b"\n", seen)) < 0:
            seen = len(self._waiting)
            if select.select([pipe], [], [], _LOOK_S)[0]:
                piece = os.read(pipe, 1 << 16)
                if not piece:
                    raise self._crashed()
                self._waiting += piece
            if self._memory() > self._base + self._limits.parse_bytes:
                raise over_memory(self._limits)
            if time.monotonic() > deadline:
                raise TooLarge(
                    f"reading the file took longer than {seconds:g} seconds",
                    remedy="Split it, or raise the setting `parse_timeout`.",
                )
        line = bytes(self._waiting[:end])
        del self._waiting[: end + 1]
        return line

    def _crashed(self) -> CitewellError:
        assert self._process is not None
        code = self._process.wait()
        cause = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return InvalidDocument(
            f"the parser crashed on the file ({cause}), which it also does where it gets no more memory",
            remedy="Convert it to another format, or raise the setting `parse_memory`.",
        )

    def _memory(self) -> int:
        """Resident bytes of the child; 0 where the system does not say."""
        if self._process is None:
            return 0
        try:
            return int(Path(f"/proc/{self._process.pid}/statm").read_text("ascii").split()[1]) * _PAGE
        except OSError:
            return 0
