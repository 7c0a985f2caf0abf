"""Versions of an embedded index that were half made or half deleted, and those that nobody uses any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from citewell.index import lance_rows as rows
from citewell.index import lance_versions as layout
from citewell.index.lock import writer_lock
from citewell.index.roles import HALF_MADE, retired, version_name
from citewell.ports import Finding, Role

_LOST_LEDGER = "Its documents are lost. Restore the folder from a backup; or move it away and load the documents again."
_LOST_PASSAGES = "Restore the folder from a backup; or move it away and load the documents again."
LEFT_COPY = "unfinished_copy"
LOST_ROLE = "role_without_version"


class LanceInspection:
    def __init__(self, folder: Path, index: str) -> None:
        self._folder = folder
        self._index = index

    def findings(self) -> Iterator[Finding]:
        if not self._folder.is_dir():
            return
        with rows.translated(str(self._folder), "look through"):
            yield from list(self._found())

    def repair(self, finding: Finding) -> None:
        with (
            rows.translated(str(self._folder), "repair"),
            writer_lock(self._folder / "writer.lock", layout.LOCK_TIMEOUT_S),
        ):
            # A version may be in the making when it is first looked at, and not when the lock is ours.
            if (finding.kind, finding.name) not in {(now.kind, now.name) for now in self._found()}:
                return
            if finding.kind == LEFT_COPY:
                shutil.rmtree(self._folder / finding.name)
            elif finding.kind == LOST_ROLE:
                roles = layout.stored_roles(self._folder, self._index)
                kept: dict[Role, str] = {role: name for name, role in roles.items() if name != finding.name}
                layout.set_roles(self._folder, kept)
            else:
                database = layout.connected(self._folder)
                documents = layout.table_names(finding.name)[1]
                if finding.handle == "drop":
                    database.drop_table(documents)
                else:
                    database.create_table(documents, schema=rows.ledger_schema())

    def _found(self) -> Iterator[Finding]:
        database = layout.connected(self._folder)
        tables = set(database.list_tables().tables)
        numbers = {
            int(name[-6:]) if "-" in name else 1
            for name in tables
            if name.partition("-")[0] in ("passages", "documents")
        }
        roles = layout.stored_roles(self._folder, self._index)
        names = [version_name(self._index, number) for number in sorted(numbers)]
        for name in names:
            passages, documents = layout.table_names(name)
            if passages not in tables:
                yield self._without_passages(name, roles.get(name), database.open_table(documents).count_rows())
            elif documents not in tables:
                yield self._without_ledger(name, database.open_table(passages).count_rows())
            elif name not in roles:
                yield retired(name)
        for name, role in roles.items():
            if name not in names and numbers and role != "current":
                reason = f"versions.json calls {name} {role}, and there is no such version"
                yield Finding(LOST_ROLE, self._index, name, reason, "--fix takes the role away.")
        for copy in sorted(self._folder.glob("*.unfinished")):
            reason = "a restore was killed while it copied"
            yield Finding(LEFT_COPY, self._index, copy.name, reason, "--fix deletes the folder.")

    def _without_passages(self, name: str, role: Role | None, count: int) -> Finding:
        reason = f"its ledger has {count} entries and there is no table of passages"
        if role in (None, "next") or not count:
            return Finding(HALF_MADE, name, name, reason, "--fix drops the ledger.", handle="drop")
        return Finding(HALF_MADE, name, name, reason, _LOST_PASSAGES, fixable=False)

    def _without_ledger(self, name: str, count: int) -> Finding:
        reason = f"it has {count} passages and no ledger"
        if count:
            return Finding(HALF_MADE, name, name, reason, _LOST_LEDGER, fixable=False)
        return Finding(HALF_MADE, name, name, reason, "--fix makes the ledger.", handle="create")
