"""The two indices behind the alias: made from the JSON in es_mappings, and checked against a fingerprint when opened.

Alias `NAME` points at `NAME-000001` (passages), alias `NAME-documents` at `NAME-000001-documents` (the ledger). Both
carry the fingerprint in `_meta`. Several processes may start at once: whoever comes second finds the first one's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from citewell.errors import ConfigError, FingerprintMismatch, IndexUnavailable
from citewell.index.analysis import sub_fields
from citewell.index.elastic_errors import is_missing_analyzer, missing_analyzer, translated
from citewell.records import INDEX_SCHEMA, Fingerprint

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_FIRST = "-000001"
_GRAPH = {"m": 16, "ef_construction": 100}
_VECTOR_INDEX: dict[str, dict[str, Any]] = {
    "int8_hnsw": {"type": "int8_hnsw", **_GRAPH},
    "bbq_hnsw": {"type": "bbq_hnsw", **_GRAPH},
    "flat": {"type": "flat"},
}
_LEDGER = "-documents"


@dataclass(frozen=True)
class Layout:
    """Names of one index: what is written to and searched (aliases), and the index version behind them."""

    passages: str
    documents: str
    version: str


def body(kind: str, fingerprint: Fingerprint) -> dict[str, Any]:
    """Settings and mapping of `passages` or `documents`, with what the fingerprint decides filled in."""
    text = resources.files("citewell.es_mappings").joinpath(f"{kind}.v{INDEX_SCHEMA}.json").read_text("utf-8")
    filled: dict[str, Any] = json.loads(text)
    mappings = filled["mappings"]
    mappings["_meta"] = {"citewell": fingerprint.to_dict()}
    if kind == "passages":
        fields = mappings["properties"]
        fields["title"]["fields"] = fields["text"]["fields"] = sub_fields(fingerprint.languages)
        fields["vector"] |= {"dims": fingerprint.dimension, "similarity": _similarity(fingerprint)}
        fields["vector"]["index_options"] = _VECTOR_INDEX[fingerprint.vector_index]
    return filled


def _similarity(fingerprint: Fingerprint) -> str:
    """Elasticsearch's name; its `dot_product` is for vectors of unit length alone."""
    return "cosine" if fingerprint.similarity == "cosine" else "max_inner_product"


def similarity_of(score: float, fingerprint: Fingerprint) -> float:
    """The cosine or dot product behind a score, which Elasticsearch keeps above 0.

    Source: its reference of `dense_vector`, parameter `similarity`.
    """
    if fingerprint.similarity == "cosine":
        return 2 * score - 1
    return 1 - 1 / score if score < 1 else score - 1


def open_or_create(client: Elasticsearch, alias: str, fingerprint: Fingerprint, address: str) -> Layout:
    """The layout behind `alias`, made when it is missing.

    Raises `FingerprintMismatch`, `ConfigError` (analyzers, a foreign index of that name), `IndexUnavailable`.
    """
    version = _ensure(client, alias, alias + _FIRST, ("passages", fingerprint), address)
    _ensure(client, alias + _LEDGER, version + _LEDGER, ("documents", fingerprint), address)
    return Layout(passages=alias, documents=alias + _LEDGER, version=version)


def _ensure(client: Elasticsearch, alias: str, name: str, made_of: tuple[str, Fingerprint], address: str) -> str:
    """The index behind the alias, checked; or the new one."""
    found = _behind(client, alias, address) or _create(client, alias, name, body(*made_of), address)
    if not found:  # another process has just made it
        found = _behind(client, alias, address)
    if not found:
        raise IndexUnavailable(
            f"Elasticsearch at {address} has an index {name} without its alias {alias}",
            remedy=f"Give the index the alias {alias} again, or delete it and load the documents anew.",
        )
    if len(found) > 1 or alias in found:
        names = ", ".join(sorted(found))
        raise ConfigError(
            f"the name {alias} in Elasticsearch at {address} belongs to {names}, not to one index of Citewell",
            remedy="Choose another `index_name`.",
        )
    ((concrete, meta),) = found.items()
    _check(alias, meta, made_of[1], address)
    return concrete


def _behind(client: Elasticsearch, alias: str, address: str) -> dict[str, Any]:
    """Indices that the name resolves to, each with the `_meta` of its mapping; empty when there are none."""
    from elasticsearch import NotFoundError

    with translated(address):
        try:
            answer = client.indices.get_mapping(index=alias)
        except NotFoundError:
            return {}
    return {name: described.get("mappings", {}).get("_meta") for name, described in answer.body.items()}


def _create(client: Elasticsearch, alias: str, name: str, made_of: dict[str, Any], address: str) -> dict[str, Any]:
    """The new index under its alias, in one step; empty when it exists already."""
    from elasticsearch import BadRequestError

    with translated(address):
        try:
            client.indices.create(index=name, aliases={alias: {"is_write_index": True}}, **made_of)
        except BadRequestError as error:
            reason = error.body.get("error", {}) if isinstance(error.body, dict) else {}
            if reason.get("type") == "resource_already_exists_exception":
                return {}
            if is_missing_analyzer(reason):
                raise missing_analyzer(address, reason) from None
            raise
    return {name: made_of["mappings"]["_meta"]}


def _check(alias: str, meta: Any, fingerprint: Fingerprint, address: str) -> None:
    stored = meta.get("citewell") if isinstance(meta, dict) else None
    if not isinstance(stored, dict):
        raise ConfigError(
            f"the index behind {alias} in Elasticsearch at {address} was not made by Citewell",
            remedy="Choose another `index_name`.",
        )
    made_with = Fingerprint.model_validate(stored)
    if made_with != fingerprint:
        raise FingerprintMismatch(
            f"the index `{alias}` in Elasticsearch at {address} was made with {made_with.describe()}; "
            f"it was opened with {fingerprint.describe()}",
            remedy="Load the documents into another `index_name`, or use the embedder the index was made with.",
        )
