"""Index versions in Elasticsearch that were half made or half deleted, and those that nobody uses any more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from citewell.errors import IndexUnavailable
from citewell.index import elastic_layout as layout
from citewell.index.elastic_errors import translated
from citewell.index.elastic_layout import LEDGER, NEXT, PREVIOUS, Layout, Place
from citewell.index.queries import ANY_PASSAGE
from citewell.index.roles import HALF_MADE, retired
from citewell.ports import Finding
from citewell.records import Fingerprint

_LOST_LEDGER = (
    "Its documents are lost. Restore a backup; or load the documents again, which makes the ledger, and let "
    "`citewell doctor --fix` drop what is left of those that are gone."
)


@dataclass(frozen=True)
class _Half:
    """What there is of one version: the index of its passages, of its ledger, or both, as Elasticsearch tells."""

    passages: dict[str, Any] | None
    documents: dict[str, Any] | None

    def aliases(self) -> set[str]:
        return {alias for part in (self.passages, self.documents) if part for alias in part["aliases"]}


class ElasticInspection:
    def __init__(self, place: Place, recipe: dict[str, Any]) -> None:
        self._place = place
        self._recipe = recipe

    def findings(self) -> Iterator[Finding]:
        for name, half in self._halves().items():
            if half.documents is None:
                yield self._without_ledger(name, half)
            elif half.passages is None:
                yield self._without_passages(name, half)
            elif not {f"{name}-write", f"{name}{LEDGER}-write"} <= half.aliases():
                reason = "it has no aliases to write through, as after a restore that was killed"
                yield Finding(HALF_MADE, name, name, reason, "--fix gives it the aliases.")
            elif self._role(half) == "retired":
                yield retired(name)

    def repair(self, finding: Finding) -> None:
        name = finding.name
        half = self._halves().get(name)
        if half is None:
            return
        client = self._place.client
        with translated(self._place.address):
            if half.passages is None and self._role(half) != "current":
                client.indices.delete(index=name + LEDGER)
            elif half.documents is None and self._role(half) == "next":
                client.indices.delete(index=name)
            elif half.passages is None or half.documents is None:
                meta = (half.documents or half.passages or {})["mappings"].get("_meta", {})
                fingerprint = Fingerprint.model_validate(meta["citewell"])
                recipe = meta.get("recipe") or self._recipe
                layout.create(self._place, name, fingerprint, recipe, current=True)
            else:
                own = Layout(name, name)
                pairs = [(own.passages, own.write_passages), (own.documents, own.write_documents)]
                adds = [{"add": {"index": index, "alias": alias}} for index, alias in pairs]
                client.indices.update_aliases(actions=adds)

    def _without_ledger(self, name: str, half: _Half) -> Finding:
        role = self._role(half)
        count = self._count(name)
        reason = f"it has {count} passages and no ledger"
        if role == "next":
            remedy = "--fix drops it; `citewell index migrate` begins again."
            return Finding(HALF_MADE, name, name, reason, remedy)
        if role == "current" and not count:
            return Finding(HALF_MADE, name, name, reason, "--fix makes the ledger.")
        remedy = _LOST_LEDGER if role == "current" else f"`citewell index drop {name}` deletes it."
        return Finding(HALF_MADE, name, name, reason, remedy, fixable=False)

    def _without_passages(self, name: str, half: _Half) -> Finding:
        reason = f"its ledger has {self._count(name + LEDGER)} entries and there is no index of passages"
        if self._role(half) != "current":
            return Finding(HALF_MADE, name, name, reason, "--fix deletes the ledger.")
        remedy = "--fix makes the index, and writes the passages anew from the texts that the ledger keeps."
        return Finding(HALF_MADE, name, name, reason, remedy)

    def _role(self, half: _Half) -> str:
        alias, has = self._place.alias, half.aliases()
        names = {alias: "current", alias + LEDGER: "current", alias + NEXT: "next", alias + PREVIOUS: "previous"}
        return next((role for name, role in names.items() if name in has), "retired")

    def _count(self, index: str) -> int:
        with translated(self._place.address):
            return int(self._place.client.count(index=index, query=ANY_PASSAGE)["count"])

    def _halves(self) -> dict[str, _Half]:
        alias = self._place.alias
        with translated(self._place.address):
            found = self._place.client.indices.get(
                index=f"{alias}-*", features=["aliases", "mappings"], allow_no_indices=True
            ).body
        names = sorted({name.removesuffix(LEDGER) for name in found})
        halves = {}
        for name in names:
            if re.fullmatch(re.escape(alias) + r"-\d{6}", name):
                parts = [part for part in (found.get(name), found.get(name + LEDGER)) if part]
                if not all(isinstance(part["mappings"].get("_meta", {}).get("citewell"), dict) for part in parts):
                    raise IndexUnavailable(
                        f"{name} in Elasticsearch at {self._place.address} was not made by Citewell",
                        remedy="Choose another `index_name`.",
                    )
                halves[name] = _Half(found.get(name), found.get(name + LEDGER))
        return halves
