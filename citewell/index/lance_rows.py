"""LanceDB's two tables: their columns, and passages and ledger entries as rows of them and back.

Title and text fill every full-text column, whatever the passage's language: a language is told from a few words and
sometimes wrongly, and the same passage under a wrong analyzer is still found by its words. docs/LOG.md, "LanceDB
full-text columns", has what that costs and what the other way loses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from citewell.errors import CitewellError, IndexUnavailable
from citewell.index.analysis import full_text_columns
from citewell.index.queries import metadata_terms
from citewell.ports import DocumentWrite
from citewell.records import Document, Fingerprint, LedgerEntry, Passage

if TYPE_CHECKING:
    import pyarrow as pa

# The key of the schema's metadata that holds the fingerprint as JSON.
FINGERPRINT_KEY = b"citewell"
PASSAGE_COLUMNS = ["id", "doc_id", "ordinal", "start", "end", "text", "title", "url", "lang", "metadata", "groups"]
LEDGER_COLUMNS = ["doc_id", "content_hash", "passages", "lang", "source", "indexed_at"]


def passage_schema(fingerprint: Fingerprint) -> pa.Schema:
    import pyarrow as pa

    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int32()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("title", pa.string()),
        pa.field("url", pa.string()),
        pa.field("lang", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("meta_terms", pa.list_(pa.string())),
        pa.field("groups", pa.list_(pa.string())),
        pa.field("vector", pa.list_(pa.float32(), fingerprint.dimension)),
    ]
    fields += [pa.field(column, pa.string()) for column in full_text_columns()]
    return pa.schema(fields, metadata={FINGERPRINT_KEY: fingerprint.to_json().encode()})


def ledger_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("doc_id", pa.string(), nullable=False),
            pa.field("content_hash", pa.string()),
            pa.field("passages", pa.int32()),
            pa.field("lang", pa.string()),
            pa.field("source", pa.string()),
            pa.field("indexed_at", pa.float64()),
            pa.field("document", pa.string()),
        ]
    )


def passage_rows(writes: Sequence[DocumentWrite], schema: pa.Schema) -> pa.Table:
    """All passages of a batch as one table; every full-text column holds title and text."""
    import numpy as np
    import pyarrow as pa

    passages = [passage for write in writes for passage in write.passages]
    content = [f"{passage.title}\n{passage.text}" if passage.title else passage.text for passage in passages]
    columns: dict[str, Any] = {name: [getattr(passage, name) for passage in passages] for name in PASSAGE_COLUMNS}
    columns["metadata"] = [json.dumps(passage.metadata, ensure_ascii=False) for passage in passages]
    columns["meta_terms"] = [metadata_terms(passage.metadata) for passage in passages]
    columns["groups"] = [list(passage.groups) for passage in passages]
    columns |= dict.fromkeys(full_text_columns(), content)
    dimension = schema.field("vector").type.list_size
    stacked = [write.vectors for write in writes if write.passages] or [np.zeros((0, dimension), dtype=np.float32)]
    flat = np.concatenate(stacked).astype(np.float32, copy=False).reshape(-1)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), dimension)
    return pa.table([pa.array(columns[f.name], type=f.type) for f in schema], schema=schema)


def ledger_rows(entries: Sequence[LedgerEntry]) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(entry, name) for entry in entries] for name in LEDGER_COLUMNS}
    columns["document"] = [entry.document.to_json() if entry.document else None for entry in entries]
    schema = ledger_schema()
    return pa.table([pa.array(columns[f.name], type=f.type) for f in schema], schema=schema)


def to_passage(row: Mapping[str, Any]) -> Passage:
    fields = {name: row[name] for name in PASSAGE_COLUMNS}
    return Passage(**(fields | {"metadata": json.loads(row["metadata"]), "groups": tuple(row["groups"])}))


def to_entry(row: Mapping[str, Any]) -> LedgerEntry:
    document = row.get("document")
    fields = {name: row[name] for name in LEDGER_COLUMNS}
    return LedgerEntry(**fields, document=Document.from_json(document) if document else None)


def translate(error: Exception, folder: str, action: str) -> CitewellError:
    """LanceDB's error as ours. It has no error classes of its own, so the cause is told from the message."""
    reason = re.sub(r",? \S+\.rs:\d+:\d+.*", "", str(error).split("\n", 1)[0])[:300]
    text = str(error).lower()
    if "no space left" in text or "os error 28" in text or "quota" in text:
        remedy = "Free space on that disk, then run the load again; what was indexed is kept."
    elif any(word in text for word in ("permission denied", "read-only", "not a directory", "os error 13")):
        remedy = "Let this user write to the folder, or set `data_dir` to one where it may."
    else:
        remedy = (
            "If the folder was moved, copied or changed by hand, restore it from a backup, or delete it and load the "
            "documents again."
        )
    return IndexUnavailable(f"cannot {action} the index in {folder}: {reason}", remedy=remedy)
