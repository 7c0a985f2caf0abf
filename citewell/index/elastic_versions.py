"""The versions of an index in Elasticsearch as an operator handles them, and their copies in snapshot repositories."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from citewell.config import Settings
from citewell.errors import BadInput, Conflict, IndexUnavailable
from citewell.index import elastic_layout as layout
from citewell.index.elastic_errors import from_answer, translated
from citewell.index.elastic_layout import LEDGER, PREVIOUS, Layout, Place
from citewell.index.queries import ANY_PASSAGE
from citewell.index.roles import may_create, may_drop, named, next_name, with_role
from citewell.ports import IndexVersion, Inspection
from citewell.records import Fingerprint

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

_POLL_S = 0.5
# A restore is one request that ends when every shard is there.
_RESTORE_S = 6 * 3600.0
_SNAPSHOT = re.compile(r"[a-z0-9][a-z0-9_.-]*")


class ElasticVersions:
    """Every change of roles is one `_aliases` request, which Elasticsearch makes in one step."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._place: Place | None = None

    def close(self) -> None:
        if self._place is not None:
            self._place.client.close()
            self._place = None

    def inspection(self) -> Inspection:
        from citewell.index.elastic_inspection import ElasticInspection

        return ElasticInspection(self._here(), self._settings.recipe())

    # Versions

    def all(self, *, counted: bool = False) -> list[IndexVersion]:
        found = layout.versions(self._here())
        return [self._counted(version) for version in found] if counted else found

    def create(self, fingerprint: Fingerprint) -> IndexVersion:
        place, found = self._here(), self.all()
        if following := may_create(found, fingerprint):
            return following
        name = next_name(place.alias, found)
        layout.create(place, name, fingerprint, self._settings.recipe(), current=False)
        return named(self.all(), name)

    def promote(self, name: str) -> None:
        self._make_current(name, keep=PREVIOUS)

    def drop(self, name: str) -> None:
        place, found = self._here(), self.all()
        may_drop(found, name)
        with translated(place.address):
            place.client.indices.delete(index=[name, name + LEDGER], ignore_unavailable=True)

    # Backups

    def backup(self, place: str) -> str:
        """`place` is REPOSITORY, or REPOSITORY/SNAPSHOT; the repository is registered in Elasticsearch beforehand."""
        here = self._here()
        current = with_role(self.all(), "current")
        if current is None:
            raise Conflict("there is no index to back up", remedy="Load documents first.")
        repository, _, snapshot = place.partition("/")
        snapshot = snapshot or f"{here.alias}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        if not repository or not _SNAPSHOT.fullmatch(snapshot):
            raise BadInput(
                f"`{place}` names no snapshot", remedy="Write REPOSITORY, or REPOSITORY/SNAPSHOT in lower case."
            )
        with _told(here.address, repository, snapshot):
            here.client.snapshot.create(
                repository=repository,
                snapshot=snapshot,
                indices=[current.name, current.name + LEDGER],
                include_global_state=False,
                metadata={"citewell": current.name},
            )
            while (told := _snapshot(here.client, repository, snapshot))["state"] in ("IN_PROGRESS", "STARTED"):
                time.sleep(_POLL_S)
        if told["state"] != "SUCCESS":
            raise IndexUnavailable(f"the snapshot {repository}/{snapshot} ended as {told['state']}: {told['failures']}")
        return f"{repository}/{snapshot}"

    def restore(self, place: str) -> IndexVersion:
        here, found = self._here(), self.all()
        repository, _, snapshot = place.partition("/")
        if not repository or not snapshot:
            raise BadInput(f"`{place}` names no snapshot", remedy="Write REPOSITORY/SNAPSHOT.")
        name = next_name(here.alias, found)
        with _told(here.address, repository, snapshot):
            held = _snapshot(here.client, repository, snapshot)["indices"]
            passages = [index for index in held if re.fullmatch(r".+-\d{6}", index)]
            if len(passages) != 1 or passages[0] + LEDGER not in held:
                raise BadInput(
                    f"the snapshot {place} holds no index of Citewell, but {', '.join(held) or 'nothing'}",
                    remedy="Restore one that `citewell index backup` made.",
                )
            self._restore(here, repository, snapshot, (passages[0], name))
        own = Layout(name, name)
        add = [(name, own.write_passages), (name + LEDGER, own.write_documents)]
        self._aliases([{"add": {"index": index, "alias": alias}} for index, alias in add])
        self._make_current(name, keep="")
        return named(self.all(), name)

    def _restore(self, here: Place, repository: str, snapshot: str, renamed: tuple[str, str]) -> None:
        old, new = renamed
        answer = here.client.options(request_timeout=_RESTORE_S).snapshot.restore(
            repository=repository,
            snapshot=snapshot,
            indices=[old, old + LEDGER],
            rename_pattern=re.escape(old).replace("\\-", "-"),
            rename_replacement=new,
            include_aliases=False,
            include_global_state=False,
            wait_for_completion=True,
        )
        shards = answer["snapshot"]["shards"]
        if shards["failed"]:
            here.client.indices.delete(index=[new, new + LEDGER], ignore_unavailable=True)
            raise IndexUnavailable(f"{shards['failed']} of {shards['total']} shards of {snapshot} cannot be restored")

    # Steps

    def _here(self) -> Place:
        if self._place is None:
            self._place = layout.connect(self._settings)
        return self._place

    def _make_current(self, name: str, *, keep: str) -> None:
        """`keep` is the ending of the alias that the version which was current gets; "" for none."""
        place, found = self._here(), self.all()
        target, current = named(found, name), with_role(found, "current")
        if target is current:
            raise Conflict(f"{name} is the current version", remedy="Nothing: it is searched already.")
        actions = [("add", name, place.alias), ("add", name + LEDGER, place.alias + LEDGER)]
        if current is not None:
            actions += [("remove", current.name, place.alias), ("remove", current.name + LEDGER, place.alias + LEDGER)]
        if target.role in ("next", "previous"):
            actions.append(("remove", name, f"{place.alias}-{target.role}"))
        if keep and current is not None:
            previous = with_role(found, "previous")
            if previous is not None and previous is not target:
                actions.append(("remove", previous.name, place.alias + keep))
            actions.append(("add", current.name, place.alias + keep))
        self._aliases([{verb: {"index": index, "alias": alias}} for verb, index, alias in actions])

    def _aliases(self, actions: Any) -> None:
        place = self._here()
        with translated(place.address):
            place.client.indices.update_aliases(actions=actions)

    def _counted(self, version: IndexVersion) -> IndexVersion:
        place, unfinished = self._here(), {"term": {"content_hash": ""}}
        with translated(place.address):
            passages = place.client.count(index=version.name, query=ANY_PASSAGE)["count"]
            done = place.client.count(index=version.name + LEDGER, query={"bool": {"must_not": [unfinished]}})["count"]
            halves = place.client.count(index=version.name + LEDGER, query=unfinished)["count"]
        return version.with_counts(done, passages, halves)


def _snapshot(client: Elasticsearch, repository: str, snapshot: str) -> dict[str, Any]:
    found: dict[str, Any] = client.snapshot.get(repository=repository, snapshot=snapshot)["snapshots"][0]
    return found


@contextlib.contextmanager
def _told(address: str, repository: str, snapshot: str) -> Iterator[None]:
    """What Elasticsearch says of repositories and snapshots, as errors that name them."""
    from elastic_transport import ApiError

    with translated(address):
        try:
            yield
        except ApiError as error:
            body = error.body.get("error") if isinstance(error.body, dict) else None
            body = body if isinstance(body, dict) else {}
            kind = str(body.get("type", ""))
            if kind == "repository_missing_exception":
                raise BadInput(
                    f"Elasticsearch at {address} has no snapshot repository `{repository}`",
                    remedy="Register it with PUT _snapshot/NAME; docs/operations.md, Backups, has an example.",
                ) from None
            if kind == "snapshot_missing_exception" or "snapshot_name" in kind:
                gone = kind == "snapshot_missing_exception"
                said = "does not exist" if gone else f"cannot be made: {body.get('reason', '')}"
                raise BadInput(
                    f"the snapshot {repository}/{snapshot} {said}",
                    remedy=f"GET _snapshot/{repository}/_all lists the snapshots." if gone else "Choose another name.",
                ) from None
            raise from_answer(address, error.meta.status, body, str(error)) from None
