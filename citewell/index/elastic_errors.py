"""Elasticsearch's errors as ours: what happened, at which address, and what to do. Credentials never appear."""

from __future__ import annotations

import contextlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from citewell.errors import CitewellError, ConfigError, IndexUnavailable, InvalidQuestion
from citewell.index.analysis import plugins

_DISK_FULL = (
    "Free space on the server's disk (or raise the flood-stage watermark); the block then lifts by itself. "
    "Run the load again: what was indexed is kept."
)
_GONE = (
    "Restart the service, which makes an empty index, and load the documents again; or restore the index from a "
    "snapshot together with its alias."
)
_ACCESS = "Set `elasticsearch_api_key` to a key with the privileges `manage`, `read` and `write` on the index."


def public_address(url: str) -> str:
    """The address without user, password, query or fragment."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextlib.contextmanager
def translated(address: str) -> Iterator[None]:
    """Raise what the client raises as an error of ours; `address` is a `public_address`."""
    from elastic_transport import ApiError, TransportError
    from elasticsearch import UnsupportedProductError

    try:
        yield
    except UnsupportedProductError:
        raise IndexUnavailable(
            f"what answers at {address} is not Elasticsearch", remedy="Correct `elasticsearch_url`."
        ) from None
    except ApiError as error:
        body = error.body.get("error") if isinstance(error.body, dict) else None
        raise from_answer(address, error.meta.status, body if isinstance(body, dict) else {}, str(error)) from None
    except TransportError as error:
        raise IndexUnavailable(f"Elasticsearch at {address} does not answer: {transport_reason(error)}") from None


def transport_reason(error: Exception) -> str:
    """The innermost of the client's nested messages, without the names of its classes."""
    causes = getattr(error, "errors", ()) or (error,)
    words = str(causes[0]).rpartition("caused by: ")[2] or type(error).__name__
    wrapped = re.fullmatch(r"\w+\((.*)\)", words, re.DOTALL)
    return re.sub(r"^HTTPS?Connection\(.*?\): ", "", wrapped[1] if wrapped else words)[:300]


def from_answer(address: str, status: int, error: Mapping[str, Any], words: str = "") -> CitewellError:
    """The error for an answer of the server, or for one item of a bulk or multi-search.

    `error` is Elasticsearch's error object: `type`, `reason` and often `root_cause`.
    """
    kind = str(error.get("type", ""))
    reason = explain(error) or words
    place = f"Elasticsearch at {address}"
    if kind == "cluster_block_exception":
        return IndexUnavailable(f"{place} has blocked the index for writing: {reason}", remedy=_DISK_FULL)
    if status == 404:
        return IndexUnavailable(f"{place} has lost the index: {reason}", remedy=_GONE)
    if status in (401, 403):
        return IndexUnavailable(f"{place} refuses access: {reason}", remedy=_ACCESS)
    if "nested_clauses" in reason or "too_many" in kind or "maxClauseCount" in reason:
        return InvalidQuestion(f"the question has too many words for {place}", remedy="Shorten the question.")
    if status == 429:
        return IndexUnavailable(f"{place} is overloaded: {reason}", remedy="Try again in a moment, or send less.")
    return IndexUnavailable(f"{place} answered with status {status}: {reason}")


def explain(error: Mapping[str, Any]) -> str:
    """One line from an error object: its reason and the deepest cause."""
    reason = str(error.get("reason", ""))
    roots = error.get("root_cause") or [{}]
    cause = error if isinstance(error.get("caused_by"), Mapping) else roots[0]
    while isinstance(cause.get("caused_by"), Mapping):
        cause = cause["caused_by"]
    deepest = str(cause.get("reason", ""))
    line = f"{reason}: {deepest}" if deepest and deepest not in reason else reason
    return line.replace("\n", " ")[:400]


def is_missing_analyzer(error: Mapping[str, Any]) -> bool:
    text = str(error)
    return "analyzer" in text and any(word in text for word in ("not been configured", "failed to find", "not found"))


def missing_analyzer(address: str, error: Mapping[str, Any]) -> ConfigError:
    needed = plugins()
    return ConfigError(
        f"Elasticsearch at {address} lacks an analyzer: {explain(error)}",
        remedy=f"Install the plugins {' and '.join(needed)} on every node "
        f"(`bin/elasticsearch-plugin install {' '.join(needed)}`) and restart it, or leave their languages out of "
        "`languages`.",
    )
