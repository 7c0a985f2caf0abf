"""Ranked hits to the evidence that travels with a question: no passage twice, neighbours joined, within bounds. Pure.

Going down the ranking, a hit that says what is already there is left out, one that stands beside a chosen passage of
its document is joined to it, and any other takes a place of its own, until the places are full. Nothing disappears in
silence: a hit names what was joined to it and what it stands for, and the record counts what the limits kept out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from citewell.records import Hit, Passage
from citewell.split import estimated_tokens
from citewell.text import normal, numbers

# A text is a near-duplicate when this share of its runs of characters stands in a chosen passage. Broder, "On the
# resemblance and containment of documents" (1997); characters instead of words, for languages without spaces.
CONTAINED = 0.9
_RUN = 5
_BETWEEN = re.compile(r"\W+")


@dataclass(frozen=True)
class Bounds:
    """About `tokens` tokens of evidence in all, at most `per_document` passages of one document (0: any number)."""

    tokens: int
    per_document: int = 0


@dataclass
class _Span:
    """A place of the evidence while it is filled: its best hit, and the passages `first` to `last` joined into one."""

    hit: Hit
    passage: Passage
    first: int
    last: int
    merged: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)

    def with_neighbour(self, other: _Span) -> Passage | None:
        """Both as one passage; None where they are no neighbours."""
        if self.passage.doc_id != other.passage.doc_id or self.passage.page != other.passage.page:
            return None  # of two pages: a citation names one
        if other.first == self.last + 1:
            before, after = self.passage, other.passage
        elif other.last == self.first - 1:
            before, after = other.passage, self.passage
        else:
            return None
        if after.start == before.end + len(before.gap):
            text = before.text + before.gap + after.text
        elif before.start <= after.start < before.end <= after.end:
            text = before.text + after.text[before.end - after.start :]
        else:  # passages of two versions of the document: their offsets do not meet
            return None
        whole = {"start": before.start, "end": after.end, "text": text, "gap": after.gap, "ordinal": before.ordinal}
        return self.passage.model_copy(update={**whole, "heading": before.heading})

    def join(self, other: _Span, passage: Passage) -> None:
        self.passage = passage
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        self.merged += [other.hit.passage.id, *other.merged]
        self.duplicates += other.duplicates

    def finished(self, rank: int) -> Hit:
        passage = self.passage
        if self.merged:
            passage = passage.model_copy(update={"id": f"{passage.doc_id}#{self.first}-{self.last}"})
        told = {"merged": tuple(self.merged), "duplicates": tuple(self.duplicates)}
        return self.hit.model_copy(update={"passage": passage, "rank": rank, **told})


def build(hits: Sequence[Hit], places: int, bounds: Bounds) -> tuple[tuple[Hit, ...], dict[str, Any]]:
    """Evidence of at most `places` hits, ranked from 1, and the record of how it came about.

    A joined passage has the id `DOC#FIRST-LAST`, the offsets of the whole span, and the scores of its best hit. The
    best hit is kept even where it alone is over the budget; the first other one that is over ends the evidence.
    """
    spans: list[_Span] = []
    passages: Counter[str] = Counter()
    duplicates = capped = spent = 0
    stopped = ""
    for hit in hits:
        passage = hit.passage
        new = _Span(hit, passage, passage.ordinal, passage.ordinal)
        beside = next((span for span in spans if span.with_neighbour(new)), None)
        cost = estimated_tokens(passage.text, passage.lang)
        if twin := _twin(passage, spans):
            twin.duplicates.append(passage.id)
            duplicates += 1
        elif bounds.per_document and passages[passage.doc_id] >= bounds.per_document:
            capped += 1
        elif beside is None and len(spans) == places:
            stopped = "places"
            break
        elif spans and spent + cost > bounds.tokens:
            stopped = "tokens"
            break
        else:
            spent += cost
            passages[passage.doc_id] += 1
            _place(new, beside, spans)
    record = {
        "tokens": spent,
        "merged": sum(len(span.merged) for span in spans),
        "duplicates": duplicates,
        "over_document_limit": capped,
        "stopped": stopped,
    }
    return tuple(span.finished(rank) for rank, span in enumerate(spans, start=1)), record


def _place(new: _Span, beside: _Span | None, spans: list[_Span]) -> None:
    if beside is None:
        spans.append(new)
        return
    _join(beside, new)
    # The new passage may have closed the gap between two spans: the better one takes the other in.
    for other in spans:
        if other is not beside and beside.with_neighbour(other):
            better, worse = sorted((beside, other), key=spans.index)
            _join(better, worse)
            spans.remove(worse)
            return


def _join(span: _Span, other: _Span) -> None:
    passage = span.with_neighbour(other)
    assert passage is not None
    span.join(other, passage)


def _twin(passage: Passage, spans: Sequence[_Span]) -> _Span | None:
    """The span that says all of the passage: nearly every run of its characters, and every number of it."""
    runs = _runs(passage.text)
    figures = numbers(passage.text)
    for span in spans:
        held = _runs(span.passage.text)
        if len(runs & held) >= CONTAINED * len(runs) and figures <= numbers(span.passage.text):
            return span
    return None


def _runs(text: str) -> set[str]:
    letters = _BETWEEN.sub("", normal(text))
    return {letters[at : at + _RUN] for at in range(max(1, len(letters) - _RUN + 1))}
