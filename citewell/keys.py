"""Keys of the HTTP API: `[keys.NAME]` in the settings file, by their hashes, with what each may do and see. Pure.

A key is 256 bits of chance, so that a plain SHA-256 of it tells nothing: there is no dictionary to try.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Scope = Literal["query", "ingest", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
# As a group of a key: it sees every document.
EVERY_GROUP = "*"
_PREFIX = "cw_"
_HASH_PREFIX = "sha256:"


def _sorted(values: tuple[str, ...]) -> tuple[str, ...]:
    """Two keys of the same groups are the same caller to a cache, in whatever order these stand."""
    return tuple(sorted(set(values)))


class KeyTable(BaseModel):
    """One `[keys.NAME]`: `hash` as `citewell keys new` prints it.

    `query` reads and asks, `ingest` loads and deletes, `admin` sees how the service is. Without `groups` a key sees
    what everyone may see; `*` among them is every group.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hash: Annotated[str, Field(pattern=rf"^{_HASH_PREFIX}[0-9a-f]{{64}}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("query",)
    groups: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], AfterValidator(_sorted)] = ()

    def visible_groups(self) -> tuple[str, ...] | None:
        """As questions carry them: None sees everything."""
        return None if EVERY_GROUP in self.groups else self.groups


@dataclass(frozen=True)
class Caller:
    """Who sent a request: the key's name, "" where there is none; `groups` None sees everything."""

    name: str
    scopes: tuple[Scope, ...]
    groups: tuple[str, ...] | None


# Whoever has the machine, or the one key that may do all.
OPERATOR = Caller("", SCOPES, None)


def new_key() -> str:
    return _PREFIX + secrets.token_urlsafe(32)


def hash_of(key: bytes) -> str:
    return _HASH_PREFIX + hashlib.sha256(key).hexdigest()


def caller_of(given: bytes, single: str, keys: Mapping[str, KeyTable]) -> Caller | None:
    """Whose key this is; None is nobody's. `single` is the setting `api_key`, "" without one.

    All keys are looked at, each in constant time, so that the time does not tell which guess came near.
    """
    found = None
    if single and hmac.compare_digest(given, single.encode()):
        found = OPERATOR
    hashed = hash_of(given)
    for name, table in keys.items():
        if hmac.compare_digest(hashed, table.hash):
            found = Caller(name, table.scopes, table.visible_groups())
    return found
