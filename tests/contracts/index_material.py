"""What the index tests load: small documents with vectors that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from citewell.ports import DocumentWrite, Legs, LegsQuery, Vectors
from citewell.records import Document, Fingerprint, LedgerEntry, Passage

DIMENSION = 8
FINGERPRINT = Fingerprint(
    embedder="test", weights="0" * 64, dimension=DIMENSION, splitter="test", languages=("en", "es", "ja", "ko")
)


def towards(degrees: float) -> Vectors:
    """A unit vector in the plane of the first two dimensions; the cosine of two is that of the angle between."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return vector


def write(doc_id: str, texts: Sequence[str] = ("hello",), *, angle: float = 0.0, **fields: Any) -> DocumentWrite:
    """A document of one passage a text; the first passage's vector points to `angle`, each next a degree further."""
    document = Document(id=doc_id, text="\n".join(texts), **fields)
    passages, start = [], 0
    for ordinal, text in enumerate(texts):
        place: dict[str, Any] = {"ordinal": ordinal, "start": start, "end": start + len(text), "text": text}
        passages.append(Passage(id=Passage.make_id(doc_id, ordinal), doc_id=doc_id, **place, **fields))
        start += len(text) + 1
    vectors = [towards(angle + ordinal) for ordinal in range(len(texts))]
    entry = LedgerEntry(
        doc_id=doc_id,
        content_hash=document.content_hash(),
        passages=len(texts),
        lang=document.lang,
        source="test",
        indexed_at=1.5,
        document=document,
    )
    shaped = np.stack(vectors) if vectors else np.zeros((0, DIMENSION), dtype=np.float32)
    return DocumentWrite(entry=entry, passages=tuple(passages), vectors=shaped)


def ask(text: str = "", *, lang: str = "en", angle: float | None = None, **fields: Any) -> LegsQuery:
    """A query of the legs that the arguments allow: BM25 for a text, dense for an angle."""
    vector = None if angle is None else towards(angle)
    legs = (("bm25",) if text else ()) + (("dense",) if angle is not None else ())
    return LegsQuery(**({"text": text, "lang": lang, "vector": vector, "groups": None, "legs": legs} | fields))


def documents(legs: Legs, leg: str) -> list[str]:
    """Ids of the documents that a leg ranked, best first."""
    return [passage_id.rpartition("#")[0] for passage_id, _ in legs.ranked[leg]]  # type: ignore[index]
