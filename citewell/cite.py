"""Answer text and evidence to verified citations. Pure.

A generator writes markers `[n]`, n being the rank of a hit. Here every marker is checked: the hit exists, and a span
of its passage supports the sentence. A marker that fails is removed from the text; a sentence that is left without one
is flagged `supported: false`. Nothing is ever added or let through by lowering the threshold.

Support of a sentence by a span is the share of the sentence's topic words (`text.terms`) that occur in the span, 1.0
where the sentence stands there word for word; numbers, dates and times of the sentence must all occur in the span.
The span is one to three neighbouring sentences of the passage, the shortest with the best support.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from citewell.outline import path_within
from citewell.prompt import ABSTENTIONS
from citewell.records import Citation, Draft, Evidence, Hit, Sentence, text_hash
from citewell.text import numbers, sentences, terms

# Share of a sentence's topic words that its span must hold.
SUPPORT = 0.6
_WINDOW = 3

_MARKERS = re.compile(r"[ \t]*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


@dataclass(frozen=True)
class Span:
    """Half open, within a passage's text."""

    start: int
    end: int
    support: float


def cite(text: str, evidence: Evidence, lang: str) -> Draft:
    """The answer with the markers that hold, their citations, and a verdict on each sentence."""
    text = text.strip()
    if text in ABSTENTIONS.values() or not text:
        return Draft(text=text or abstention(lang), abstained=True)
    built = ""
    citations: list[Citation] = []
    verdicts: list[Sentence] = []
    for body, markers, tail in _marked_sentences(text, lang):
        held = [c for marker in markers if (c := _check(body, marker, len(verdicts), evidence, lang))]
        citations.extend(held)
        start = len(built)
        built += body + "".join(f" [{c.marker}]" for c in held)
        verdicts.append(Sentence(text=body, start=start, end=len(built), supported=bool(held)))
        built += tail
    return Draft(text=built.rstrip(), citations=tuple(citations), sentences=tuple(verdicts))


def abstention(lang: str) -> str:
    """The plain statement that the documents do not answer, in the question's language or else in English."""
    return ABSTENTIONS.get(lang, ABSTENTIONS["en"])


def _marked_sentences(text: str, lang: str) -> list[tuple[str, list[int], str]]:
    """(sentence without markers, its markers, white space behind it).

    Markers are cut out before the text is segmented, so that `… days. [1]` and `… days [1].` come out the same; a
    marker belongs to the sentence in which it stands or which ends right before it.
    """
    plain, marks = "", []
    position = 0
    for match in _MARKERS.finditer(text):
        plain += text[position : match.start()]
        marks.append((len(plain), [int(n) for n in match.group(1).split(",")]))
        position = match.end()
    plain += text[position:]
    spans = sentences(plain, lang) or [(0, len(plain))]
    starts = [start for start, _ in spans[1:]] + [len(plain)]
    parts: list[tuple[str, list[int], str]] = []
    for (start, end), following in zip(spans, starts, strict=True):
        found = [n for at, group in marks if at <= following and (not parts or at > start) for n in group]
        marks = [(at, group) for at, group in marks if at > following]
        parts.append((plain[start:end], list(dict.fromkeys(found)), plain[end:following]))
    return parts


def _check(sentence: str, marker: int, ordinal: int, evidence: Evidence, lang: str) -> Citation | None:
    hit = next((h for h in evidence.hits if h.rank == marker), None)
    span = find_support(sentence, hit.passage.text, lang) if hit else None
    return citation(hit, span, marker=marker, sentence=ordinal) if hit and span else None


def citation(hit: Hit, span: Span, *, marker: int, sentence: int) -> Citation:
    """A citation of a span of a hit's passage, with its offsets in passage and document."""
    passage = hit.passage
    return Citation(
        marker=marker,
        sentence=sentence,
        passage_id=passage.id,
        doc_id=passage.doc_id,
        quote=passage.text[span.start : span.end],
        start=passage.start + span.start,
        end=passage.start + span.end,
        passage_start=span.start,
        passage_end=span.end,
        support=round(span.support, 4),
        title=passage.title,
        url=passage.url,
        heading=path_within(passage.heading, passage.text, span.start),
        page=passage.page,
        passage_hash=text_hash(passage.text),
    )


def find_support(sentence: str, passage: str, lang: str) -> Span | None:
    """The span of the passage that supports the sentence best, or None where none does enough."""
    at = passage.find(sentence)
    if at >= 0 and sentence:
        return Span(at, at + len(sentence), 1.0)
    wanted = set(terms(sentence, lang))
    figures = numbers(sentence)
    if not wanted:
        return None
    spans = sentences(passage, lang)
    best: Span | None = None
    for width in range(1, _WINDOW + 1):
        for first in range(len(spans) - width + 1):
            start, end = spans[first][0], spans[first + width - 1][1]
            window = passage[start:end]
            if not figures <= numbers(window):
                continue
            support = len(wanted & set(terms(window, lang))) / len(wanted)
            if support >= SUPPORT and (best is None or support > best.support):
                best = Span(start, end, support)
    return best
