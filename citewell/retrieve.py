"""Question to evidence: embed, both legs in one round trip, fuse, rerank, build."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from citewell import language, metrics
from citewell.config import Settings
from citewell.conversation import History, rewritten
from citewell.embed import passage_input
from citewell.errors import InvalidQuestion
from citewell.evidence import Bounds, build
from citewell.fuse import ALPHA, ALPHAS, Fusion, fuse
from citewell.ports import Embedder, EmbedderCard, Index, Legs, LegsQuery, Reranker
from citewell.records import Evidence, Hit, LegRank, Question

# Reads no turn of a conversation.
_ALONE = History(0, 0)


@dataclass(frozen=True)
class Plan:
    """How questions of one language are searched."""

    fusion: Fusion
    depth: int

    @classmethod
    def of(cls, settings: Settings, card: EmbedderCard, lang: str) -> Plan:
        """As tuned, else by BM25 alone where the embedder is of no use, else as set."""
        if tuned := settings.tuned.get(lang):
            return cls(Fusion(tuned.fusion, tuned.alpha, tuned.rrf_k, source=f"tuned.{lang}"), tuned.depth)
        if settings.fusion in ("minmax", "rrf") and not card.speaks(lang):
            return cls(Fusion("bm25", source=f"{card.name} does not speak {lang}"), settings.depth)
        alpha, source = settings.alpha, "settings"
        if alpha is None:
            alpha = ALPHAS.get((card.name, lang), ALPHA)
            source = f"measured for {card.name}" if (card.name, lang) in ALPHAS else source
        return cls(Fusion(settings.fusion, alpha, settings.rrf_k, source=source), settings.depth)


@dataclass(frozen=True)
class Reranking:
    """Who orders the first `depth` passages anew, and how long it may take."""

    reranker: Reranker
    depth: int
    budget_s: float

    def apply(self, question: str, hits: list[Hit]) -> tuple[list[Hit], dict[str, Any]]:
        """The hits in the reranker's order, and its record. Out of time, their order stays as it is."""
        read = hits[: self.depth]
        result = self.reranker.rerank(question, [passage_input(hit.passage) for hit in read], self.budget_s)
        scored = [hit.model_copy(update={"rerank": score}) for hit, score in zip(read, result.scores, strict=False)]
        record = {"model": self.reranker.info()["name"], "scored": len(scored), "stopped": result.stopped}
        if result.stopped:
            return scored + hits[len(scored) :], record
        best = sorted(scored, key=lambda hit: (-(hit.rerank or 0.0), hit.fused_rank))
        ordered = [hit.model_copy(update={"score": hit.rerank}) for hit in best]
        # What it did not read follows what it read, and its scores say so: below 0, in fused order.
        rest = [hit.model_copy(update={"score": -float(hit.fused_rank)}) for hit in hits[self.depth :]]
        return [hit.model_copy(update={"rank": n}) for n, hit in enumerate(ordered + rest, start=1)], record


class Retriever:
    """Holds no state of its own; safe to share between threads when its parts are. `plan` knows each language's way."""

    def __init__(
        self,
        index: Index,
        embedder: Embedder,
        *,
        plan: Callable[[str], Plan],
        question_limit: int,
        bounds: Bounds,
        reranking: Reranking | None = None,
        history: History = _ALONE,
    ) -> None:
        self._history = history
        self._bounds = bounds
        self._reranking = reranking
        self._index = index
        self._embedder = embedder
        self._plan = plan
        self._question_limit = question_limit

    def check(self, question: Question) -> Question:
        """The question trimmed, with its language, and self-contained; raises `InvalidQuestion` for one that cannot be
        searched.
        """
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
        # A follow-up of two words may be of any language; that of its conversation is surer.
        said = " ".join([*(turn.question for turn in question.conversation[-1:]), text])
        lang = language.normalize(question.lang) or language.detect(said, among=language.ASKED)
        checked = question.model_copy(update={"text": text, "lang": lang})
        return rewritten(checked, self._history, self._question_limit)

    def plan(self, question: Question) -> Plan:
        """The plan for a checked question: that of its language, or the one leg that its mode names."""
        plan = self._plan(question.lang)
        fusion = plan.fusion
        if question.mode in ("bm25", "dense"):
            fusion = Fusion(question.mode, source="mode")
        return Plan(fusion, max(plan.depth, question.k))

    def legs(self, question: Question, plan: Plan) -> tuple[Legs, dict[str, float]]:
        """The legs that the plan needs, for a checked question, and the milliseconds of each step."""
        started = time.perf_counter()
        wanted = plan.fusion.legs()
        vector = self._embedder.embed_queries([question.standalone])[0] if "dense" in wanted else None
        embedded = time.perf_counter()
        legs = self._index.legs(
            LegsQuery(
                text=question.standalone,
                lang=question.lang,
                vector=vector,
                legs=wanted,
                depth=plan.depth,
                filters=question.filters,
                groups=question.groups,
            )
        )
        searched = time.perf_counter()
        return legs, {"embed": (embedded - started) * 1e3, "legs": (searched - embedded) * 1e3}

    def search(self, question: Question) -> Evidence:
        """The best `question.k` passages as they rank, with everything that ranked them."""
        found = self._ranked(self.check(question))
        return found.model_copy(update={"hits": found.hits[: question.k]})

    def gather(self, question: Question) -> Evidence:
        """The evidence for an answer: at most `question.k` spans, built of the ranking by `citewell.evidence`."""
        found = self._ranked(self.check(question))
        started = time.perf_counter()
        hits, record = build(found.hits, question.k, self._bounds)
        timings = found.timings_ms | {"build": round((time.perf_counter() - started) * 1e3, 3)}
        return found.model_copy(update={"hits": hits, "building": record, "timings_ms": timings})

    def _ranked(self, question: Question) -> Evidence:
        """All that the legs found for a checked question, in order."""
        if question.mode == "none":
            return Evidence(mode="none", filters=question.filters, lang=question.lang, asked=_asked(question))
        started = time.perf_counter()
        plan = self.plan(question)
        legs, timings = self.legs(question, plan)
        fusing = time.perf_counter()
        hits = ranked(legs, plan.fusion)
        reranking = time.perf_counter()
        timings["fuse"] = (reranking - fusing) * 1e3
        record: dict[str, Any] = {}
        # One leg that was asked for by name is shown as it ranks.
        if self._reranking is not None and question.mode == "hybrid" and hits:
            hits, record = self._reranking.apply(question.standalone, hits)
            timings["rerank"] = (time.perf_counter() - reranking) * 1e3
        timings["retrieve"] = (time.perf_counter() - started) * 1e3
        metrics.searched(timings)
        metrics.searched(legs.took_ms)
        return Evidence(
            hits=tuple(hits),
            rerank=record,
            mode=question.mode,
            fusion=plan.fusion.describe(),
            depth=plan.depth,
            filters=question.filters,
            lang=question.lang,
            asked=_asked(question),
            index_version=legs.index_version,
            embedder=self._embedder.describe().name,
            timings_ms={name: round(value, 3) for name, value in timings.items()},
        )


def _asked(question: Question) -> str:
    return question.rewriting.text if question.rewriting else ""


def ranked(legs: Legs, fusion: Fusion) -> list[Hit]:
    """All passages of the legs as hits in fused order."""
    ranks = {
        leg: {key: (rank, score) for rank, (key, score) in enumerate(found, start=1)}
        for leg, found in legs.ranked.items()
    }
    return [
        Hit(
            passage=legs.passages[item.key],
            rank=place,
            score=item.score,
            fused=item.score,
            fused_rank=place,
            legs={
                leg: LegRank(rank=ranks[leg][item.key][0], score=ranks[leg][item.key][1], part=item.parts.get(leg, 0.0))
                for leg in ranks
                if item.key in ranks[leg]
            },
        )
        for place, item in enumerate(fuse(legs.ranked, fusion), start=1)
    ]
