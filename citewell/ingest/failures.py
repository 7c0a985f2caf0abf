"""Documents that could not be loaded, kept as JSON lines that can be loaded again once what was wrong is mended.

A line is `{"id", "source", "code", "reason", "remedy", "document"}`; `document` is missing where the source could not
be read, and stands as it was loaded otherwise, so that it keeps its id and its source.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from citewell.errors import ConfigError, InvalidDocument
from citewell.parse import document_of
from citewell.records import Document, Outcome

_FIELDS = {"id", "source", "code", "reason", "remedy"}


def is_failure(record: dict[str, Any]) -> bool:
    """Whether a JSON object is a line of such a file, and not a document."""
    return record.keys() >= _FIELDS and record.keys() - _FIELDS <= {"document"}


def document_again(record: dict[str, Any]) -> Document:
    """The document of a failure's line, with its id, pages, revision and source; raises `InvalidDocument`."""
    fields = record.get("document")
    if not isinstance(fields, dict):
        raise InvalidDocument(
            f"nothing of it could be read then: {record['reason']}", remedy="Mend its source, and load that again."
        )
    try:
        kept = {
            "pages": tuple(int(start) for start in fields.get("pages") or ()),
            "revision": str(fields.get("revision") or ""),
            "source": str(record["source"]),
        }
    except (TypeError, ValueError):
        raise InvalidDocument("`pages` is no list of offsets", remedy="Leave it out, or as it was.") from None
    return document_of(fields).model_copy(update=kept)


class Failures:
    """Writes the file beside its place and moves it there when the load has ended, empty when nothing failed.

    So a file of failures can be loaded while the failures of that are written to the same name, and a load that broke
    off leaves the old file as it was: running it again meets the same failures. Where the file cannot be written, as on
    a full disk, the load goes on, and the end raises `ConfigError`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = path
        self._file: IO[str] | None = None
        self._problem: OSError | None = None
        self.count = 0

    def __enter__(self) -> Failures:
        """Raises `ConfigError` when the file cannot be written."""
        try:
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        except OSError as error:
            raise self._refused(error) from None
        self._beside, self._file = Path(name), os.fdopen(handle, "w", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._try(lambda: self._file and self._file.close())
        if error is None and self._problem is None:
            self._try(lambda: self._beside.replace(self._path))
        if error is not None or self._problem is not None:
            self._try(lambda: self._beside.unlink(missing_ok=True))
        if error is None and self._problem is not None:
            raise self._refused(self._problem)

    def of(self, put: Callable[[Iterable[Any]], Iterator[Outcome]], items: Iterable[Any]) -> Iterator[Outcome]:
        """What `put` makes of the items, one outcome an item and in their order; failures are written down."""
        waiting: deque[Any] = deque()

        def watched() -> Iterator[Any]:
            for item in items:
                waiting.append(item)
                yield item

        for outcome in put(watched()):
            item = waiting.popleft() if waiting else None
            if outcome.status == "failed":
                self.add(outcome, item if isinstance(item, Document) else None)
            yield outcome

    def add(self, outcome: Outcome, document: Document | None) -> None:
        line: dict[str, Any] = {"id": outcome.doc_id} | outcome.model_dump(
            include={"source", "code", "reason", "remedy"}
        )
        if document is not None:
            line["document"] = document.model_dump(mode="json", exclude={"source"})
            line["source"] = document.source or line["source"]
        self.count += 1
        if self._file is not None and self._problem is None:
            text = json.dumps(line, ensure_ascii=False) + "\n"
            self._try(lambda: self._file and self._file.write(text))

    def _try(self, act: Callable[[], object]) -> None:
        """The first thing that the disk refuses is kept for the end."""
        try:
            act()
        except OSError as error:
            self._problem = self._problem or error

    def _refused(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"{self.count or 'the'} failures cannot be written to {self._path}: {error.strerror}",
            remedy="Name a file that can be written, then run the load again: what is loaded already is skipped.",
        )
