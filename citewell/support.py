"""Whether a passage supports a sentence, and by which span. Pure.

A sentence that stands in the passage word for word is supported, 1.0. Any other has to pass in this order:

1. Its numbers, dates and names occur in the passage, its title or its headings; numbers and dates in the span itself.
2. Its support by the span reaches the bar of the language: the share of its topic words (`text.terms`) that the span
   holds, joined with the cosine of both where the bar gives that a weight.
3. Where an entailment model is set, that finds the sentence to follow from the span.

The span is one to three neighbouring sentences of the passage, the shortest with the best support. Bars are chosen by
`citewell eval citations`, and none is ever lowered for one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from citewell.bars import Bar, bar_for
from citewell.facts import figures, stated, unstated
from citewell.records import Passage
from citewell.text import sentences, terms

_WINDOW = 3
# Spans of each width that are compared by more than their words: the single sentence matters most.
_COMPARED = {1: 2, 2: 1, 3: 1}


class Comparing(Protocol):
    """How sentences and spans are compared beyond their words; pairs are (sentence, span)."""

    def bar(self, lang: str) -> Bar: ...

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """In [-1, 1], one a pair, all in one batch. Asked for where the bar gives them a weight."""
        ...

    def entailed(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float] | None:
        """Probability that the sentence follows from the span, one a pair; None where no model is set."""
        ...

    def least_entailed(self) -> float: ...


@dataclass(frozen=True)
class Claim:
    """A sentence, without markers, and the passage that it names."""

    sentence: str
    passage: Passage


@dataclass(frozen=True)
class Span:
    """Half open, within a passage's text. `support` is what the bar is held to; `words` and `cosine` are its parts."""

    start: int
    end: int
    support: float
    words: float = 1.0
    cosine: float | None = None
    entailment: float | None = None


@dataclass(frozen=True)
class Looked:
    """A claim with the spans worth comparing, whose `support` is 0 until they are, or why there are none."""

    claim: Claim
    spans: list[Span]
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The span that supports a claim, or why none does."""

    span: Span | None
    reason: str = ""


def judge(claims: Sequence[Claim], lang: str, compare: Comparing | None = None) -> list[Verdict]:
    """A verdict on each claim; all that models compare goes to them in one batch."""
    bar = bar_of(lang, compare)
    looked = look(claims, lang)
    verdicts = [
        Verdict(span, one.reason or (_short_of(span, bar) if span and span.support < bar.least else ""))
        for span, one in zip(best_spans(looked, bar, compare), looked, strict=True)
    ]
    return [v if not v.reason else replace(v, span=None) for v in _entailed(claims, verdicts, compare)]


def bar_of(lang: str, compare: Comparing | None) -> Bar:
    return compare.bar(lang) if compare is not None else bar_for(lang, "")


def look(claims: Sequence[Claim], lang: str) -> list[Looked]:
    """What there is to compare of each claim."""
    return [Looked(claim, *_look(claim, lang)) for claim in claims]


def best_spans(looked: Sequence[Looked], bar: Bar, compare: Comparing | None) -> list[Span | None]:
    """The best span of each claim under a bar's weight, whatever it reaches; None for claims that have none."""
    pairs = [
        (one.claim.sentence, one.claim.passage.text[span.start : span.end])
        for one in looked
        for span in one.spans
        if not _verbatim(span)
    ]
    cosines = iter(compare.cosines(pairs) if compare is not None and bar.cosine and pairs else [None] * len(pairs))
    found: list[Span | None] = []
    for one in looked:
        joined = [span if _verbatim(span) else _joined(span, next(cosines), bar.cosine) for span in one.spans]
        found.append(max(joined, key=lambda span: (span.support, span.start - span.end), default=None))
    return found


def find_support(sentence: str, passage: Passage, lang: str) -> Span | None:
    """The span of one passage that supports a sentence by its words, or None."""
    return judge([Claim(sentence, passage)], lang)[0].span


def verbatim(sentence: str, text: str) -> Span | None:
    """Where the sentence stands in a text word for word, not within longer words."""
    at = text.find(sentence) if sentence else -1
    while at >= 0:
        end = at + len(sentence)
        if not (_one_word(text[at - 1 : at], sentence[0]) or _one_word(sentence[-1], text[end : end + 1])):
            return Span(at, end, 1.0)
        at = text.find(sentence, at + 1)
    return None


def _one_word(left: str, right: str) -> bool:
    """Whether two characters beside each other belong to one word of a script with spaces."""
    return left.isalnum() and right.isalnum() and max(left, right) < "\u3040"


def _verbatim(span: Span) -> bool:
    return span.support == 1.0


def _look(claim: Claim, lang: str) -> tuple[list[Span], str]:
    """The spans worth comparing, or why there are none."""
    passage = claim.passage
    if there := verbatim(claim.sentence, passage.text):
        return [there], ""
    own = passage.lang or lang
    around = f"{passage.title}\n{passage.heading}\n"
    lost = unstated(claim.sentence, around + passage.text, own)
    if lost:
        return [], f"{', '.join(f'`{word}`' for word in lost)} {'is' if len(lost) == 1 else 'are'} not there"
    wanted = set(terms(claim.sentence, lang))
    if not wanted:
        return [], "no word of it carries a topic"
    facts = figures(claim.sentence, own)
    spans = sentences(passage.text, own)
    found: list[Span] = []
    for width in range(1, _WINDOW + 1):
        group = []
        for first in range(len(spans) - width + 1):
            start, end = spans[first][0], spans[first + width - 1][1]
            there_now = stated(around + passage.text[start:end], own) if facts else None
            if there_now is None or all(there_now.holds(fact) for fact in facts):
                words = len(wanted & set(terms(passage.text[start:end], lang))) / len(wanted)
                group.append(Span(start, end, 0.0, words))
        found += sorted(group, key=lambda span: (-span.words, span.end - span.start))[: _COMPARED[width]]
    return found, "" if found else "its numbers and dates do not stand together"


def _joined(span: Span, cosine: float | None, weight: float) -> Span:
    # Below 1: that is for what stands there word for word.
    if cosine is None:
        return replace(span, support=min(span.words, 0.9999))
    joined = weight * max(cosine, 0.0) + (1 - weight) * span.words
    return replace(span, support=min(joined, 0.9999), cosine=cosine)


def _short_of(span: Span, bar: Bar) -> str:
    return f"support of {span.support:.2f} is below {bar.least:.2f}"


def _entailed(claims: Sequence[Claim], verdicts: list[Verdict], compare: Comparing | None) -> list[Verdict]:
    """The verdicts after the entailment model, which can refuse a span, but not let one through."""
    asked = [n for n, v in enumerate(verdicts) if v.span and not v.reason and not _verbatim(v.span)]
    spans = [verdicts[n].span for n in asked]
    pairs = [
        (claims[n].sentence, claims[n].passage.text[span.start : span.end])
        for n, span in zip(asked, spans, strict=True)
        if span
    ]
    scores = compare.entailed(pairs) if compare is not None and pairs else None
    if compare is None or scores is None:
        return verdicts
    least = compare.least_entailed()
    for n, score in zip(asked, scores, strict=True):
        span = verdicts[n].span
        assert span is not None
        reason = "" if score >= least else f"entailment of {score:.2f} is below {least:.2f}"
        verdicts[n] = Verdict(replace(span, entailment=score), reason)
    return verdicts
