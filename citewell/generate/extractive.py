"""Answers without a language model: the sentences of the evidence that answer best, word for word.

A sentence's score joins two views of how well it answers: the share of the question's topic words that it holds,
each weighted by how rare it is among the evidence's sentences, and the cosine of question and sentence under the
embedder, where that knows the language. A little of the passage's own rank breaks near ties.

With a reader (the setting `reader`), questions in its languages are answered by the sentence around the words that it
finds, and refused where it is not sure; those that ask for yes or no stay with the ranking. A span's score joins the
reader's own, that its passage answers and that these words do, with the rank of the passage.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from citewell.cite import abstention, exact_words
from citewell.errors import ReaderUnavailable
from citewell.generate.reader import Reader
from citewell.ports import Embedder, GeneratorCard, Vectors
from citewell.records import Exact, Hit, Job, Piece
from citewell.text import sentences, sentences_over, terms

log = structlog.get_logger(__name__)

Scores = npt.NDArray[np.float32]
# A sentence of an answer with its marker, and the words in it that answer.
Said = tuple[str, tuple[Exact, ...]]

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
# What the logarithm of a passage's rank takes from its spans' log-probabilities (bench/reader.py, docs/LOG.md).
SPAN_RANK = 1.0
# What a word of the question counts that stands in the passage or its title, not in the sentence.
_AROUND = 0.3
# Words of fewer sentences than this all weigh the same.
_COMMON = 3
# How a question begins to which the answer is yes or no.
_POLAR = re.compile(
    r"\W*(is|are|am|was|were|do|does|did|has|have|had|can|could|will|would|shall|should|may|might|must)(n['’]t)?\b",
    re.I,
)
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
    """One sentence of one hit; `start` orders sentences within a passage, `exact` are words in it that answer."""

    hit: Hit
    start: int
    text: str
    score: float = 0.0
    exact: tuple[Exact, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """The best that can be said, and whether it is: from `threshold` on. `score` is -inf where there is nothing.

    Scores of the reader are log-probabilities, those of the ranker lie in about [0, 1]; `said` is in pieces.
    """

    said: tuple[Said, ...]
    score: float
    threshold: float

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.said)

    @property
    def sure(self) -> bool:
        return bool(self.said) and self.score >= self.threshold


@dataclass(frozen=True)
class Spotted:
    """Words of a hit that a reader found. `score` orders them among all hits, `sure` is the reader's alone: a
    log-probability."""

    hit: Hit
    start: int
    end: int
    score: float
    sure: float

    @property
    def text(self) -> str:
        return self.hit.passage.text[self.start : self.end]


class ExtractiveGenerator:
    """Ranks the evidence's sentences; quotes at most three, or says that the documents do not answer.

    A reader that is `optional` and cannot be used is left out with a warning: all questions are then answered by rank.
    """

    def __init__(self, embedder: Embedder, reader: Reader | None = None, *, optional: bool = False) -> None:
        self._embedder = embedder
        self._given = reader
        self._optional = optional
        self._left_out = ""
        self._lock = threading.Lock()

    def load(self) -> None:
        """The reader's network is loaded when the first question in its languages comes."""
        self._embedder.load()
        self.reader()

    def close(self) -> None:
        """The embedder belongs to the engine, which closes it."""
        if self._given is not None:
            self._given.close()

    def info(self) -> dict[str, Any]:
        told: dict[str, Any] = {"name": "extractive", "embedder": self._embedder.info()["name"]}
        reader = self.reader()
        if reader is not None:
            told["reader"] = reader.info()
        elif self._left_out:
            told["reader"] = {"left_out": self._left_out}
        return told

    def describe(self) -> GeneratorCard:
        """Its model is the embedder; its weights, the reader's and the rules here are its revision."""
        card, reader = self._embedder.describe(), self.reader()
        revision = ":".join([RULES, card.weights[:16], *([reader.revision[:16]] if reader else [])])
        return GeneratorCard("extractive", "extractive", model=card.name, revision=revision)

    def reader(self) -> Reader | None:
        """The reader, once its files are found whole; raises `ReaderUnavailable` where it is not optional."""
        with self._lock:
            if self._given is None or self._left_out:
                return None
            try:
                self._given.check()
            except ReaderUnavailable as error:
                self._leave_out(error)
                return None
            return self._given

    def _leave_out(self, error: ReaderUnavailable) -> None:
        if not self._optional:
            raise error
        self._left_out = error.message
        log.warning("reader_left_out", reason=error.message, instead="sentences are ranked by words and vectors")

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """One piece a sentence."""
        for job in jobs:
            for text, exact in self._answer(job):
                if cancelled(job.answer_id):
                    break
                yield Piece(answer_id=job.answer_id, text=text, exact=exact)
            else:
                yield Piece(answer_id=job.answer_id, last=True)

    def _answer(self, job: Job) -> Sequence[Said]:
        found = self.attempt(job)
        return found.said if found.sure else [(abstention(job.question.lang), ())]

    def attempt(self, job: Job) -> Attempt:
        """What would be answered if nothing were refused, and what decides whether it is.

        Passages in other languages are turned to where those in the question's do not reach the threshold.
        """
        lang = job.question.lang
        reader = self.reader()
        own = [hit for hit in job.evidence.hits if hit.passage.lang in (lang, "")]
        if reader is not None and lang in reader.languages and own and not polar(job.question.standalone, lang):
            try:
                return _read(reader, job.question.standalone, own, lang)
            except ReaderUnavailable as error:  # it is loaded at its first use
                self._leave_out(error)
        best = Attempt((), -math.inf, 0.0)
        for group in _by_language(candidates(job.evidence.hits, lang), lang):
            ranked, weights = self.score(job.question.standalone, lang, group)
            if ranked:
                found = Attempt(tuple(_compose(ranked)), ranked[0].score, weights.threshold)
                if found.sure:
                    return found
                best = best if best.said else found
        return best

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


def spotted(reader: Reader, question: str, hits: Sequence[Hit], weight: float = SPAN_RANK) -> list[Spotted]:
    """What a reader finds in all hits, best first; `weight` is that of the logarithm of a hit's rank."""
    readings = reader.read(question, [(hit.passage.title, hit.passage.text) for hit in hits])
    found = [
        Spotted(hit, span.start, span.end, span.score - weight * math.log(hit.rank), span.score)
        for reading, hit in zip(readings, hits, strict=True)
        for span in reading.spans
    ]
    return sorted(found, key=lambda one: (-one.score, one.hit.rank))


def _read(reader: Reader, question: str, hits: Sequence[Hit], lang: str) -> Attempt:
    """The sentences around the spans that answer best by the reader, the best first, and how sure it is of that."""
    found = spotted(reader, question, hits)
    if not found:
        return Attempt((), -math.inf, reader.threshold)
    return Attempt(tuple(_marked(sentences_around(found, lang))), found[0].sure, reader.threshold)


def sentences_around(found: Sequence[Spotted], lang: str) -> list[Candidate]:
    """The sentences around the best span and those nearly as good; the same words count once, where they score best."""
    chosen: dict[tuple[str, str], Candidate] = {}
    words: set[str] = set()
    for one in found:
        if one.score < found[0].score - _SPAN_NEAR or len(words) == MAX_SENTENCES:
            break
        if (said := one.text.casefold()) in words:
            continue
        words.add(said)
        around = around_span(one.hit, one.start, one.end, lang)
        key = (one.hit.passage.doc_id, around.text)
        named = exact_words(one.hit, one.start, one.end, math.exp(one.sure))
        known = chosen.get(key, around)
        chosen[key] = replace(known, exact=(*known.exact, named))
    return list(chosen.values())


def polar(question: str, lang: str) -> bool:
    """Whether yes or no would answer: then no words of a passage do, but a whole sentence may. English alone."""
    return lang == "en" and _POLAR.match(question) is not None


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
    inside = sentences_over(text, start, end, hit.passage.lang or lang)
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


def _compose(ranked: Sequence[Candidate]) -> list[Said]:
    """The chosen sentences in reading order."""
    floor = ranked[0].score * _NEAR
    chosen = [c for c in ranked[:MAX_SENTENCES] if c.score >= floor]
    return _marked(sorted(chosen, key=lambda c: (c.hit.rank, c.start)))


def _marked(chosen: Sequence[Candidate]) -> list[Said]:
    """The sentences as they are, each with its marker; they are joined by spaces."""
    return [(f"{' ' if number else ''}{c.text} [{c.hit.rank}]", c.exact) for number, c in enumerate(chosen)]
