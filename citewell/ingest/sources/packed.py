"""Packed files as plain ones: `.gz` and `.zst` as streams, the members of a `.zip` one by one.

Nothing is unpacked without a bound: streams are read piece by piece, and a member that unpacks to far more than a text
can is refused before it is read.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, cast

from citewell.errors import BadInput, TooLarge

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STREAMS = (".gz", ".zst")
ARCHIVE = ".zip"
# A member beyond this size may be so many times its packed size; text hardly gets to a tenth of it.
_FREE_BYTES, _RATIO = 10_000_000, 200
_MOST_MEMBERS = 100_000
_ENCRYPTED = 0x1


@contextlib.contextmanager
def unpacked(stream: IO[bytes], packing: str) -> Iterator[IO[bytes]]:
    """The stream behind its packing ("" for none); a broken one raises `BadInput` when it is read."""
    if packing == ".gz":
        with _translated("gzip"), gzip.GzipFile(fileobj=stream) as opened:
            yield cast(IO[bytes], opened)
    elif packing == ".zst":
        with _translated("zst"), io.BufferedReader(_Zst(stream)) as opened:
            yield opened
    else:
        yield stream


@contextlib.contextmanager
def _translated(kind: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error, _Broken) as error:
        raise BadInput(f"the file is no whole {kind} file: {error}", remedy="Pack it again.") from error


class _Broken(Exception):
    """What Arrow says of a stream that it cannot unpack."""


class _Zst(io.RawIOBase):
    """Zstandard by Arrow, which the index brings along."""

    def __init__(self, packed: IO[bytes]) -> None:
        import pyarrow as pa

        self._packed = _Counted(packed)
        self._stream = pa.CompressedInputStream(pa.PythonFile(self._packed, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        try:
            piece = self._stream.read(len(view))
        except OSError as error:
            if error.errno is not None:  # of the disk, not of the packing
                raise
            raise _Broken(error) from error
        if not piece and not self._packed.count:
            raise _Broken("it is empty")
        view[: len(piece)] = piece
        return len(piece)


class _Counted(io.RawIOBase):
    """Bytes that were read. Arrow may close what it reads from; the file behind is its opener's to close."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        piece = self._inner.read(size)
        self.count += len(piece)
        return piece


def members(archive: zipfile.ZipFile, size: int) -> Iterator[tuple[zipfile.ZipInfo, BadInput | None]]:
    """The files in an archive of `size` bytes, in its order, each with the reason why it is not to be read.

    Raises `BadInput` for an archive that is a trap as a whole. Folders and hidden members are left out.
    """
    found = archive.infolist()
    if len(found) > _MOST_MEMBERS:
        raise TooLarge(f"the archive has {len(found)} members, the limit is {_MOST_MEMBERS}", remedy="Split it.")
    if sum(member.compress_size for member in found) > size:
        raise BadInput(
            "the members of the archive overlap, as only those of a trap do", remedy="Pack it again from its files."
        )
    for member in found:
        parts = member.filename.split("/")
        if member.is_dir() or parts[0] == "__MACOSX" or any(part.startswith(".") for part in parts if part != ".."):
            continue
        yield member, _refused(member)


def _refused(member: zipfile.ZipInfo) -> BadInput | None:
    if member.flag_bits & _ENCRYPTED:
        return BadInput("it is protected by a password", remedy="Pack it without one.")
    if member.filename.lower().endswith(ARCHIVE):
        return BadInput("an archive within an archive is not unpacked", remedy="Unpack it, and load its files.")
    if member.file_size > _FREE_BYTES and member.file_size > _RATIO * member.compress_size:
        return TooLarge(
            f"it unpacks to {member.file_size} bytes, more than {_RATIO} times its {member.compress_size}",
            remedy="Unpack it yourself when you trust it.",
        )
    return None


@contextlib.contextmanager
def opened_archive(stream: IO[bytes]) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _no_zip(error) from error
    with archive:
        yield archive


@contextlib.contextmanager
def opened_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    try:
        with archive.open(member) as stream:
            yield stream
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise _no_zip(error) from error


def _no_zip(error: Any) -> BadInput:
    return BadInput(f"the file is no whole zip file: {error}", remedy="Pack it again.")
