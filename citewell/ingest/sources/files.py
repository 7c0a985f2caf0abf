"""Files and folders as streams of documents.

A source yields, in a fixed order, either a `Document` or, for what it could not read, an `Outcome` with status `failed`
that names file and line; it never stops at a bad one. Memory is bounded: line formats are read line by line, and a
line or file over its limit is refused without being read whole.

Ids: `_id` or `id` where the format has fields, else the url, else `FILE:LINE`; a file that is one document has its path
below the folder that was given.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from citewell.errors import BadInput, CitewellError, InvalidDocument, TooLarge
from citewell.parse import MEDIA_TYPES, document_of, parse
from citewell.records import Document, Outcome

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Item = Document | Outcome
Tell = Callable[[int], None]
_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv")
_KNOWN_FIELDS = ("_id", "id", "title", "text", "url", "lang", "metadata", "groups")


@dataclass(frozen=True)
class Limits:
    """Largest single file in bytes, and largest document text in characters."""

    file_bytes: int
    text_characters: int

    @property
    def line_bytes(self) -> int:
        """A line may hold a text of the largest size with every character escaped or in four bytes."""
        return 6 * self.text_characters + 100_000


class _Told(io.FileIO):
    """A file that tells how many bytes of it have been read, packed ones as they lie on disk."""

    def __init__(self, path: Path, tell: Tell) -> None:
        super().__init__(path)
        self._tell = tell

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count = super().readinto(buffer) or 0
        self._tell(count)
        return count


def read_sources(sources: Iterable[str], limits: Limits, tell: Tell = lambda _: None) -> Iterator[Item]:
    """Every document of files and folders; a source that does not exist is one failed outcome.

    `tell` is called with the bytes that each step has read, for a progress bar that ends at `size_of(sources)`.
    """
    for source in sources:
        path = Path(source)
        if path.is_dir():
            yield from _folder(path, limits, tell)
        elif path.is_file():
            yield from _file(path, path.name, limits, tell)
        else:
            yield failed(source, "", BadInput(f"{source} does not exist", remedy="Check the path."))


class FileSource:
    """One file or folder, under its absolute path."""

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        self._limits = limits

    @property
    def name(self) -> str:
        return spelled(str(Path(self._path).resolve()))

    @property
    def size(self) -> int:
        return size_of([self._path])

    def items(self, known: object, tell: Tell) -> Iterator[Item]:
        """Every document; revisions are not used, because reading a file costs less than embedding it."""
        return read_sources([self._path], self._limits, tell)


def failed(doc_id: str, source: str, error: CitewellError) -> Outcome:
    return Outcome(
        doc_id=spelled(doc_id),
        status="failed",
        source=spelled(source),
        code=error.code,
        reason=spelled(error.message),
        remedy=error.remedy,
    )


def spelled(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8, which Python keeps as lone surrogates, as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def size_of(sources: Iterable[str]) -> int:
    """Bytes on disk of everything that the sources will read, for a progress bar's end."""
    total = 0
    for source in map(Path, sources):
        files = [file for file, _ in _files(source)] if source.is_dir() else [source]
        total += sum(file.stat().st_size for file in files if file.is_file())
    return total


def _files(folder: Path) -> list[tuple[Path, str]]:
    """(file, id) below a folder, sorted; hidden ones are left out.

    A test collection (`queries.jsonl` beside `corpus` files or a `corpus` folder) is loaded by its corpus alone: its
    questions are no documents.
    """
    if any(folder.glob("queries.jsonl*")):
        inner = folder / "corpus"
        if inner.is_dir():
            return _files(inner)
        corpus = sorted(folder.glob("corpus.*"))
        if corpus:
            return [(file, file.name) for file in corpus]
    return [
        (file, file.relative_to(folder).as_posix())
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]


def _folder(folder: Path, limits: Limits, tell: Tell) -> Iterator[Item]:
    files = _files(folder)
    if not files:
        yield failed(
            str(folder), str(folder), BadInput(f"the folder {folder} holds no files", remedy="Check the path.")
        )
    for file, name in files:
        yield from _file(file, name, limits, tell)


def _file(path: Path, name: str, limits: Limits, tell: Tell) -> Iterator[Item]:
    """One file's documents; whatever goes wrong on the way becomes a failed outcome of the file."""
    name = spelled(name)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[-2:-1] if packed else suffixes[-1:]) or [""]
    try:
        if kind[0] in _LINES:
            with _open(path, packed, tell) as stream:
                yield from _json_lines(stream, name, limits)
        elif kind[0] in _TABLES:
            with _open(path, packed, tell) as stream:
                yield from _table(stream, name, "\t" if kind[0] == ".tsv" else ",", limits)
        elif kind[0] == ".json":
            yield from _json(_read(path, packed, limits, tell), name, limits)
        elif kind[0] in MEDIA_TYPES:
            yield checked(parse(_read(path, packed, limits, tell), MEDIA_TYPES[kind[0]], name), name, limits)
        else:
            known = ", ".join(sorted((*_LINES, *_TABLES, ".json", *MEDIA_TYPES)))
            raise BadInput(
                f"{path.name}: unknown kind of file `{kind[0]}`", remedy=f"Use one of {known}, each also .gz."
            )
    except CitewellError as error:
        yield failed(name, str(path), error)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        yield failed(name, str(path), BadInput(f"the file is no whole gzip file: {error}", remedy="Pack it again."))
    except OSError as error:
        yield failed(
            name, str(path), BadInput(f"the file cannot be read: {error.strerror}", remedy="Check its rights.")
        )


@contextlib.contextmanager
def _open(path: Path, packed: bool, tell: Tell) -> Iterator[IO[bytes]]:
    with io.BufferedReader(_Told(path, tell)) as plain:
        if not packed:
            yield plain
            return
        with gzip.GzipFile(fileobj=plain) as unpacked:
            yield cast(IO[bytes], unpacked)


def _read(path: Path, packed: bool, limits: Limits, tell: Tell) -> bytes:
    with _open(path, packed, tell) as stream:
        data = stream.read(limits.file_bytes + 1)
    if len(data) > limits.file_bytes:
        raise TooLarge(
            f"the file has more than {limits.file_bytes} bytes",
            remedy="Split it, convert it to JSONL, or raise the setting `file_limit`.",
        )
    return data


def checked(document: Document, source: str, limits: Limits) -> Item:
    """The document, or its failed outcome when its text is over the limit."""
    if len(document.text) > limits.text_characters:
        error = TooLarge(
            f"the text has {len(document.text)} characters, the limit is {limits.text_characters}",
            remedy="Split the document, or raise the setting `document_limit`.",
        )
        return failed(document.id, source, error)
    return document


def _json_lines(stream: IO[bytes], name: str, limits: Limits) -> Iterator[Item]:
    empty = True
    for number, line in enumerate(bounded_lines(stream, limits.line_bytes), start=1):
        if line is not None and not line.strip():
            continue
        empty = False
        yield _attempt(f"{name}:{number}", name, lambda line=line: json_value(line), limits)  # type: ignore[misc]
    if empty:
        raise InvalidDocument("the file is empty", remedy="Remove it from the source, or give it documents.")


def bounded_lines(stream: IO[bytes], limit: int) -> Iterator[bytes | None]:
    """Lines of a byte stream; None for a line over the limit, whose rest is skipped, so that memory stays bounded."""
    while line := stream.readline(limit + 1):
        if len(line) > limit and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(limit + 1)
            yield None
        else:
            yield line


def json_value(data: bytes | None, what: str = "line") -> Any:
    """Strict JSON of one line, file or body; None is a line that `bounded_lines` refused. Raises `InvalidDocument`."""
    if data is None:
        raise TooLarge("the line is longer than a document may be", remedy="Split it, or raise `document_limit`.")
    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise InvalidDocument(f"the {what} is not UTF-8: {error.reason}", remedy="Convert it to UTF-8.") from error
    except (ValueError, RecursionError) as error:
        remedy = "Mend it: one object a line." if what == "line" else "Mend what the message names."
        raise InvalidDocument(f"the {what} is no JSON: {error}", remedy=remedy) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _attempt(place: str, source: str, read: Callable[[], Any], limits: Limits) -> Item:
    """One record's document, or the failed outcome at its place."""
    try:
        return checked(from_mapping(read(), place), source, limits)
    except CitewellError as error:
        return failed(place, source, error)


def from_mapping(record: Any, place: str) -> Document:
    """A document of a JSON object; `place` becomes its id when it has neither id nor url."""
    if not isinstance(record, dict):
        raise InvalidDocument(
            f"expected an object, found {type(record).__name__}", remedy="Give one object a document."
        )
    identity = next((record[key] for key in ("_id", "id") if record.get(key) not in (None, "")), None)
    if identity is None:
        identity = record.get("url") or place
    return document_of({**record, "id": identity})


def _json(data: bytes, name: str, limits: Limits) -> Iterator[Item]:
    records = json_value(data, "file")
    if not isinstance(records, list):
        records = [records]
    if not records:
        raise InvalidDocument("the list is empty", remedy="Remove the file from the source, or give it documents.")
    for number, record in enumerate(records, start=1):
        yield _attempt(f"{name}:{number}", name, lambda record=record: record, limits)  # type: ignore[misc]


def _table(stream: IO[bytes], name: str, delimiter: str, limits: Limits) -> Iterator[Item]:
    csv.field_size_limit(min(limits.line_bytes, 2**31 - 1))
    # Bytes that are no UTF-8 survive as lone surrogates, so that they spoil their own row and not the rest.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.DictReader(text, delimiter=delimiter, strict=True)
        if not reader.fieldnames:
            raise InvalidDocument("the file is empty", remedy="Give it a header line and rows.")
        if "text" not in reader.fieldnames:
            raise InvalidDocument(
                f"no column `text` among {', '.join(reader.fieldnames)}", remedy="Name the column with the text `text`."
            )
        while True:
            place = f"{name}:{reader.line_num + 1}"
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield failed(place, name, InvalidDocument(f"the row is no CSV: {error}", remedy="Mend the quotes."))
                continue
            yield _attempt(place, name, lambda row=row: _row(row), limits)  # type: ignore[misc]


def _row(row: dict[str | None, Any]) -> dict[str, Any]:
    """Known columns as fields, `groups` split at `|`, all others as metadata."""
    if None in row:
        raise InvalidDocument("the row has more fields than the header", remedy="Quote fields that hold the delimiter.")
    if any(isinstance(v, str) and any("\udc80" <= c <= "\udcff" for c in v) for v in row.values()):
        raise InvalidDocument("the row is not UTF-8", remedy="Convert the file to UTF-8.")
    fields: dict[str, Any] = {key: row[key] for key in _KNOWN_FIELDS if row.get(key)}
    fields["groups"] = [group for group in str(fields.get("groups", "")).split("|") if group]
    if "metadata" in fields:
        fields["metadata"] = json_value(str(fields["metadata"]).encode(), "metadata")
    extra = {key: value for key, value in row.items() if key not in _KNOWN_FIELDS and value}
    return {**fields, "metadata": {**fields.get("metadata", {}), **extra}}
