"""Answers given again: what saves a generator's work, and never a search.

Every question is searched, with the caller's groups and filters, on the index as it is; only then is an earlier answer
looked for that was written from the same passages. So a deleted, changed or forbidden passage cannot come back: it is
not in the evidence. What is found is cited anew against the new evidence, and becomes a record of its own that names
the answer it came from. docs/decisions/0021 has the reasons.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from typing import Any

import numpy as np
import structlog

from citewell import metrics
from citewell.cite import cite, exact_words, with_exact
from citewell.config import Settings
from citewell.errors import LeaseLost, StoreUnavailable, UnknownAnswer
from citewell.near import agree
from citewell.ports import Answers, Embedder, GeneratorCard, Kept
from citewell.records import Answer, CacheMode, Draft, Evidence, Job, Provenance, text_hash
from citewell.run import Cite, written_by

log = structlog.get_logger("citewell.cache")

_LEASE_S = 10.0
_MARKER = re.compile(r"\[(\d{1,3})\]")
_BETWEEN = re.compile(r"\s+")


class Cache:
    """`owner` names this process in leases. What the cache's store cannot do makes a question a miss."""

    def __init__(self, store: Answers, embedder: Embedder, citing: Cite, settings: Settings, owner: str) -> None:
        self._store = store
        self._embedder = embedder
        self._cite = citing
        self._threshold = settings.cache_threshold
        self._mode = settings.cache
        self._owner = owner

    def serve(self, job: Job, card: GeneratorCard, mode: CacheMode | None) -> Answer | None:
        """Finish a job that has just been created with an earlier answer, or keep it for later questions: then None."""
        how = mode or self._mode
        if how == "none":
            return None
        started = time.perf_counter()
        try:
            keys = _keys(job, card)
            vector = self._vector(job) if how == "semantic" else b""
            outcome, draft = "exact", self._exact(job, card, keys)
            if draft is None and vector:
                outcome, draft = "near", self._near(job, card, keys, vector)
            self._store.cache().count(outcome if draft else "miss")
            metrics.cached(outcome if draft else "miss")
            if draft is None:
                self._store.cache().keep(*keys, Kept(job.answer_id, job.question.standalone, vector))
                return None
            return self._finished(job, draft, (time.perf_counter() - started) * 1e3)
        except StoreUnavailable as error:
            log.warning("cache_not_used", answer=job.answer_id, reason=error.message)
        except LeaseLost as error:  # cancelled, or removed with a document, at this very moment
            log.info("cached_answer_not_given", answer=job.answer_id, reason=error.message)
        return None

    def info(self) -> dict[str, Any]:
        """How questions that wanted the cache fared since counting began; the rate is of all of them."""
        counts = dict.fromkeys(("exact", "near", "miss"), 0) | self._store.cache().counts()
        asked = sum(counts.values())
        rate = round((counts["exact"] + counts["near"]) / asked, 4) if asked else 0.0
        return {"mode": self._mode, "hit_rate": rate, **counts}

    def _finished(self, job: Job, draft: Draft, took_ms: float) -> Answer | None:
        lease = self._store.lease(job.answer_id, self._owner, _LEASE_S).lease
        if lease is None:
            return None
        self._store.emit(lease, draft.text)
        return self._store.finish(lease, draft, {"cache": round(took_ms, 3)})

    def _vector(self, job: Job) -> bytes:
        """The question's vector; none in a language that the embedder does not speak: there all questions are near."""
        if not self._embedder.describe().speaks(job.question.lang):
            return b""
        vector = self._embedder.embed_queries([job.question.standalone])[0]
        length = float(np.linalg.norm(vector)) or 1.0
        return bytes((vector / length).astype(np.float16).tobytes())

    def _exact(self, job: Job, card: GeneratorCard, keys: tuple[str, str]) -> Draft | None:
        answer_id = self._store.cache().find(keys[0])
        found = self._usable(answer_id, job, card) if answer_id else None
        return transferred(found, job.evidence, self._cite) if found else None

    def _near(self, job: Job, card: GeneratorCard, keys: tuple[str, str], vector: bytes) -> Draft | None:
        kept = [one for one in self._store.cache().near(keys[1]) if len(one.vector) == len(vector)]
        if not kept:
            return None
        rows = np.stack([np.frombuffer(one.vector, np.float16) for one in kept]).astype(np.float32)
        cosines = rows @ np.frombuffer(vector, np.float16).astype(np.float32)
        for place in np.argsort(-cosines, kind="stable"):
            if cosines[place] < self._threshold:
                return None
            one = kept[int(place)]
            if agree(job.question.standalone, one.question, job.question.lang):
                found = self._usable(one.answer_id, job, card)
                draft = transferred(found, job.evidence, self._cite) if found and not found.abstained else None
                if draft is not None:
                    return draft
        return None

    def _usable(self, answer_id: str, job: Job, card: GeneratorCard) -> Answer | None:
        """The answer, if it is written, by just this generator, for just these groups."""
        try:
            found = self._store.get(answer_id)
        except UnknownAnswer:  # it has expired, or went with a document
            return None
        made, wanted = found.provenance, written_by(job, card)
        same = made.model_copy(update={"passages": (), "index_version": ""}) == wanted
        fits = (found.generator, found.question.groups) == (job.generator, job.question.groups)
        return found if found.state == "done" and same and fits else None


def transferred(found: Answer, evidence: Evidence, citing: Cite = cite) -> Draft | None:
    """An earlier answer, cited on this evidence; None where a citation does not hold here."""
    before = {hit.rank: hit.passage for hit in found.evidence.hits}
    now = {(hit.passage.id, hit.passage.text, hit.passage.groups): hit.rank for hit in evidence.hits}
    ranks = {rank: now.get((passage.id, passage.text, passage.groups)) for rank, passage in before.items()}
    if any(ranks.get(citation.marker) is None for citation in found.citations):
        return None
    text = _MARKER.sub(lambda match: f"[{ranks.get(int(match[1])) or match[1]}]", found.answer)
    draft = citing(text, evidence, evidence.lang)
    spans = [(each.sentence, each.passage_id, each.quote) for each in draft.citations]
    if draft.abstained != found.abstained or spans != [
        (each.sentence, each.passage_id, each.quote) for each in found.citations
    ]:
        return None
    own = Provenance.of(evidence)
    made = found.provenance.model_copy(update={"passages": own.passages, "index_version": own.index_version})
    hits = {hit.rank: hit for hit in evidence.hits}
    exact = [
        exact_words(hits[rank], one.passage_start, one.passage_end, one.probability)
        for one in found.exact
        if (rank := ranks.get(one.marker))
    ]
    return with_exact(draft, exact).model_copy(update={"provenance": made, "cached_from": found.id})


def _keys(job: Job, card: GeneratorCard) -> tuple[str, str]:
    """The key of this question on this evidence, and the scope within which near questions are looked for. Pure."""
    asked = job.question
    scope = {
        "index": job.evidence.index_version,
        "embedder": job.evidence.embedder,
        "filters": asked.filters.model_dump(mode="json"),
        "groups": None if asked.groups is None else sorted(asked.groups),
        "k": asked.k,
        "mode": asked.mode,
        "lang": asked.lang,
        "generator": job.generator,
        "written_by": written_by(job, card).model_dump(mode="json"),
    }
    exact = scope | {
        "question": _BETWEEN.sub(" ", unicodedata.normalize("NFC", asked.standalone)).strip(),
        "passages": [text_hash(hit.passage.to_json()) for hit in job.evidence.hits],
    }
    return _hashed(exact), _hashed(scope)


def _hashed(value: dict[str, Any]) -> str:
    return text_hash(json.dumps(value, sort_keys=True, ensure_ascii=False))
