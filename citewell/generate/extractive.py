"""Answers without a language model: the sentences of the evidence that answer best, word for word.

A sentence's score joins two views of how well it answers: the share of the question's topic words that it holds,
each weighted by how rare it is among the evidence's sentences, and the cosine of question and sentence under the
embedder, where that knows the language. A little of the passage's own rank breaks near ties.

With a reader (the setting `reader`), questions in its languages are answered by the sentence around the words that it
finds, and refused where it is not sure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from citewell.cite import abstention
from citewell.generate.reader import Reader
from citewell.ports import Embedder, GeneratorCard, Vectors
from citewell.records import Hit, Job, Piece
from citewell.text import sentences, terms

Scores = npt.NDArray[np.float32]

# Raised when the rules below choose other sentences than before.
RULES = "rules-1"
MAX_SENTENCES = 3
# A further sentence joins the answer when it scores nearly as well as the best.
_NEAR = 0.88
# Sentences longer than this are lists or tables run together; quoting them helps nobody.
_LONGEST = 600
_RANK_BONUS = 0.04
# A further span joins the answer when its log-probability is this near to the best one's: half as likely.
_SPAN_NEAR = math.log(2)
# What a word of the question counts that stands in the passage or its title, not in the sentence.
_AROUND = 0.3
# Words of fewer sentences than this all weigh the same.
_COMMON = 3
# A vector shorter than this is none, and divided by it stays so.
_TINY = 1e-12
# Sentences that are embedded for an answer.
_EMBEDDED = 12


@dataclass(frozen=True)
class Weights:
    """How the views are joined, and the score below which nothing supports an answer.

    `dense` is the weight of the cosine, the words have the rest. A threshold is the highest that keeps about 95 % of
    the right answers of a training set (bench/extractive.py; the tables are in docs/LOG.md).
    """

    dense: float
    threshold: float


# Where the embedder speaks the language.
_WITH_DENSE = Weights(dense=0.6, threshold=0.50)
# Words alone: how much of a question its answer repeats differs by language and by the unit that is counted.
_WORDS_ALONE = {
    "es": Weights(dense=0.0, threshold=0.44),
    "ja": Weights(dense=0.0, threshold=0.54),
    "ko": Weights(dense=0.0, threshold=0.46),
}
_WORDS_ELSEWHERE = Weights(dense=0.0, threshold=0.44)


@dataclass(frozen=True)
class Candidate:
    """One sentence of one hit; `start` orders sentences within a passage."""

    hit: Hit
    start: int
    text: str
    score: float = 0.0


class ExtractiveGenerator:
    """Ranks the evidence's sentences; quotes at most three, or says that the documents do not answer."""

    def __init__(self, embedder: Embedder, reader: Reader | None = None) -> None:
        self._embedder = embedder
        self._reader = reader

    def load(self) -> None:
        self._embedder.load()
        if self._reader is not None:
            self._reader.load()

    def close(self) -> None:
        """The embedder belongs to the engine, which closes it."""
        if self._reader is not None:
            self._reader.close()

    def info(self) -> dict[str, Any]:
        reader = {"reader": self._reader.info()} if self._reader is not None else {}
        return {"name": "extractive", "embedder": self._embedder.info()["name"], **reader}

    def describe(self) -> GeneratorCard:
        """Its model is the embedder; its weights, the reader's and the rules here are its revision."""
        card = self._embedder.describe()
        revision = ":".join([RULES, card.weights[:16], *([self._reader.revision[:16]] if self._reader else [])])
        return GeneratorCard("extractive", "extractive", model=card.name, revision=revision)

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """One piece a sentence."""
        for job in jobs:
            for text in self._answer(job):
                if cancelled(job.answer_id):
                    break
                yield Piece(answer_id=job.answer_id, text=text)
            else:
                yield Piece(answer_id=job.answer_id, last=True)

    def _answer(self, job: Job) -> list[str]:
        lang = job.question.lang
        if self._reader is not None and lang in self._reader.languages:
            return self._read(self._reader, job) or [abstention(lang)]
        for group in _by_language(candidates(job.evidence.hits, lang), lang):
            ranked, weights = self.score(job.question.standalone, lang, group)
            if ranked and ranked[0].score >= weights.threshold:
                return _compose(ranked)
        return [abstention(lang)]

    def _read(self, reader: Reader, job: Job) -> list[str]:
        """The sentences around the spans that answer best by the reader; none where it is not sure enough."""
        lang = job.question.lang
        hits = [hit for hit in job.evidence.hits if hit.passage.lang in (lang, "")]
        readings = reader.read(job.question.standalone, [(hit.passage.title, hit.passage.text) for hit in hits])
        found = sorted(
            ((span, hit) for reading, hit in zip(readings, hits, strict=True) for span in reading.spans),
            key=lambda one: (-one[0].score, one[1].rank),
        )
        if not found or found[0][0].score < reader.threshold:
            return []
        chosen: dict[tuple[str, str], Candidate] = {}
        for span, hit in found:
            if span.score < found[0][0].score - _SPAN_NEAR or len(chosen) == MAX_SENTENCES:
                break
            around = around_span(hit, span.start, span.end, lang)
            chosen.setdefault((hit.passage.doc_id, around.text), around)
        return _compose(list(chosen.values()))

    def score(self, question: str, lang: str, group: Sequence[Candidate]) -> tuple[list[Candidate], Weights]:
        """The candidates with scores in about [0, 1], best first, and the weights that were used."""
        languages = self._embedder.describe().languages
        spoken = not languages or lang in languages
        weights = _WITH_DENSE if spoken else _WORDS_ALONE.get(lang, _WORDS_ELSEWHERE)
        lexical = overlap(question, group, lang)
        dense = self.cosine(question, group, lexical) if weights.dense else np.zeros(len(group), dtype=np.float32)
        return join(group, lexical, dense, weights.dense), weights

    def cosine(self, question: str, group: Sequence[Candidate], lexical: Scores) -> Scores:
        """Cosine of the question and each sentence, below 0 cut off; shape (len(group),).

        Only the sentences that share most with the question are embedded, ties going to the better passage: the
        others hardly ever win, and embedding is what takes time.
        """
        order = sorted(range(len(group)), key=lambda i: (-lexical[i], group[i].hit.rank, group[i].start))
        chosen = order[:_EMBEDDED]
        query = _unit(self._embedder.embed_queries([question]))[0]
        scores = np.zeros(len(group), dtype=np.float32)
        scores[chosen] = np.clip(_unit(self._embedder.embed_passages([group[i].text for i in chosen])) @ query, 0, 1)
        return scores


def _unit(vectors: Vectors) -> Vectors:
    """Each row divided by its length: not every embedder's vectors are of length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = (vectors / np.maximum(lengths, _TINY)).astype(np.float32)
    return unit


def join(group: Sequence[Candidate], lexical: Scores, dense: Scores, weight: float) -> list[Candidate]:
    """The candidates with their joined score, best first; `weight` is that of the cosine."""
    joined = weight * dense + (1 - weight) * lexical
    scored = [
        replace(candidate, score=float(score) + _RANK_BONUS / candidate.hit.rank)
        for candidate, score in zip(group, joined, strict=True)
    ]
    return sorted(scored, key=lambda c: (-c.score, c.hit.rank, c.start))


def candidates(hits: Sequence[Hit], lang: str) -> list[Candidate]:
    """Every sentence of every hit once: overlapping passages hold the same sentence twice."""
    found: dict[tuple[str, str], Candidate] = {}
    for hit in hits:
        text = hit.passage.text
        for start, end in sentences(text, hit.passage.lang or lang):
            if end - start <= _LONGEST:
                found.setdefault((hit.passage.doc_id, text[start:end]), Candidate(hit, start, text[start:end]))
    return list(found.values())


def around_span(hit: Hit, start: int, end: int, lang: str) -> Candidate:
    """The sentence, or the sentences, of a hit that hold a span of its text; the span alone where they are too long."""
    text = hit.passage.text
    inside = [(a, b) for a, b in sentences(text, hit.passage.lang or lang) if a < end and b > start]
    if inside and inside[-1][1] - inside[0][0] <= _LONGEST:
        start, end = inside[0][0], inside[-1][1]
    return Candidate(hit, start, text[start:end], score=1.0)


def _by_language(group: Sequence[Candidate], lang: str) -> tuple[list[Candidate], list[Candidate]]:
    own = [c for c in group if c.hit.passage.lang in (lang, "")]
    return own, [c for c in group if c.hit.passage.lang not in (lang, "")]


def overlap(question: str, group: Sequence[Candidate], lang: str) -> Scores:
    """Share of the question's topic words that each sentence holds, in [0, 1].

    A word weighs by its inverse frequency among the sentences, but one that none of them holds weighs no more than one
    that some hold: it is as often a way of asking as what is asked for. One that stands not in the sentence but
    elsewhere in its passage or title counts in part: a sentence says "within 30 days" under a title that says of what.
    """
    wanted = set(terms(question, lang))
    bags = [set(terms(c.text, lang)) & wanted for c in group]
    around = {c.hit.rank: set(terms(f"{c.hit.passage.title} {c.hit.passage.text}", lang)) & wanted for c in group}
    seen = Counter(word for bag in bags for word in bag)
    weight = {word: math.log(1 + len(group) / max(seen[word], _COMMON)) for word in wanted}
    total = sum(weight.values()) or 1.0
    shares = [
        sum(weight[word] for word in bag) + _AROUND * sum(weight[word] for word in around[c.hit.rank] - bag)
        for bag, c in zip(bags, group, strict=True)
    ]
    return np.array(shares, dtype=np.float32) / np.float32(total)


def _compose(ranked: Sequence[Candidate]) -> list[str]:
    """The chosen sentences in reading order, each with its marker; they are joined by spaces."""
    floor = ranked[0].score * _NEAR
    chosen = [c for c in ranked[:MAX_SENTENCES] if c.score >= floor]
    chosen.sort(key=lambda c: (c.hit.rank, c.start))
    return [f"{' ' if number else ''}{c.text} [{c.hit.rank}]" for number, c in enumerate(chosen)]
