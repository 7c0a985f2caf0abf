"""What a source yields, and the limits that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from citewell.config import Settings
from citewell.errors import CitewellError, TooLarge
from citewell.records import Document, Outcome

Item = Document | Outcome
Tell = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """Largest single file in bytes, largest document text in characters; seconds and bytes of memory for a parser."""

    file_bytes: int
    text_characters: int
    parse_seconds: float = 60.0
    parse_bytes: int = 1_000_000_000

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.file_limit, settings.document_limit, settings.parse_timeout, settings.parse_memory)

    @property
    def line_bytes(self) -> int:
        """A line may hold a text of the largest size with every character escaped or in four bytes."""
        return 6 * self.text_characters + 100_000


def failed(doc_id: str, source: str, error: CitewellError, *, exact: bool = False) -> Outcome:
    """`exact` when `doc_id` is the document's own id, so that no other document can be meant."""
    return Outcome(
        doc_id=spelled(doc_id),
        status="failed",
        source=spelled(source),
        code=error.code,
        reason=spelled(error.message),
        remedy=error.remedy,
        exact=exact,
    )


def spelled(name: str) -> str:
    """A file's name as text: bytes that are no UTF-8, which Python keeps as lone surrogates, as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def checked(document: Document, source: str, limits: Limits) -> Item:
    """The document, or its failed outcome when its text is over the limit."""
    if len(document.text) > limits.text_characters:
        error = TooLarge(
            f"the text has {len(document.text)} characters, the limit is {limits.text_characters}",
            remedy="Split the document, or raise the setting `document_limit`.",
        )
        return failed(document.id, source, error, exact=True)
    return document


def too_large(limits: Limits) -> TooLarge:
    return TooLarge(
        f"the file has more than {limits.file_bytes} bytes",
        remedy="Split it, convert it to JSONL, or raise the setting `file_limit`.",
    )


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter; none without items."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
