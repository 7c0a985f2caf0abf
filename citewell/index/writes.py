"""What must be true of a write before a backend takes it, and results in the order they were asked for.

Pure. One bad document is a result with its reason, never an exception: the others of its batch go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from citewell.ports import DocumentWrite, WriteResult


class Later(str):
    """A reason that has nothing to do with the document: it may be gone when the document is loaded again."""

    __slots__ = ()


def problem(write: DocumentWrite, dimension: int) -> str:
    """Why this document cannot be indexed, or ""."""
    expected = (len(write.passages), dimension)
    if write.passages and write.vectors.shape != expected:
        return f"vectors have shape {write.vectors.shape}, the index wants {expected}"
    if write.passages and not np.isfinite(write.vectors).all():
        return "a vector holds a value that is not finite"
    if write.passages and not write.vectors.any(axis=1).all():
        return "a vector is all zeros, which has no direction to compare"
    for ordinal, passage in enumerate(write.passages):
        if (passage.doc_id, passage.ordinal) != (write.entry.doc_id, ordinal):
            return f"passage {passage.id} is not number {ordinal} of {write.entry.doc_id}"
        if passage.id != passage.make_id(passage.doc_id, ordinal):
            return f"passage {passage.id} is not named {passage.make_id(passage.doc_id, ordinal)}"
    return _not_unicode(write)


def _not_unicode(write: DocumentWrite) -> str:
    try:
        write.entry.to_json().encode("utf-8")
        for passage in write.passages:
            passage.to_json().encode("utf-8")
    except ValueError:  # of the encoder or of pydantic's own
        return "the text holds half a character (a lone surrogate), which UTF-8 has no bytes for"
    return ""


def latest(writes: Sequence[DocumentWrite]) -> list[DocumentWrite]:
    """One write a document: the last of those that a batch holds for it."""
    return list({write.entry.doc_id: write for write in writes}.values())


def results(writes: Sequence[DocumentWrite], errors: Mapping[str, str]) -> list[WriteResult]:
    """One result a write, in order; `errors` maps document ids to reasons."""
    return [
        WriteResult(
            doc_id=write.entry.doc_id,
            error=errors.get(write.entry.doc_id, ""),
            later=isinstance(errors.get(write.entry.doc_id), Later),
            passages=0 if write.entry.doc_id in errors else len(write.passages),
        )
        for write in writes
    ]
