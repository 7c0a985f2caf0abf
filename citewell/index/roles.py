"""Which version of an index a process opens, and how versions are numbered. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from citewell.errors import Conflict, FingerprintMismatch, UnknownVersion
from citewell.ports import Finding, IndexVersion
from citewell.records import Fingerprint

# Roles that writes go to.
LIVE = ("current", "next", "previous")
# Kinds of findings.
HALF_MADE = "half_made_version"
RETIRED = "retired_version"


def version_name(index: str, number: int) -> str:
    return f"{index}-{number:06d}"


def next_name(index: str, found: Sequence[IndexVersion]) -> str:
    """The name after the highest number in use."""
    return version_name(index, max((int(version.name[-6:]) for version in found), default=0) + 1)


def choose(found: Sequence[IndexVersion], fingerprint: Fingerprint, name: str, where: str) -> IndexVersion | None:
    """The version of that name, else the current or previous one of that fingerprint; None without a current one.

    Raises `FingerprintMismatch` when none fits; `where` names the index in its message.
    """
    if name:
        version = named(found, name)
        if version.fingerprint != fingerprint:
            raise _mismatch(version, fingerprint, where)
        return version
    by_role = {version.role: version for version in found}
    if "current" not in by_role:
        return None
    for role in ("current", "previous"):
        if role in by_role and by_role[role].fingerprint == fingerprint:
            return by_role[role]
    if "next" in by_role and by_role["next"].fingerprint == fingerprint:
        raise FingerprintMismatch(
            f"the migration of {where} to these settings is not finished: {by_role['next'].name} is being built",
            remedy="`citewell index migrate` goes on with it; `citewell index drop` gives it up.",
        )
    raise _mismatch(by_role["current"], fingerprint, where)


def named(found: Sequence[IndexVersion], name: str) -> IndexVersion:
    """Raises `UnknownVersion`."""
    for version in found:
        if version.name == name:
            return version
    names = ", ".join(version.name for version in found) or "none"
    raise UnknownVersion(f"there is no index version `{name}`", remedy=f"Versions: {names}.")


def with_role(found: Sequence[IndexVersion], role: str) -> IndexVersion | None:
    return next((version for version in found if version.role == role), None)


def may_create(found: Sequence[IndexVersion], fingerprint: Fingerprint) -> IndexVersion | None:
    """The `next` that a migration to this fingerprint goes on with; raises `Conflict` where none may begin."""
    current, following = with_role(found, "current"), with_role(found, "next")
    if current is None:
        raise Conflict("there is no index to migrate", remedy="Load documents first.")
    if current.fingerprint == fingerprint:
        raise Conflict(
            f"{current.name} was made with these settings already: {fingerprint.describe()}",
            remedy="Change `embedder`, `passage_tokens`, `passage_overlap`, `languages` or `vector_index` first.",
        )
    if following is not None and following.fingerprint != fingerprint:
        raise Conflict(
            f"a migration to other settings is under way: {following.name}, {following.fingerprint.describe()}",
            remedy=f"Finish it under its settings, or give it up: `citewell index drop {following.name}`.",
        )
    return following


def may_drop(found: Sequence[IndexVersion], name: str) -> None:
    """Raises `UnknownVersion`, and `Conflict` for the version that is searched."""
    if named(found, name).role == "current":
        raise Conflict(f"{name} is the current version", remedy="Promote another version first.")


def retired(name: str) -> Finding:
    """Of a version that is kept, takes disk, and is neither searched nor written to."""
    reason = "it is retired: neither searched nor written to"
    remedy = f"`citewell index drop {name}` deletes it; `citewell index promote {name}` returns to it."
    return Finding(RETIRED, name, name, reason, remedy, fixable=False, note=True)


def _mismatch(version: IndexVersion, fingerprint: Fingerprint, where: str) -> FingerprintMismatch:
    made, asked = version.fingerprint.to_dict(), fingerprint.to_dict()
    differ = ", ".join(name for name in asked if made.get(name) != asked[name])
    return FingerprintMismatch(
        f"{where} was made with {version.fingerprint.describe()}; it was opened with {fingerprint.describe()}. "
        f"They differ in: {differ}",
        remedy="`citewell index migrate` builds it anew with these settings while it stays in use. Or set them back, "
        "or choose another `index_name`.",
    )
