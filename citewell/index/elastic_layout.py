"""The versions of an index in Elasticsearch: made from the JSON in es_mappings, told apart by aliases and fingerprints.

Version `NAME-000001` is an index of passages of that name and a ledger `NAME-000001-documents`. Alias `NAME` points at
the current version, `NAME-documents` at its ledger, `NAME-next` and `NAME-previous` at the versions of those roles.
Writes go through aliases of each version's own (`…-write`): a write to a version that was dropped then fails, where a
plain name would become an index with a guessed mapping. Passages carry fingerprint and recipe in `_meta`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import structlog

from citewell.config import Settings
from citewell.errors import ConfigError, IndexUnavailable
from citewell.index.analysis import sub_fields
from citewell.index.elastic_errors import is_missing_analyzer, missing_analyzer, public_address, translated
from citewell.index.roles import choose, version_name
from citewell.ports import IndexVersion, Role
from citewell.records import INDEX_SCHEMA, Fingerprint

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_GRAPH = {"m": 16, "ef_construction": 100}
_VECTOR_INDEX: dict[str, dict[str, Any]] = {
    "int8_hnsw": {"type": "int8_hnsw", **_GRAPH},
    "bbq_hnsw": {"type": "bbq_hnsw", **_GRAPH},
    "flat": {"type": "flat"},
}
LEDGER = "-documents"
NEXT, PREVIOUS = "-next", "-previous"
_WRITE = "-write"


@dataclass(frozen=True)
class Layout:
    """Names of one version. `searched` is the alias while the version is current, so that a swap shows."""

    version: str
    searched: str

    @property
    def passages(self) -> str:
        return self.version

    @property
    def documents(self) -> str:
        return self.version + LEDGER

    @property
    def write_passages(self) -> str:
        return self.passages + _WRITE

    @property
    def write_documents(self) -> str:
        return self.documents + _WRITE


@dataclass(frozen=True)
class Place:
    """Where versions are: a client, the alias, and the address as people may see it."""

    client: Elasticsearch
    alias: str
    address: str


def connect(settings: Settings) -> Place:
    """A client that the caller closes; nothing is sent yet. Raises `ConfigError` for a malformed address."""
    from elasticsearch import Elasticsearch

    address = public_address(settings.elasticsearch_url)
    key = settings.elasticsearch_api_key.get_secret_value()
    try:
        client = Elasticsearch(
            settings.elasticsearch_url,
            api_key=key or None,
            request_timeout=settings.elasticsearch_timeout,
            max_retries=2,
            retry_on_timeout=False,
        )
    except ValueError:  # its words repeat the address as given, with the password
        raise ConfigError(
            f"`elasticsearch_url` is no address: {address}",
            remedy="Write scheme, host and port, like http://127.0.0.1:9200.",
        ) from None
    return Place(client, settings.index_name, address)


def complete(place: Place, layout: Layout) -> None:
    """Give a version that was made earlier the fields that writes have needed since."""
    with translated(place.address):
        for kind, index in (("passages", layout.passages), ("documents", layout.documents)):
            there = place.client.indices.get_mapping(index=index)[index]["mappings"].get("properties", {})
            fields = _stored(kind)["mappings"]["properties"]
            if missing := {name: fields[name] for name in fields if name not in there}:
                place.client.indices.put_mapping(index=index, properties=missing)


def _stored(kind: str) -> dict[str, Any]:
    text = resources.files("citewell.es_mappings").joinpath(f"{kind}.v{INDEX_SCHEMA}.json").read_text("utf-8")
    made: dict[str, Any] = json.loads(text)
    return made


def body(kind: str, fingerprint: Fingerprint, recipe: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings and mapping of `passages` or `documents`, with what the fingerprint decides filled in."""
    filled = _stored(kind)
    mappings = filled["mappings"]
    mappings["_meta"] = {"citewell": fingerprint.to_dict(), "recipe": recipe or {}}
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


def open_version(place: Place, fingerprint: Fingerprint, recipe: dict[str, Any], name: str = "") -> Layout:
    """The version of that name, else the one that fits the fingerprint; the first one is made when there is none.

    Raises `FingerprintMismatch`, `ConfigError` (analyzers, a foreign index of that name), `IndexUnavailable`.
    """
    if not versions(place):
        create(place, version_name(place.alias, 1), fingerprint, recipe, current=True)
    layout = find_version(place, fingerprint, name)
    if layout.searched == place.alias:  # its ledger may be missing: two indices cannot be made in one step
        _create(
            place, layout.documents, _aliases(place, layout.version, current=True)[1], body("documents", fingerprint)
        )
    return layout


def find_version(place: Place, fingerprint: Fingerprint, name: str = "") -> Layout:
    """As `open_version`, of those that are there."""
    found = versions(place)
    chosen = choose(found, fingerprint, name, f"the index `{place.alias}` in Elasticsearch at {place.address}")
    if not chosen:
        names = ", ".join(version.name for version in found) or "no index"
        raise IndexUnavailable(
            f"Elasticsearch at {place.address} has {names} without its alias {place.alias}",
            remedy=f"Give the index the alias {place.alias} again, or delete it and load the documents anew.",
        )
    if chosen.role == "previous" and not name:
        structlog.get_logger(__name__).warning("index_previous", version=chosen.name)
    return Layout(version=chosen.name, searched=place.alias if chosen.role == "current" else chosen.name)


def create(place: Place, name: str, fingerprint: Fingerprint, recipe: dict[str, Any], *, current: bool) -> None:
    """A new version with its ledger, under `NAME` or under `NAME-next`; what is there already is left as it is."""
    passages, documents = _aliases(place, name, current=current)
    # Passages last where a migration makes them: what can be seen then has its ledger.
    kinds = [("passages", name, passages), ("documents", name + LEDGER, documents)]
    for kind, index, aliases in kinds if current else reversed(kinds):
        _create(place, index, aliases, body(kind, fingerprint, recipe))


def _aliases(place: Place, name: str, *, current: bool) -> tuple[list[str], list[str]]:
    layout = Layout(name, name)
    ours = [layout.write_passages], [layout.write_documents]
    if current:
        return [place.alias, *ours[0]], [place.alias + LEDGER, *ours[1]]
    return [place.alias + NEXT, *ours[0]], ours[1]


def _create(place: Place, name: str, aliases: list[str], made_of: dict[str, Any]) -> None:
    """The new index under its aliases, in one step; nothing when it exists already."""
    from elasticsearch import BadRequestError

    with translated(place.address):
        try:
            if not place.client.indices.exists(index=name):
                place.client.indices.create(index=name, aliases={alias: {} for alias in aliases}, **made_of)
        except BadRequestError as error:
            reason = error.body.get("error", {}) if isinstance(error.body, dict) else {}
            if reason.get("type") == "resource_already_exists_exception":  # another process was quicker
                return
            if is_missing_analyzer(reason):
                raise missing_analyzer(place.address, reason) from None
            if reason.get("type") == "invalid_alias_name_exception":
                raise _foreign(place, place.alias) from None
            raise


def versions(place: Place) -> list[IndexVersion]:
    """Every version, oldest first, without its counts. Raises `ConfigError` when the alias is somebody else's."""
    from elasticsearch import NotFoundError

    ours = re.compile(re.escape(place.alias) + r"-\d{6}")
    with translated(place.address):
        try:
            answer = place.client.indices.get(
                index=[place.alias, f"{place.alias}-*"], features=["aliases", "mappings"], ignore_unavailable=True
            )
        except NotFoundError:
            return []
    found = []
    for name, described in sorted(answer.body.items()):
        aliases = set(described.get("aliases", {}))
        if ours.fullmatch(name):
            found.append(_version(place, name, described["mappings"].get("_meta"), aliases))
        elif name == place.alias or place.alias in aliases:
            raise _foreign(place, name)
    current = [version.name for version in found if version.role == "current"]
    if len(current) > 1:
        raise _foreign(place, ", ".join(current))
    return found


def _foreign(place: Place, names: str) -> ConfigError:
    return ConfigError(
        f"the name {place.alias} in Elasticsearch at {place.address} belongs to {names}, which was not made by "
        "Citewell or is not one index alone",
        remedy="Choose another `index_name`.",
    )


def _version(place: Place, name: str, meta: Any, aliases: set[str]) -> IndexVersion:
    stored = meta.get("citewell") if isinstance(meta, dict) else None
    if not isinstance(stored, dict):
        raise _foreign(place, name)
    roles: dict[str, Role] = {place.alias + NEXT: "next", place.alias + PREVIOUS: "previous", place.alias: "current"}
    role: Role = "retired"
    for alias, means in roles.items():
        role = means if alias in aliases else role
    return IndexVersion(name, role, Fingerprint.model_validate(stored), meta.get("recipe") or {})
