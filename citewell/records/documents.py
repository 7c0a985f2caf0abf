"""Documents, what the index keeps of them, and what became of one that was loaded."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from citewell.records.base import INDEX_SCHEMA, Record, Similarity, VectorIndex


class Document(Record):
    """What a user loads. `groups` empty means that everyone may see it.

    `pages` are the offsets in `text` at which its pages begin, in order, the first one's included; empty where it has
    none. `revision` is what its source calls this state of it (an entity tag, the value of a column that only grows);
    it is no part of the content. `source` is where the ledger says it came from; empty is what its loader is told.
    """

    id: Annotated[str, Field(min_length=1, max_length=512)]
    text: str
    title: str = ""
    url: str = ""
    lang: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    groups: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    revision: str = ""
    source: str = ""

    def content_hash(self) -> str:
        """SHA-256 over everything that the index keeps of the document as it was given; equal hash, nothing to do.

        The texts go in as they are, each behind its length: spelling them as JSON costs more than hashing them.
        """
        metadata = self.model_dump(mode="json", include={"metadata"})["metadata"] if self.metadata else {}
        rest = json.dumps([metadata, self.groups, self.pages], sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256()
        for part in (self.id, self.title, self.url, self.lang, rest, self.text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(data))
            digest.update(data)
        return digest.hexdigest()


class Passage(Record):
    """A span of a document, the unit of retrieval: `document.text[start:end] == text`.

    `gap` is the white space between this passage and the next one of its document, so that neighbours can be joined
    without the document: `document.text[end : end + len(gap)] == gap`. It is empty where they touch or overlap.
    `heading` is the path of headings above its first words, its own leading ones included, joined by ` > `; `page` the
    page it starts on, from 1, or 0 where the document has none.
    """

    id: str
    doc_id: str
    ordinal: int
    start: int
    end: int
    text: str
    gap: str = ""
    title: str = ""
    url: str = ""
    lang: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)
    groups: tuple[str, ...] = ()
    heading: str = ""
    page: int = 0

    @staticmethod
    def make_id(doc_id: str, ordinal: int) -> str:
        return f"{doc_id}#{ordinal}"


class LedgerEntry(Record):
    """What the index knows of one document. `content_hash` is empty while a write is under way."""

    doc_id: str
    content_hash: str
    passages: int = 0
    lang: str = ""
    source: str = ""
    revision: str = ""
    indexed_at: float = 0.0
    document: Document | None = None


class Outcome(Record):
    """What became of one document: `reason` and `remedy` are filled for `failed`, `receipt` for `deleted`: passages
    removed, and what a look at index and ledger still found. A failure that is not `exact` may hide other documents."""

    doc_id: str
    status: Literal["added", "changed", "unchanged", "deleted", "failed"]
    passages: int = 0
    source: str = ""
    code: str = ""
    reason: str = ""
    remedy: str = ""
    exact: bool = False
    receipt: dict[str, int | bool] | None = None


class Fingerprint(Record):
    """What an index was made with; opening it with anything else is refused.

    `weights` is a hash over the model's files, so that two models of one name are told apart. `vector_index` is how
    the dense leg finds the nearest: `int8_hnsw`, `bbq_hnsw` (one bit a dimension) or `flat` (exact).
    """

    schema_version: int = INDEX_SCHEMA
    embedder: str
    weights: str
    dimension: int
    similarity: Similarity = "cosine"
    normalized: bool = True
    splitter: str = ""
    languages: tuple[str, ...] = ()
    vector_index: VectorIndex = "int8_hnsw"

    def describe(self) -> str:
        return (
            f"{self.embedder} ({self.weights[:12]}, {self.dimension} dimensions, {self.similarity}), "
            f"splitter {self.splitter}, schema {self.schema_version}, languages {','.join(self.languages)}, "
            f"vectors {self.vector_index}"
        )
