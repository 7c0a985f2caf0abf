"""Question to evidence: embed, both legs in one round trip, fuse."""

from __future__ import annotations

import time

from citewell import language
from citewell.errors import InvalidQuestion
from citewell.fuse import Fusion, fuse
from citewell.ports import Embedder, Index, Legs, LegsQuery
from citewell.records import Evidence, Hit, Leg, LegRank, Question

_LEGS: dict[str, tuple[Leg, ...]] = {"hybrid": ("bm25", "dense"), "bm25": ("bm25",), "dense": ("dense",)}


class Retriever:
    """Holds no state of its own; safe to share between threads when its parts are."""

    def __init__(self, index: Index, embedder: Embedder, *, fusion: Fusion, depth: int, question_limit: int) -> None:
        self._index = index
        self._embedder = embedder
        self._fusion = fusion
        self._depth = depth
        self._question_limit = question_limit

    def check(self, question: Question) -> Question:
        """The question trimmed, with its language; raises `InvalidQuestion` for one that cannot be searched."""
        text = question.text.strip()
        if not any(character.isalnum() for character in text):
            raise InvalidQuestion("the question is empty", remedy="Ask with at least one word.")
        if len(text) > self._question_limit:
            raise InvalidQuestion(
                f"the question has {len(text)} characters, the limit is {self._question_limit}",
                remedy="Shorten it, or raise the setting `question_limit`.",
            )
        if not 1 <= question.k <= 1000:
            raise InvalidQuestion(f"k is {question.k}", remedy="Ask for 1 to 1000 passages.")
        lang = language.normalize(question.lang) or language.detect(text, among=language.ASKED)
        return question.model_copy(update={"text": text, "lang": lang})

    def search(self, question: Question) -> Evidence:
        """The best `question.k` passages with both legs' ranks and scores."""
        question = self.check(question)
        started = time.perf_counter()
        wanted = _LEGS[question.mode]
        vector = self._embedder.embed_queries([question.text])[0] if "dense" in wanted else None
        embedded = time.perf_counter()
        legs = self._index.legs(
            LegsQuery(
                text=question.text,
                lang=question.lang,
                vector=vector,
                legs=wanted,
                depth=max(self._depth, question.k),
                filters=question.filters,
                groups=question.groups,
            )
        )
        searched = time.perf_counter()
        hits = _hits(legs, self._fusion, question.k)
        return Evidence(
            hits=hits,
            mode=question.mode,
            fusion=self._fusion.describe() if question.mode == "hybrid" else {"method": question.mode},
            lang=question.lang,
            index_version=legs.index_version,
            embedder=self._embedder.describe().name,
            timings_ms={
                "embed": round((embedded - started) * 1e3, 3),
                "legs": round((searched - embedded) * 1e3, 3),
                "fuse": round((time.perf_counter() - searched) * 1e3, 3),
                "retrieve": round((time.perf_counter() - started) * 1e3, 3),
            },
        )


def _hits(legs: Legs, fusion: Fusion, k: int) -> tuple[Hit, ...]:
    ranks: dict[str, dict[str, LegRank]] = {}
    for leg, ranked in legs.ranked.items():
        for rank, (key, score) in enumerate(ranked, start=1):
            ranks.setdefault(key, {})[leg] = LegRank(rank=rank, score=score)
    return tuple(
        Hit(passage=legs.passages[key], rank=rank, score=score, legs=ranks[key])
        for rank, (key, score) in enumerate(fuse(legs.ranked, fusion)[:k], start=1)
    )
