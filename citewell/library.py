"""The documents of one index: read from the version that fits the settings, written to every live version.

A migration runs beside a service, and a service beside the version that a rollback would go back to. So each load and
each delete reaches the other live versions, too: their recipes, kept with them, say how to split and embed. The
outcome is that of the process's own version. A version that cannot be followed (its model is not on this machine, it
was dropped meanwhile) is left behind with a warning; its ledger tells how far, and `Library.follow` catches up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from citewell.config import Settings
from citewell.errors import CitewellError, ConfigError, Conflict, UnknownDocument
from citewell.index.roles import LIVE, named, with_role
from citewell.ingest.items import in_batches
from citewell.ingest.pipeline import Pipeline
from citewell.ingest.sources import Item, failed
from citewell.metrics import loaded
from citewell.migrate import Progress, behind, differing, follow
from citewell.ports import Embedder, EmbedderCard, Index, IndexVersion, VersionStore, WriteResult
from citewell.quoting import Quoting
from citewell.records import Fingerprint, LedgerEntry, Outcome
from citewell.split import Splitter

# After this many seconds a version that could not be opened is tried again.
_TRY_AGAIN_S = 60.0
_DELETE_BATCH = 500
# Documents with their texts in memory at once.
_TEXTS_AT_ONCE = 20


@dataclass(frozen=True)
class Access:
    """How a library reaches its versions; the classes behind it are the stack's."""

    index: Callable[[Fingerprint, str], Index]
    versions: Callable[[], VersionStore]
    embedder: Callable[[Settings], Embedder]


@dataclass(frozen=True)
class _Shelf:
    """One open version with what writes to it."""

    index: Index
    embedder: Embedder
    pipeline: Pipeline


def splitter_of(settings: Settings, card: EmbedderCard) -> Splitter:
    capacity = min(settings.passage_tokens, card.max_tokens)
    overlap = min(settings.passage_overlap, capacity - 1)
    return Splitter(card.tokenizer, capacity, overlap, speaks=card.speaks)


def must_fit(embedder: Embedder) -> None:
    """Vectors that are not what the card says would fill an index that nobody can search: raises `ConfigError`."""
    card, vectors = embedder.describe(), embedder.embed_queries(["a probe"])
    if vectors.shape != (1, card.dimension) or vectors.dtype.name != "float32":
        raise ConfigError(
            f"the embedder {card.name} gives vectors of shape {vectors.shape} and {vectors.dtype}, and says that "
            f"they have {card.dimension} dimensions in float32",
            remedy="Set another `embedder`, or load the documents into another `index_name`.",
        )


def fingerprint_of(settings: Settings, card: EmbedderCard) -> Fingerprint:
    """What a version must have been made with to be opened under these settings."""
    return Fingerprint(
        embedder=card.name,
        weights=card.weights,
        dimension=card.dimension,
        similarity=card.similarity,
        normalized=card.normalized,
        splitter=splitter_of(settings, card).name,
        languages=settings.languages,
        vector_index=settings.vector_index,
    )


class Library:
    """Thread-safe. The embedder belongs to the caller, who loads it first. `quoting` removes answers with documents."""

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder,
        access: Access,
        version: str = "",
        quoting: Quoting | None = None,
    ) -> None:
        self._settings = settings
        self._embedder = embedder
        self._access = access
        self._version = version
        self._quoting = quoting
        self._own: _Shelf | None = None
        self._versions: VersionStore | None = None
        self._others: dict[str, _Shelf] = {}
        self._lost: dict[str, float] = {}
        self._lock = threading.RLock()
        # Opening another version may load a model; searches do not wait for that.
        self._others_lock = threading.Lock()

    def index(self) -> Index:
        """The version that is searched, opened on first use. Raises `FingerprintMismatch`, `IndexUnavailable`."""
        return self._open().index

    def versions(self) -> VersionStore:
        with self._lock:
            if self._versions is None:
                self._versions = self._access.versions()
            return self._versions

    def close(self) -> None:
        with self._others_lock, self._lock:
            for shelf in self._others.values():
                shelf.index.close()
                if shelf.embedder is not self._embedder:
                    shelf.embedder.close()
            if self._own is not None:
                self._own.index.close()
            if self._versions is not None:
                self._versions.close()
            self._own, self._versions = None, None
            self._others.clear()

    # Writing

    def put(self, items: Iterable[Item], source: str) -> Iterator[Outcome]:
        """One outcome a document; what is unchanged costs a look at the ledger of each version."""
        return loaded(self._open().pipeline.run(items, source, followers=self._pipelines))

    def put_part(self, items: Iterable[Item], source: str, before_write: Callable[[], None]) -> Iterator[Outcome]:
        """`put` for a part of somebody's load, who flushes the whole.

        `before_write` is called ahead of each write; what it raises ends this part with that batch unwritten.
        """

        def followers() -> list[Pipeline]:
            before_write()
            return self._pipelines()

        return loaded(self._open().pipeline.run(items, source, followers=followers, flush=False))

    def followed(self) -> bool:
        """Whether other live versions are written to, too."""
        own = self.index().version
        return any(version.role in LIVE and version.name != own for version in self.versions().all())

    def delete(self, doc_ids: Sequence[str]) -> list[Outcome]:
        """Remove documents of every live version, and the vectors kept of their texts. The outcomes are those of the
        own version, with a receipt each: a look at ledger, passages and kept vectors when everything was done. An
        unknown id is a failed outcome.
        """
        index = self.index()
        outcomes = []
        for start in range(0, len(doc_ids), _DELETE_BATCH):
            some = doc_ids[start : start + _DELETE_BATCH]
            if self._quoting is not None:
                self._quoting.begin(some)
            others = self._followers()
            kept = self._forget([self._open(), *others], some)
            results = index.delete(some)
            for other in others:
                with _left_behind("delete"):
                    other.index.delete(some)
                    other.index.flush()
            index.flush()
            answers = self._quoting.end(index, some) if self._quoting is not None else {}
            known, left = index.ledger(some), {held.doc_id: held.passages for held in index.held(some)}
            for result in results:
                receipt: dict[str, int | bool] = {
                    "passages_removed": result.passages,
                    "passages_left": left.get(result.doc_id, 0),
                    "in_ledger": result.doc_id in known,
                }
                if result.doc_id in kept:
                    receipt["vectors_kept"] = kept[result.doc_id]
                if self._quoting is not None:
                    receipt["answers_removed"] = answers.get(result.doc_id, 0)
                outcomes.append(_deleted(result, receipt))
        return list(loaded(outcomes))

    def remove(self) -> None:
        """Delete the version that is open, with every document in it."""
        self.index().remove()
        self.close()

    @contextlib.contextmanager
    def looking(self) -> Iterator[Index | None]:
        """The current version to look at, without its embedder; None where there is no index. Nothing is made."""
        current = with_role(self.versions().all(), "current")
        if current is None:
            yield None
            return
        with self.reading(current, flush=False) as index:
            yield index

    # Versions

    def migrate(self, fingerprint: Fingerprint) -> tuple[IndexVersion, Iterator[Progress]]:
        """The version `next` for these settings, and its way to hold what the current one holds.

        Raises `Conflict` when there is nothing to migrate to.
        """
        target = self.versions().create(fingerprint)
        return target, self.follow(self.current(), target)

    def fingerprint(self) -> Fingerprint:
        """What the present settings make; loads the embedder."""
        self._embedder.load()
        return fingerprint_of(self._settings, self._embedder.describe())

    def follow(self, source: IndexVersion, target: IndexVersion, *, delete: bool = True) -> Iterator[Progress]:
        """Bring `target` up to `source`, as `citewell.migrate.follow` does it.

        Where it lacks nothing, its embedder is not loaded.
        """
        with self.reading(source) as index:
            with self.reading(target) as ledger:
                lacks = any(True for _ in differing(index.entries(), ledger.entries(), both=delete))
            if lacks:
                yield from follow(index, self._shelf(target).pipeline, delete=delete)
            else:
                yield Progress(settled=True)

    def current(self) -> IndexVersion:
        """Raises `Conflict` when there is no index."""
        return self._with("current", "there is no index", "Load documents first.")

    def previous(self) -> IndexVersion:
        """Raises `Conflict` when there is nothing to roll back to."""
        return self._with(
            "previous", "there is no previous version to roll back to", "`citewell index status` lists all."
        )

    def behind(self, found: Sequence[IndexVersion]) -> list[int]:
        """For each version, the documents that it does not have as the current one has them."""
        current = self.current()
        with self.reading(current) as source:
            return [0 if version.name == current.name else self._lag(source, version) for version in found]

    def promote(self, name: str, *, complete: bool = True) -> str:
        """Make a version current, and bring in what reached the former one during the swap; the former one's name.

        With `complete`, raises `Conflict` when the version lacks documents.
        """
        former, target = self.current(), named(self.versions().all(), name)
        if complete and target.role != "current" and (lag := self.behind([target])[0]):
            raise Conflict(
                f"{name} does not have {lag} documents as {former.name} has them",
                remedy="`citewell index migrate` completes it; --force makes it current as it is.",
            )
        self.versions().promote(name)
        if complete:
            for _ in self.follow(former, target, delete=False):
                pass
        return former.name

    def copy(self, version: IndexVersion, entries: Sequence[LedgerEntry]) -> dict[str, str]:
        """Write documents of a version's ledger anew, split and embedded by its recipe; reasons by id for what failed.

        Raises what its embedder raises when that is not on this machine.
        """
        pipeline = self._shelf(version).pipeline
        errors = pipeline.copy(entries)
        pipeline.index.flush()
        return errors

    # Steps

    def _forget(self, shelves: Sequence[_Shelf], doc_ids: Sequence[str]) -> dict[str, int]:
        """Drop kept vectors of documents' texts, as each version cuts them; how many are still there, by document."""
        left: dict[str, int] = {}
        for shelf in shelves:
            if not shelf.pipeline.keeps_vectors():
                continue
            for some in in_batches(doc_ids, _TEXTS_AT_ONCE):
                for doc_id, entry in shelf.index.ledger(some, with_document=True).items():
                    left[doc_id] = left.get(doc_id, 0) + shelf.pipeline.forget(entry)
        return left

    def _with(self, role: str, message: str, remedy: str) -> IndexVersion:
        found = with_role(self.versions().all(), role)
        if found is None:
            raise Conflict(message, remedy=remedy)
        return found

    @contextlib.contextmanager
    def reading(self, version: IndexVersion, *, flush: bool = True) -> Iterator[Index]:
        """A version for its ledger alone: that needs no embedder."""
        index = self._access.index(version.fingerprint, version.name)
        index.load()
        try:
            if flush:
                index.flush()
            yield index
        finally:
            index.close()

    def _lag(self, source: Index, version: IndexVersion) -> int:
        with self.reading(version) as target:
            return behind(source, target)

    def _open(self) -> _Shelf:
        with self._lock:
            if self._own is None:
                index = self._access.index(fingerprint_of(self._settings, self._embedder.describe()), self._version)
                index.load()
                splitter = splitter_of(self._settings, self._embedder.describe())
                self._own = _Shelf(index, self._embedder, Pipeline(index, self._embedder, splitter, self._quoting))
                if self._quoting is not None:
                    self._quoting.catch_up(index)
            return self._own

    def _pipelines(self) -> list[Pipeline]:
        return [shelf.pipeline for shelf in self._followers()]

    def _followers(self) -> list[_Shelf]:
        """The other live versions that can be written to, as they are now."""
        own, found = self.index().version, []
        with _left_behind("list"):
            for version in self.versions().all():
                late = self._lost.get(version.name, 0) > time.monotonic()
                if version.role not in LIVE or version.name == own or late:
                    continue
                self._lost[version.name] = time.monotonic() + _TRY_AGAIN_S  # until it is open
                with _left_behind("open", version=version.name):
                    found.append(self._shelf(version))
                    del self._lost[version.name]
        return found

    def _shelf(self, version: IndexVersion) -> _Shelf:
        """Another version, opened once, with its recipe's embedder. A number may come again, with other vectors."""
        key = f"{version.name} {version.fingerprint.to_json()}"
        with self._others_lock:
            if key not in self._others:
                self._others[key] = self._opened(version)
            return self._others[key]

    def _opened(self, version: IndexVersion) -> _Shelf:
        settings = self._settings.with_recipe(version.recipe)
        same = _embedding(settings) == _embedding(self._settings)
        embedder = self._embedder if same else self._access.embedder(settings)
        embedder.load()
        index = self._access.index(fingerprint_of(settings, embedder.describe()), version.name)
        index.load()
        return _Shelf(index, embedder, Pipeline(index, embedder, splitter_of(settings, embedder.describe())))


def _embedding(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in settings.recipe().items() if name.startswith("embedder")}


def _deleted(result: WriteResult, receipt: dict[str, int | bool]) -> Outcome:
    if not result.error and result.found and not receipt["passages_left"] and not receipt["in_ledger"]:
        return Outcome(doc_id=result.doc_id, status="deleted", passages=result.passages, receipt=receipt)
    if not result.error and not result.found:
        error: CitewellError = UnknownDocument("there is no such document")
    elif result.error:
        error = CitewellError(result.error, remedy="Delete it again.")
    else:
        known = "still knows it" if receipt["in_ledger"] else "no longer knows it"
        error = CitewellError(
            f"after the delete {receipt['passages_left']} of its passages are found, and the ledger {known}",
            remedy="Delete it again, unless somebody loaded it meanwhile; `citewell doctor` looks for such rests.",
        )
    return failed(result.doc_id, "", error, exact=True).model_copy(update={"receipt": receipt})


@contextlib.contextmanager
def _left_behind(action: str, **names: Any) -> Iterator[None]:
    """The own version's outcome stands, whatever becomes of another."""
    try:
        yield
    except CitewellError as error:
        structlog.get_logger(__name__).warning(
            "version_left_behind", action=action, reason=error.message, remedy=error.remedy, **names
        )
