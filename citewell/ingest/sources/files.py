"""Files, folders, globs and standard input as streams of documents.

A source yields, in a fixed order, either a `Document` or, for what it could not read, an `Outcome` with status `failed`
that names file and line; it never stops at a bad one. Memory is bounded: line formats are read line by line, and a
line or file over its limit is refused without being read whole. What is larger than a page, or binary, is read in a
child process with limits of its own.

Ids: `_id` or `id` where the format has fields, else the url, else `FILE:LINE`; a file that is one document has its path
below the folder that was given, a member of an archive below the archive's.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from citewell.errors import BadInput, CitewellError
from citewell.ingest import binary
from citewell.ingest.items import Item, Limits, Tell, failed, spelled, too_large
from citewell.ingest.parser import SMALL, Parser
from citewell.ingest.parser_child import parsed
from citewell.ingest.rows import json_lines, table
from citewell.ingest.sources import packed
from citewell.parse import MEDIA_TYPES
from citewell.records import Outcome

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LINES = (".jsonl", ".ndjson")
_TABLES = {".csv": ",", ".tsv": "\t"}
_PARQUET = ".parquet"
KINDS = (*_LINES, ".json", *_TABLES, _PARQUET, *MEDIA_TYPES, *binary.MEDIA_TYPES)
_PIECE = 1 << 20
# `-` is standard input with JSON lines, `csv:-` or `md.gz:-` with something else.
_STDIN = re.compile(r"(?:([a-z0-9.]+):)?-")


class _Told(io.FileIO):
    """A file that tells how many bytes of it have been read, packed ones as they lie on disk.

    One that ends before the length that it had at first raises `BadInput`: what it has lost is not known to be gone.
    """

    def __init__(self, path: Path, tell: Tell) -> None:
        super().__init__(path)
        self._tell = tell
        self._size = os.fstat(self.fileno()).st_size

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = super().readinto(buffer) or 0
        if not count and memoryview(buffer).nbytes and self.tell() < self._size:
            raise BadInput("the file became shorter while it was read", remedy="Load it again, when it is whole.")
        self._tell(count)
        return count


@dataclass(frozen=True)
class _File:
    """One file: the name that tells its id and kind, how it is opened, and where it lies, if it does."""

    name: str
    open: Callable[[], AbstractContextManager[IO[bytes]]]
    path: Path | None = None


@dataclass(frozen=True)
class _Reading:
    """What reading files takes."""

    limits: Limits
    parser: Parser
    tell: Tell


class FileSource:
    """One file, folder, glob or standard input; on disk, under its absolute path."""

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        self._limits = limits

    @property
    def name(self) -> str:
        return "standard input" if _STDIN.fullmatch(self._path) else spelled(str(Path(self._path).resolve()))

    @property
    def size(self) -> int:
        """Bytes on disk of everything that will be read, for a progress bar's end."""
        total = 0
        for found in _listed(self._path):
            if isinstance(found, _File) and found.path is not None:
                with contextlib.suppress(OSError):  # it vanished: the load will say so
                    total += found.path.stat().st_size
        return total

    def items(self, known: object, tell: Tell) -> Iterator[Item]:
        """Every document; what does not exist is one failed outcome.

        Revisions are not used, because reading a file costs less than embedding it.
        """
        with contextlib.closing(Parser(self._limits)) as parser:
            reading = _Reading(self._limits, parser, tell)
            for found in _listed(self._path):
                if isinstance(found, Outcome):
                    yield found
                else:
                    yield from _documents(found, reading)


def _listed(source: str) -> Iterator[_File | Outcome]:
    """The files that an argument means, in a fixed order."""
    path = Path(source)
    if match := _STDIN.fullmatch(source):
        yield _File(f"stdin.{match[1] or 'jsonl'}", lambda: contextlib.nullcontext(sys.stdin.buffer))
    elif path.is_dir():
        yield from _folder(path)
    elif path.exists():
        yield _on_disk(path, path.name)
    elif glob.has_magic(source):
        yield from _matches(source)
    else:
        yield failed(source, "", BadInput(f"{source} does not exist", remedy="Check the path."))


def _on_disk(path: Path, name: str) -> _File | Outcome:
    if not path.exists():
        reason = "the link leads nowhere" if path.is_symlink() else "the file disappeared while its source was read"
        return failed(name, str(path), BadInput(reason, remedy="Mend or remove it, then load the source again."))
    if not path.is_file():
        return failed(name, str(path), BadInput("it is no regular file", remedy="Remove it from the source."))
    return _File(spelled(name), lambda: path.open("rb"), path)


def _matches(pattern: str) -> Iterator[_File | Outcome]:
    """Files that a glob names. Their ids are those that loading the folder before its first wildcard would give."""
    fixed = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root, found = Path(*fixed), False
    for path in sorted(Path(match) for match in glob.glob(pattern, recursive=True)):  # noqa: PTH207 - leaves hidden files out
        if not path.is_dir():
            found = True
            yield _on_disk(path, path.relative_to(root).as_posix())
    if not found:
        yield failed(pattern, "", BadInput(f"no file matches {pattern}", remedy="Check the pattern and the folder."))


def _folder(folder: Path) -> Iterator[_File | Outcome]:
    """Files below a folder, sorted; hidden ones are left out.

    A test collection (`queries.jsonl` beside `corpus` files or a `corpus` folder) is loaded by its corpus alone: its
    questions are no documents.
    """
    if any(folder.glob("queries.jsonl*")):
        if (folder / "corpus").is_dir():
            folder = folder / "corpus"
        elif corpus := sorted(folder.glob("corpus.*")):
            yield from (_on_disk(file, file.name) for file in corpus)
            return
    paths: list[Path] = []
    problems: list[OSError] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, onerror=problems.append, followlinks=True):
        here = Path(place).stat()
        if (here.st_dev, here.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += (Path(place, name) for name in files if not name.startswith("."))
    for problem in problems:
        reason = f"the folder cannot be read: {problem.strerror}"
        yield failed(str(problem.filename), str(folder), BadInput(reason, remedy="Check its rights."))
    for path in sorted(paths):
        yield _on_disk(path, path.relative_to(folder).as_posix())
    if not paths and not problems:
        yield failed(str(folder), str(folder), BadInput("the folder holds no files", remedy="Check the path."))


def _documents(file: _File, reading: _Reading) -> Iterator[Item]:
    """The documents of one file, whatever happens to it."""
    source = str(file.path or file.name)
    kind, packing = _kind(file.name)
    whole = kind in MEDIA_TYPES and packing != packed.ARCHIVE  # one document, under the file's name
    try:
        if packing == packed.ARCHIVE:
            yield from _archived(file, reading)
        elif kind not in KINDS:
            raise BadInput(
                f"unknown kind of file: {Path(file.name).suffix or 'no suffix'}",
                remedy=f"Known are {' '.join(KINDS)}; also .gz, .zst and .zip.",
            )
        elif kind in _LINES or kind in _TABLES:
            with _stream(file, packing, reading) as stream:
                if kind in _LINES:
                    yield from json_lines(stream, file.name, reading.limits)
                else:
                    yield from table(stream, file.name, _TABLES[kind], reading.limits)
        else:
            yield from _whole(file, kind, packing, reading)
    except CitewellError as error:
        yield failed(file.name, source, error, exact=whole)
    except OSError as error:
        reason = f"the file cannot be read: {error.strerror or error}"
        yield failed(
            file.name, source, BadInput(reason, remedy="Check that it is still there, and its rights."), exact=whole
        )


def _kind(name: str) -> tuple[str, str]:
    """(suffix that tells the format, suffix of its packing or "")."""
    path = Path(name.lower())
    if path.suffix in (*packed.STREAMS, packed.ARCHIVE):
        return Path(path.stem).suffix, path.suffix
    return path.suffix, ""


@contextlib.contextmanager
def _stream(file: _File, packing: str, reading: _Reading) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        if file.path is not None:
            plain: IO[bytes] = stack.enter_context(io.BufferedReader(_Told(file.path, reading.tell)))
        else:
            plain = stack.enter_context(file.open())
        yield stack.enter_context(packed.unpacked(plain, packing))


def _whole(file: _File, kind: str, packing: str, reading: _Reading) -> Iterator[Item]:
    """A file that is read as one: by the child process, which opens it itself, or here when it is small text."""
    limits = reading.limits
    size = file.path.stat().st_size if file.path is not None and not packing else None
    if size is not None and size > limits.file_bytes and kind != _PARQUET:
        raise too_large(limits)
    if size is not None and (size > SMALL or kind in binary.MEDIA_TYPES or kind == _PARQUET):
        assert file.path is not None
        yield from reading.parser.items(file.path, kind, file.name)
        reading.tell(size)
        return
    with _stream(file, packing, reading) as stream:
        data = stream.read(SMALL + 1)
        if len(data) <= SMALL and kind not in binary.MEDIA_TYPES and kind != _PARQUET:
            yield from parsed(data, kind, file.name, limits)
            return
        with _spooled(data, stream, limits) as path:
            yield from reading.parser.items(path, kind, file.name)


@contextlib.contextmanager
def _spooled(head: bytes, stream: IO[bytes], limits: Limits) -> Iterator[Path]:
    """What a stream holds, as a file for as long as it is needed."""
    with tempfile.NamedTemporaryFile(prefix="citewell-") as copy:
        size, piece = 0, head
        while piece:
            size += len(piece)
            if size > limits.file_bytes:
                raise too_large(limits)
            copy.write(piece)
            piece = stream.read(_PIECE)
        copy.flush()
        yield Path(copy.name)


def _archived(file: _File, reading: _Reading) -> Iterator[Item]:
    """The documents of an archive's members; a member that cannot be read costs itself alone."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_stream(file, "", reading))
        if file.path is None:
            path = stack.enter_context(_spooled(stream.read(_PIECE), stream, reading.limits))
            stream = stack.enter_context(path.open("rb"))
        size = stream.seek(0, os.SEEK_END)
        archive = stack.enter_context(packed.opened_archive(stream))
        empty = True
        for member, refused in packed.members(archive, size):
            empty = False
            name = f"{file.name}/{member.filename}"
            if refused is not None:
                yield failed(name, name, refused)
            else:
                inner = _File(name, lambda member=member: packed.opened_member(archive, member))  # type: ignore[misc]
                yield from _documents(inner, reading)
        if empty:
            raise BadInput("the archive holds no files", remedy="Remove it from the source.")
