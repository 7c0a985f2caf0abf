"""Passages and ledger in Elasticsearch 9: BM25 and vectors in one index, both legs in one round trip.

A `put` is three steps in an order that a kill cannot turn into a lie, nor another writer of the same document
(`elastic_fence`); readers see each document before or after it (`elastic_veils`). Nothing here needs a paid licence,
scripting or delete-by-query, and neither `info()` nor `ping()` of the client.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from citewell.config import Settings
from citewell.errors import CitewellError, FingerprintMismatch, IndexUnavailable
from citewell.index import elastic_fence as fence
from citewell.index.elastic_errors import from_answer, public_address, translated
from citewell.index.elastic_layout import Layout, Place, complete, connect, find_version, open_version, similarity_of
from citewell.index.elastic_veils import crowded, visible
from citewell.index.elastic_writes import MISSING, Budget, Item, amend_item
from citewell.index.filters import orderable
from citewell.index.queries import ANY_PASSAGE, MAX_HITS, SPARE, counts_by_document, msearch, page_size, runnable_legs
from citewell.index.words import searched_text, stems, words
from citewell.index.writes import latest, problem, results
from citewell.ports import DocumentWrite, Held, Legs, LegsQuery, Vectors, WriteResult
from citewell.records import Fingerprint, LedgerEntry, Leg, Passage

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

# Entries of the ledger, or documents with their passages, in one page of a walk over all.
_ENTRIES_AT_ONCE = 1000
# Least seconds that a load waits for a busy server; the request timeout when that is longer.
_BUSY_BUDGET_S = 60.0
# Once, once more for many veils, and once more for an alias that moved.
_ASKED_AT_MOST = 3


class ElasticIndex:
    """One version of the served index: the named one, else the one that fits. The client is shared by all threads."""

    def __init__(self, settings: Settings, fingerprint: Fingerprint, version: str = "") -> None:
        self._settings = settings
        self._fingerprint = fingerprint
        self._named = version
        self._address = public_address(settings.elasticsearch_url)
        self._place: Place | None = None
        self._layout: Layout | None = None
        self._completed: set[str] = set()
        busy_s = max(_BUSY_BUDGET_S, settings.elasticsearch_timeout)
        self._writing, self._reading = Budget(busy_s), Budget(busy_s)

    # Life

    def load(self) -> None:
        """Open or create the index. Raises `FingerprintMismatch`, `ConfigError`, `IndexUnavailable`."""
        if self._layout is not None:
            return
        place = connect(self._settings)
        try:
            self._layout = open_version(place, self._fingerprint, self._settings.recipe(), self._named)
        except BaseException:
            place.client.close()
            raise
        self._place = place

    @property
    def version(self) -> str:
        return self._open()[1].version

    def close(self) -> None:
        place, self._place, self._layout = self._place, None, None
        if place is not None:
            place.client.close()

    def remove(self) -> None:
        client, layout = self._open()
        with translated(self._address):
            client.indices.delete(index=[layout.passages, layout.documents])
        self.close()

    def info(self) -> dict[str, Any]:
        """Counts by kind in one round trip; `unfinished` documents were being written when their process ended."""
        layout = self._open()[1]
        count: dict[str, Any] = {"size": 0, "track_total_hits": True}
        unfinished = {"term": {"content_hash": ""}}
        answers = self._msearch(
            [
                *({"index": layout.passages}, count | {"query": ANY_PASSAGE}),
                *({"index": layout.documents}, count | {"query": {"bool": {"must_not": [unfinished]}}}),
                *({"index": layout.documents}, count | {"query": unfinished}),
            ]
        )
        passages, documents, halves = (answer["hits"]["total"]["value"] for answer in answers)
        return {
            "backend": "elasticsearch",
            "index": self._settings.index_name,
            "index_version": layout.version,
            "documents": documents,
            "unfinished": halves,
            "passages": passages,
            "fingerprint": self._fingerprint.to_dict(),
            "address": self._address,
        }

    # Writing

    def put(self, writes: Sequence[DocumentWrite]) -> list[WriteResult]:
        batch = latest(writes)
        errors = {write.entry.doc_id: problem(write, self._fingerprint.dimension) for write in batch}
        errors = {doc_id: reason for doc_id, reason in errors.items() if reason}
        batch = [write for write in batch if write.entry.doc_id not in errors]
        errors |= fence.put(self._writable(), batch, source)
        return results(writes, errors)

    def delete(self, doc_ids: Sequence[str]) -> list[WriteResult]:
        known, errors = fence.delete(self._writable(), doc_ids)
        found = [(doc_id, known.get(doc_id)) for doc_id in doc_ids]
        return [
            WriteResult(doc_id, errors.get(doc_id, ""), passages=entry.passages if entry else 0, found=bool(entry))
            for doc_id, entry in found
        ]

    def amend(self, entries: Sequence[LedgerEntry]) -> None:
        index = self._open()[1].write_documents
        fields = ((e.doc_id, {"source": e.source, "revision": e.revision}) for e in entries)
        errors = self._target().bulk().send(amend_item(doc_id, index, doc_id, changed) for doc_id, changed in fields)
        for doc_id, reason in errors.items():
            if MISSING not in reason:
                raise IndexUnavailable(f"the source of {doc_id} cannot be written to the ledger: {reason}")

    def flush(self) -> None:
        client, layout = self._open()
        with translated(self._address):
            client.indices.refresh(index=[layout.passages, layout.documents])

    # Reading

    def legs(self, query: LegsQuery) -> Legs:
        ranked: dict[Leg, list[tuple[str, float]]] = {leg: [] for leg in query.legs}
        found: dict[str, Passage] = {}
        version, answers = self._search(query)
        shown = visible([answer["hits"]["hits"] for answer in answers])
        took = {leg: float(answer["took"]) for leg, answer in zip(runnable_legs(query), answers, strict=True)}
        for leg, hits in zip(runnable_legs(query), shown, strict=True):
            scores = [(hit["_source"]["id"], float(hit["_score"])) for hit in hits]
            if leg == "dense":
                scores = [(key, similarity_of(score, self._fingerprint)) for key, score in scores]
            ranked[leg] = sorted(scores, key=lambda item: (-item[1], item[0]))[: query.depth]
            taken = {key for key, _ in ranked[leg]} - found.keys()
            found |= {hit["_source"]["id"]: _passage(hit["_source"]) for hit in hits if hit["_source"]["id"] in taken}
        return Legs(ranked=ranked, passages=found, index_version=version, took_ms=took)

    def ledger(self, doc_ids: Sequence[str], *, with_document: bool = False) -> dict[str, LedgerEntry]:
        """Entries by id, as they are now: a get by id needs no refresh."""
        found = fence.entries(self._target(), list(dict.fromkeys(doc_ids)), with_document=with_document)
        return {one.entry.doc_id: one.entry for one in found}

    def entries(self) -> Iterator[LedgerEntry]:
        documents = self._open()[1].documents
        page: dict[str, Any] = {"size": _ENTRIES_AT_ONCE, "sort": ["doc_id"], "_source": {"excludes": ["document"]}}
        while True:
            hits = self._msearch([{"index": documents}, page])[0]["hits"]["hits"]
            for hit in hits:
                yield LedgerEntry.model_validate(hit["_source"])
            if len(hits) < _ENTRIES_AT_ONCE:
                return
            page["search_after"] = hits[-1]["sort"]

    def held(self, doc_ids: Sequence[str] | None = None) -> Iterator[Held]:
        wanted = None if doc_ids is None else sorted(set(doc_ids))
        for start in range(0, 1 if wanted is None else len(wanted), _ENTRIES_AT_ONCE):
            yield from self._held(None if wanted is None else wanted[start : start + _ENTRIES_AT_ONCE])

    def expel(self, doc_id: str, keep: int = 0) -> None:
        layout = self._open()[1]
        bounds: list[dict[str, Any]] = [{"term": {"doc_id": doc_id}}, {"range": {"ordinal": {"gte": keep}}}]
        page = {"size": _ENTRIES_AT_ONCE, "query": {"bool": {"filter": bounds}}, "_source": False, "version": True}
        self.flush()
        while hits := self._msearch([{"index": layout.passages}, page])[0]["hits"]["hits"]:
            # With the version that was seen: a writer that is at work has a greater one.
            errors = (
                self._target()
                .bulk()
                .send(
                    Item(doc_id, "delete", layout.write_passages, hit["_id"], version=hit["_version"]) for hit in hits
                )
            )
            if errors:
                raise IndexUnavailable(f"passages of {doc_id} cannot be deleted: {errors[doc_id]}")
            self.flush()

    # Steps

    def _held(self, doc_ids: Sequence[str] | None) -> Iterator[Held]:
        passages = self._open()[1].passages
        body = counts_by_document(_ENTRIES_AT_ONCE, doc_ids)
        while True:
            found = self._msearch([{"index": passages}, body])[0]["aggregations"]["documents"]
            for bucket in found["buckets"]:
                yield Held(bucket["key"]["doc_id"], bucket["doc_count"], int(bucket["highest"]["value"]))
            if "after_key" not in found:
                return
            body["aggs"]["documents"]["composite"]["after"] = found["after_key"]

    def _open(self) -> tuple[Elasticsearch, Layout]:
        if self._place is None or self._layout is None:
            raise IndexUnavailable("the index is not open", remedy="Call `load` first.")
        return self._place.client, self._layout

    def _search(self, query: LegsQuery) -> tuple[str, list[dict[str, Any]]]:
        """The version that answered, and its answers to the runnable legs, in one round trip.

        A current version is searched by its alias: after a swap the answer knows better than the start did. Then the
        process goes over to the new version when that fits its fingerprint, and stays with its own otherwise.
        """
        layout = self._open()[1]
        if not runnable_legs(query):
            return layout.version, []
        try:
            answers = self._ask(query, layout.searched)
            version = min(_answered(answers), default=layout.version)
        except CitewellError as error:
            if "dimension" not in error.message or self._follow(layout).searched == layout.searched:
                raise
            version, answers = "", []
        if version != layout.version:
            now = self._follow(layout)
            if now.version != version:
                answers = self._ask(query, now.searched)
                version = now.version
        return version, answers

    def _ask(self, query: LegsQuery, searched: str) -> list[dict[str, Any]]:
        """Answers to the runnable legs in one round trip.

        There is another one where veils leave no room for passages, and where the alias moved between the legs.
        """
        spare = SPARE
        answers: list[dict[str, Any]] = []
        for _ in range(_ASKED_AT_MOST):
            answers = self._msearch(msearch(query, searched, self._fingerprint.languages, spare))
            size = page_size(query, spare)
            if any(crowded(answer["hits"]["hits"], size) for answer in answers):
                spare = MAX_HITS
            elif len(_answered(answers)) <= 1:
                break
        return answers

    def _follow(self, layout: Layout) -> Layout:
        """The layout after a swap of the alias; its own version where no other fits."""
        assert self._place is not None
        try:
            now = find_version(self._place, self._fingerprint, self._named)
        except FingerprintMismatch:
            now = Layout(version=layout.version, searched=layout.version)
        self._layout = now
        return now

    def _writable(self) -> fence.Target:
        """As `_target`, of a version that has all fields that writes need, and nothing left by killed writers."""
        layout = self._open()[1]
        if layout.version not in self._completed:
            assert self._place is not None
            complete(self._place, layout)
            fence.tidy(self._target())
            self._completed.add(layout.version)
        return self._target()

    def _target(self) -> fence.Target:
        client, layout = self._open()
        return fence.Target(client, self._address, layout, self._writing, self._reading)

    def _msearch(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to the lines' searches; raises for the first that failed."""
        with translated(self._address):
            answers: list[dict[str, Any]] = self._open()[0].msearch(searches=lines)["responses"]
        for answer in answers:
            if "error" in answer:
                raise from_answer(self._address, int(answer["status"]), answer["error"])
        return answers


def source(passage: Passage, vector: Vectors) -> dict[str, Any]:
    """The body of a passage."""
    text = searched_text(passage)
    derived = {"words": words(text), "stems": stems(text, passage.lang), "orderable": orderable(passage.metadata)}
    return passage.to_dict() | derived | {"vector": vector}


def _answered(answers: list[dict[str, Any]]) -> set[str]:
    """The indices that hits came from."""
    return {str(hit["_index"]) for answer in answers for hit in answer["hits"]["hits"]}


def _passage(stored: dict[str, Any]) -> Passage:
    return Passage.model_validate(stored)
