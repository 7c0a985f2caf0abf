"""The child process that reads what could hang, crash or eat the memory: see `citewell.ingest.parser`.

Requests come as lines of JSON on standard input, answers go as lines to standard output, each a byte and JSON:
documents and failed outcomes, then an end. It ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from citewell.errors import CitewellError, InvalidDocument, TooLarge
from citewell.ingest import binary
from citewell.ingest.items import Item, Limits, checked, failed, too_large
from citewell.ingest.rows import json_records, parquet
from citewell.parse import MEDIA_TYPES, parse
from citewell.records import Document

# First byte of each line of the answer.
READY, DOCUMENT, OUTCOME, END = b"R", b"D", b"O", b"E"
# The parent ends a child that is late. Where the parent was killed, the child ends itself a little later.
_GRACE_S = 10.0
# Beyond the limit that the parent watches, so that it can say why; this one stops a single leap.
_MARGIN = 1.25


def main() -> None:
    limits = Limits(**json.loads(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    _preload()
    _bound_memory(int(limits.parse_bytes * _MARGIN))
    _send(answers, READY)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        for item in _in_time(answer(Path(request["path"]), request["kind"], request["name"], limits), limits):
            _send(answers, *_line(item, request["name"], limits))
        _send(answers, END)


def answer(path: Path, kind: str, name: str, limits: Limits) -> Iterator[Item]:
    """The documents of a file whose kind is a suffix; what cannot be read is one failed outcome."""
    try:
        if kind == ".parquet":
            yield from parquet(path, name, limits)
            return
        with path.open("rb") as file:
            data = file.read(limits.file_bytes + 1)
        if len(data) > limits.file_bytes:
            raise too_large(limits)
        yield from parsed(data, kind, name, limits)
    except CitewellError as error:
        yield failed(name, name, error)
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        yield failed(name, name, InvalidDocument(reason, remedy="Check that it is still there, and its rights."))
    except MemoryError:
        yield failed(name, name, over_memory(limits))
    except Exception as error:  # noqa: BLE001 - a parser's own defect: the file fails with it, the load goes on
        reason = f"the parser gave up: {type(error).__name__}: {error}"
        yield failed(name, name, InvalidDocument(reason, remedy="Convert the file to another format."))


def parsed(data: bytes, kind: str, name: str, limits: Limits) -> Iterator[Item]:
    """The documents of a file's bytes."""
    try:
        if kind == ".json":
            yield from json_records(data, name, limits)
        elif kind in MEDIA_TYPES:
            yield checked(parse(data, MEDIA_TYPES[kind], name), name, limits)
        else:
            yield checked(binary.read(data, kind, name), name, limits)
    except RecursionError:
        raise InvalidDocument("its parts are nested too deeply", remedy="Convert the file to plain text.") from None


def over_memory(limits: Limits) -> TooLarge:
    return TooLarge(
        f"reading the file needs more than {limits.parse_bytes} bytes of memory",
        remedy="Split it, or raise the setting `parse_memory`.",
    )


def _in_time(items: Iterator[Item], limits: Limits) -> Iterator[Item]:
    """The items; the process ends when one of them takes much longer than it may."""
    while True:
        signal.setitimer(signal.ITIMER_REAL, limits.parse_seconds + _GRACE_S)
        item = next(items, None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if item is None:
            return
        yield item


def _line(item: Item, name: str, limits: Limits) -> tuple[bytes, bytes]:
    body = item.to_json().encode()
    if isinstance(item, Document) and len(body) <= 2 * limits.line_bytes:
        return DOCUMENT, body
    if isinstance(item, Document):
        error = TooLarge("the document's metadata is larger than a text may be", remedy="Leave some of it out.")
        body = failed(name, name, error).to_json().encode()
    return OUTCOME, body


def _send(answers: IO[bytes], kind: bytes, body: bytes = b"") -> None:
    answers.write(kind + body + b"\n")
    answers.flush()


def _preload() -> None:
    """What the memory limit does not count: the libraries themselves."""
    import bs4  # noqa: F401
    import kreuzberg  # noqa: F401
    import markdown_it  # noqa: F401


def _bound_memory(more: int) -> None:
    """Let the process allocate so many more bytes, where the system counts them: on Linux."""
    import resource

    with contextlib.suppress(FileNotFoundError):
        status = Path("/proc/self/status").read_text("ascii")
        data = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = data * 1024 + more
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))


if __name__ == "__main__":
    main()
