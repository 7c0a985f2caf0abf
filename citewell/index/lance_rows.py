"""LanceDB's two tables: their columns, and passages and ledger entries as rows of them and back.

Two columns hold title and text as words for full-text search: `words` as they stand, `stems` as the passage's language
cuts them (`citewell.index.words`). A question that is in another language, or told wrongly, still meets `words`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from citewell.errors import CitewellError, IndexUnavailable
from citewell.index import words
from citewell.index.filters import TERM_EDGE, TERM_SEPARATOR, metadata_terms, orderable, readers
from citewell.ports import DocumentWrite, Held
from citewell.records import Document, Fingerprint, LedgerEntry, Passage

if TYPE_CHECKING:
    import pyarrow as pa

# The keys of the schema's metadata that hold the fingerprint and the recipe as JSON.
FINGERPRINT_KEY = b"citewell"
RECIPE_KEY = b"citewell.recipe"
PASSAGE_COLUMNS = [
    "id",
    "doc_id",
    "ordinal",
    "start",
    "end",
    "text",
    "gap",
    "title",
    "url",
    "lang",
    "metadata",
    "groups",
    "heading",
    "page",
]
LEDGER_COLUMNS = ["doc_id", "content_hash", "passages", "lang", "source", "revision", "indexed_at"]
_ROWS_AT_ONCE = 1000
# Full-text columns. What they hold is cut into words already.
WORDS, STEMS = "words", "stems"
TOKENIZER: dict[str, Any] = {
    "base_tokenizer": "whitespace",
    "lower_case": False,
    "stem": False,
    "remove_stop_words": False,
    "ascii_folding": False,
    "max_token_length": None,
}


def passage_schema(fingerprint: Fingerprint, recipe: Mapping[str, Any]) -> pa.Schema:
    import pyarrow as pa

    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int32()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("gap", pa.string()),
        pa.field("title", pa.string()),
        pa.field("url", pa.string()),
        pa.field("lang", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("meta_terms", pa.list_(pa.string())),
        pa.field("orderable", pa.string()),
        pa.field("groups", pa.list_(pa.string())),
        pa.field("readers", pa.list_(pa.string())),
        pa.field("heading", pa.string()),
        pa.field("page", pa.int32()),
        pa.field("vector", pa.list_(pa.float32(), fingerprint.dimension)),
        pa.field(WORDS, pa.string()),
        pa.field(STEMS, pa.string()),
    ]
    metadata = {FINGERPRINT_KEY: fingerprint.to_json().encode(), RECIPE_KEY: json.dumps(recipe).encode()}
    return pa.schema(fields, metadata=metadata)


def ledger_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("doc_id", pa.string(), nullable=False),
            pa.field("content_hash", pa.string()),
            pa.field("passages", pa.int32()),
            pa.field("lang", pa.string()),
            pa.field("source", pa.string()),
            pa.field("revision", pa.string()),
            pa.field("indexed_at", pa.float64()),
            pa.field("document", pa.string()),
        ]
    )


def passage_rows(writes: Sequence[DocumentWrite], schema: pa.Schema) -> pa.Table:
    """All passages of a batch as one table; the full-text columns hold title and text."""
    import numpy as np
    import pyarrow as pa

    passages = [passage for write in writes for passage in write.passages]
    content = [words.searched_text(passage) for passage in passages]
    columns: dict[str, Any] = {name: [getattr(passage, name) for passage in passages] for name in PASSAGE_COLUMNS}
    columns["metadata"] = [json.dumps(passage.metadata, ensure_ascii=False) for passage in passages]
    columns["meta_terms"] = [metadata_terms(passage.metadata) for passage in passages]
    columns["groups"] = [list(passage.groups) for passage in passages]
    columns["readers"] = [readers(passage.groups) for passage in passages]
    columns["orderable"] = [_orderable_terms(passage) for passage in passages]
    columns[WORDS] = [words.words(text) for text in content]
    columns[STEMS] = [words.stems(text, p.lang) for text, p in zip(content, passages, strict=True)]
    dimension = schema.field("vector").type.list_size
    stacked = [write.vectors for write in writes if write.passages] or [np.zeros((0, dimension), dtype=np.float32)]
    flat = np.concatenate(stacked).astype(np.float32, copy=False).reshape(-1)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(flat), dimension)
    return pa.table([pa.array(columns[f.name], type=f.type) for f in schema], schema=schema)


def _orderable_terms(passage: Passage) -> str:
    """Numbers and dates as terms between edges, for the patterns of range filters."""
    found = orderable(passage.metadata)
    return "".join(f"{TERM_EDGE}{key}{TERM_SEPARATOR}{code}{TERM_EDGE}" for key in found for code in found[key])


def ledger_rows(entries: Sequence[LedgerEntry]) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(entry, name) for entry in entries] for name in LEDGER_COLUMNS}
    columns["document"] = [entry.document.to_json() if entry.document else None for entry in entries]
    schema = ledger_schema()
    return pa.table([pa.array(columns[f.name], type=f.type) for f in schema], schema=schema)


def held(passages: Any, where: str = "") -> Iterator[Held]:
    """Counts by document, in the order of ids; all are in memory at once, as numbers beside the ids."""
    import pyarrow as pa

    count = passages.count_rows(where or None)
    parts = []
    if count:
        query = passages.search().select(["doc_id", "ordinal"]).limit(count)
        for batch in (query.where(where) if where else query).to_batches():
            grouped = pa.Table.from_batches([batch]).group_by("doc_id")
            parts.append(grouped.aggregate([("ordinal", "count"), ("ordinal", "max")]))
    if not parts:
        return iter(())
    whole = pa.concat_tables(parts).group_by("doc_id")
    table = whole.aggregate([("ordinal_count", "sum"), ("ordinal_max", "max")]).sort_by("doc_id")
    return (
        Held(row["doc_id"], row["ordinal_count_sum"], row["ordinal_max_max"])
        for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE)
        for row in batch.to_pylist()
    )


def to_passage(row: Mapping[str, Any]) -> Passage:
    fields = {name: row[name] for name in PASSAGE_COLUMNS}
    return Passage(**(fields | {"metadata": json.loads(row["metadata"]), "groups": tuple(row["groups"])}))


def to_entry(row: Mapping[str, Any]) -> LedgerEntry:
    document = row.get("document")
    fields = {name: row[name] for name in LEDGER_COLUMNS}
    return LedgerEntry(**fields, document=Document.from_json(document) if document else None)


@contextlib.contextmanager
def translated(folder: str, action: str) -> Iterator[None]:
    """Raise what LanceDB, Arrow and the disk raise as an error of ours."""
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:  # all that LanceDB and Arrow raise
        raise translate(error, folder, action) from None


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
            "If another process made the index anew, start this one again. If the folder was moved, copied or changed "
            "by hand, restore it from a backup, or delete it and load the documents again."
        )
    return IndexUnavailable(f"cannot {action} the index in {folder}: {reason}", remedy=remedy)
