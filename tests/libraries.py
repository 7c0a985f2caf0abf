"""Libraries on either stack with an embedder that a test chooses."""

from __future__ import annotations

from citewell.config import Settings
from citewell.index.elastic import ElasticIndex
from citewell.index.elastic_versions import ElasticVersions
from citewell.index.lance import LanceIndex
from citewell.index.lance_versions import LanceVersions
from citewell.library import Access, Library
from citewell.ports import Embedder
from citewell.quoting import Quoting
from tests.hashing import HashingEmbedder


def embedder_of(settings: Settings) -> Embedder:
    """`hashing:NAME` is an embedder of that name; any other setting is one that is not on this machine."""
    return HashingEmbedder(settings.embedder)


def access(settings: Settings) -> Access:
    if settings.stack == "served":
        return Access(
            lambda fingerprint, version: ElasticIndex(settings, fingerprint, version),
            lambda: ElasticVersions(settings),
            embedder_of,
        )
    return Access(
        lambda fingerprint, version: LanceIndex(settings, fingerprint, version),
        lambda: LanceVersions(settings),
        embedder_of,
    )


def library(settings: Settings, embedder: Embedder, version: str = "", quoting: Quoting | None = None) -> Library:
    return Library(settings, embedder, access(settings), version, quoting)
