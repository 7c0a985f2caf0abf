"""The versions of an embedded index: numbered tables in one folder, and a small file that says which is which.

The first version's tables are `passages` and `documents`, those of version 2 `passages-000002` and `documents-000002`.
`versions.json` names the tables' roles and is replaced in one step; without it the first version is current. Whoever
changes it holds the writer's lock of the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from citewell.config import Settings
from citewell.errors import BadInput, Conflict, IndexUnavailable
from citewell.index import lance_rows as rows
from citewell.index.lock import writer_lock
from citewell.index.roles import may_create, may_drop, named, next_name, version_name, with_role
from citewell.ports import IndexVersion, Inspection, Role
from citewell.records import Fingerprint

LOCK_TIMEOUT_S = 120.0
_ROLES = "versions.json"
_FIRST = 1
_BACKUP = "backup.json"


def folder_of(settings: Settings) -> Path:
    return settings.data_dir / f"{settings.index_name}.lancedb"


def connected(folder: Path, session: Any = None, *, follow: bool = True) -> Any:
    """Every read looks for commits of other processes, so that a service sees what the command line loads.

    `session` holds caches that connections share. Without `follow`, a table moves on only when told to.
    """
    import lancedb

    interval = timedelta(0) if follow else None
    return lancedb.connect(str(folder), read_consistency_interval=interval, session=session)


def table_names(version: str) -> tuple[str, str]:
    """Passages and documents of a version."""
    ending = "" if int(version[-6:]) == _FIRST else f"-{version[-6:]}"
    return f"passages{ending}", f"documents{ending}"


def versions(database: Any, folder: Path, index: str) -> list[IndexVersion]:
    """Every version, oldest first, without its counts. Raises `IndexUnavailable` for tables that are not Citewell's."""
    names = set(database.list_tables().tables)
    numbers = sorted(
        int(name[-6:]) if "-" in name else _FIRST for name in names if name.partition("-")[0] == "passages"
    )
    if not numbers and any(name.partition("-")[0] == "documents" for name in names):
        raise IndexUnavailable(
            f"the index in {folder} has lost its passages",
            remedy="Restore the folder from a backup, or delete it and load the documents again.",
        )
    roles = stored_roles(folder, index)
    found = []
    for name in (version_name(index, number) for number in numbers):
        metadata = database.open_table(table_names(name)[0]).schema.metadata or {}
        stored = metadata.get(rows.FINGERPRINT_KEY)
        if stored is None:
            raise IndexUnavailable(
                f"the table in {folder} was not made by Citewell",
                remedy="Set `data_dir` or `index_name` to a place of its own.",
            )
        recipe = json.loads(metadata.get(rows.RECIPE_KEY, b"{}"))
        found.append(IndexVersion(name, roles.get(name, "retired"), Fingerprint.from_json(stored), recipe))
    return found


def create(database: Any, name: str, fingerprint: Fingerprint, recipe: dict[str, Any]) -> None:
    """The tables of a version, where they are missing. Documents first: a version is there once its passages are."""
    passages, documents = table_names(name)
    present = set(database.list_tables().tables)
    if documents not in present:
        database.create_table(documents, schema=rows.ledger_schema())
    if passages not in present:
        database.create_table(passages, schema=rows.passage_schema(fingerprint, recipe))


def stored_roles(folder: Path, index: str) -> dict[str, Role]:
    """Roles by version name."""
    file = folder / _ROLES
    if not file.exists():
        return {version_name(index, _FIRST): "current"}
    try:
        stored: dict[Role, int] = json.loads(file.read_text("utf-8"))
        return {version_name(index, int(number)): role for role, number in stored.items()}
    except (ValueError, AttributeError):
        raise IndexUnavailable(
            f"{file} cannot be read", remedy="Restore the folder from a backup, or delete it and load again."
        ) from None


def set_roles(folder: Path, roles: dict[Role, str]) -> None:
    """Numbers, not names: a folder that is renamed with its index stays whole."""
    fresh = folder / f"{_ROLES}.new"
    stored = {role: int(name[-6:]) for role, name in roles.items()}
    with fresh.open("w", encoding="utf-8") as out:
        json.dump(stored, out)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(folder / _ROLES)


class LanceVersions:
    """Operator's view of one folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._name = settings.index_name
        self._folder = folder_of(settings)

    def close(self) -> None: ...

    def inspection(self) -> Inspection:
        from citewell.index.lance_inspection import LanceInspection

        return LanceInspection(self._folder, self._name)

    # Versions

    def all(self, *, counted: bool = False) -> list[IndexVersion]:
        if not self._folder.is_dir():
            return []
        with rows.translated(str(self._folder), "read"):
            database = connected(self._folder)
            found = versions(database, self._folder, self._name)
            return [_counted(database, version) for version in found] if counted else found

    def create(self, fingerprint: Fingerprint) -> IndexVersion:
        with self._changing("migrate") as found:
            if following := may_create(found, fingerprint):
                return following
            name = next_name(self._name, found)
            create(connected(self._folder), name, fingerprint, self._settings.recipe())
            set_roles(self._folder, _by_role(found) | {"next": name})
        return named(self.all(), name)

    def promote(self, name: str) -> None:
        with self._changing("promote a version of") as found:
            if named(found, name).role == "current":
                raise Conflict(f"{name} is the current version", remedy="Nothing: it is searched already.")
            self._make_current(found, name, keep=True)

    def drop(self, name: str) -> None:
        with self._changing("drop a version of") as found:
            may_drop(found, name)
            set_roles(self._folder, {role: held for role, held in _by_role(found).items() if held != name})
            database = connected(self._folder)
            for table in table_names(name):  # passages first: without them there is no version
                if table in database.list_tables().tables:
                    database.drop_table(table)

    # Backups

    def backup(self, place: str) -> str:
        """`place` is a folder that does not exist yet."""
        target = Path(place)
        if target.exists():
            raise BadInput(f"{target} exists already", remedy="Name a new folder.")
        unfinished = target.with_name(target.name + ".unfinished")
        with self._changing("back up") as found:
            current = with_role(found, "current")
            if current is None:
                raise Conflict("there is no index to back up", remedy="Load documents first.")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            for table, plain in zip(table_names(current.name), ("passages", "documents"), strict=True):
                shutil.copytree(self._folder / f"{table}.lance", unfinished / f"{plain}.lance")
            made_of = {"index_version": current.name, "fingerprint": current.fingerprint.to_dict()}
            (unfinished / _BACKUP).write_text(json.dumps(made_of, indent=2) + "\n", "utf-8")
            unfinished.rename(target)
        return str(target)

    def restore(self, place: str) -> IndexVersion:
        source = Path(place)
        if not (source / _BACKUP).is_file():
            raise BadInput(f"{source} is no backup", remedy="Name a folder that `citewell index backup` made.")
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._changing("restore") as found:
            name = next_name(self._name, found)
            copies = zip(("documents", "passages"), reversed(table_names(name)), strict=True)
            for plain, table in copies:
                unfinished = self._folder / f"{table}.unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(source / f"{plain}.lance", unfinished)
                unfinished.rename(self._folder / f"{table}.lance")
            with_it = versions(connected(self._folder), self._folder, self._name)
            self._make_current(with_it, name, keep=False)
        return named(self.all(), name)

    # Steps

    def _make_current(self, found: list[IndexVersion], name: str, *, keep: bool) -> None:
        roles = _by_role(found)
        former = roles.pop("current", "")
        kept: dict[Role, str] = {role: held for role, held in roles.items() if held != name}
        kept["current"] = name
        if keep and former:
            kept["previous"] = former
        set_roles(self._folder, kept)

    @contextlib.contextmanager
    def _changing(self, action: str) -> Iterator[list[IndexVersion]]:
        """The versions, while nobody else writes to the folder."""
        if not self._folder.is_dir():
            raise Conflict(f"there is no index in {self._folder}", remedy="Load documents first.")
        with (
            rows.translated(str(self._folder), action),
            writer_lock(self._folder / "writer.lock", LOCK_TIMEOUT_S),
        ):
            yield versions(connected(self._folder), self._folder, self._name)


def _by_role(found: list[IndexVersion]) -> dict[Role, str]:
    return {version.role: version.name for version in found if version.role != "retired"}


def _counted(database: Any, version: IndexVersion) -> IndexVersion:
    passages, documents = (database.open_table(table) for table in table_names(version.name))
    unfinished = documents.count_rows("content_hash = ''")
    return version.with_counts(documents.count_rows() - unfinished, passages.count_rows(), unfinished)
