"""What all records have in common."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 1
# Of what an index holds; an index of another one has to be migrated.
INDEX_SCHEMA = 4

# `none` searches nothing: the generator answers from what it knows.
Mode = Literal["hybrid", "bm25", "dense", "none"]
Leg = Literal["bm25", "dense"]
FilterValue = str | int | float | bool
CacheMode = Literal["none", "exact", "semantic"]
FusionMethod = Literal["minmax", "rrf", "bm25", "dense"]
Similarity = Literal["cosine", "dot"]
Priority = Literal["interactive", "batch"]
VectorIndex = Literal["int8_hnsw", "bbq_hnsw", "flat"]


class Record(BaseModel):
    """Base of all records: immutable, tolerant to fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, data: str | bytes) -> Self:
        return cls.model_validate_json(data)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return self.model_dump(mode="json")


def text_hash(text: str) -> str:
    """SHA-256 of the text's UTF-8, as hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
