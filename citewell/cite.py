"""Answer text and evidence to verified citations. Pure.

A generator writes markers `[n]`, n being the rank of a hit. Here every marker is checked: the hit exists, and a span
of its passage supports the sentence (`support.judge`). A marker that fails is removed from the text; a sentence that is
left without one is flagged `unsupported` with the reason. A marker is added to a sentence that names no passage only
where the sentence stands in one word for word. Nothing is ever let through by lowering a threshold.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from citewell.outline import path_within
from citewell.prompt import ABSTENTIONS
from citewell.records import Citation, Draft, Evidence, Exact, Hit, Sentence, text_hash
from citewell.support import Claim, Comparing, Span, judge, verbatim
from citewell.text import sentences, terms

# A sentence of fewer topic words than this stands in some passage by chance.
_LEAST_WORDS = 2

_MARKERS = re.compile(r"[ \t]*\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")


@dataclass(frozen=True)
class _Marked:
    """A sentence without its markers, the white space behind it, and the citations that hold."""

    body: str
    markers: tuple[int, ...]
    tail: str
    held: tuple[Citation, ...] = ()
    reason: str = ""


def cite(text: str, evidence: Evidence, lang: str, compare: Comparing | None = None) -> Draft:
    """The answer with the markers that hold, their citations, and a verdict on each sentence.

    `compare` adds cosines and entailment to the comparison of words; all sentences go to it in one batch.
    """
    text = text.strip()
    if text in ABSTENTIONS.values() or not text:
        return Draft(text=text or abstention(lang), abstained=True)
    built = ""
    verdicts: list[Sentence] = []
    marked = _checked(_marked_sentences(text, lang), evidence, lang, compare)
    for one in marked:
        start = len(built)
        built += one.body + "".join(f" [{citation.marker}]" for citation in one.held)
        verdicts.append(
            Sentence(text=one.body, start=start, end=len(built), supported=bool(one.held), unsupported=one.reason)
        )
        built += one.tail
    return Draft(text=built.rstrip(), citations=tuple(c for one in marked for c in one.held), sentences=tuple(verdicts))


def exact_words(hit: Hit, start: int, end: int, probability: float) -> Exact:
    """The words `[start:end]` of a hit's text, as a generator names them."""
    passage = hit.passage
    return Exact(
        text=passage.text[start:end],
        marker=hit.rank,
        passage_id=passage.id,
        doc_id=passage.doc_id,
        start=passage.start + start,
        end=passage.start + end,
        passage_start=start,
        passage_end=end,
        probability=round(probability, 4),
    )


def with_exact(draft: Draft, named: Sequence[Exact]) -> Draft:
    """The draft with the named words, best first, that stand in the quote of a citation: others prove nothing."""
    held = [
        one
        for one in sorted(named, key=lambda one: -one.probability)
        if any(
            c.passage_id == one.passage_id and c.passage_start <= one.passage_start and one.passage_end <= c.passage_end
            for c in draft.citations
        )
    ]
    return draft.model_copy(update={"exact": tuple(held)})


def abstention(lang: str) -> str:
    """The plain statement that the documents do not answer, in the question's language or else in English."""
    return ABSTENTIONS.get(lang, ABSTENTIONS["en"])


def _marked_sentences(text: str, lang: str) -> list[_Marked]:
    """The sentences with their markers, as they were written.

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
    parts: list[_Marked] = []
    for (start, end), following in zip(spans, starts, strict=True):
        found = [n for at, group in marks if at <= following and (not parts or at > start) for n in group]
        marks = [(at, group) for at, group in marks if at > following]
        parts.append(_Marked(plain[start:end], tuple(dict.fromkeys(found)), plain[end:following]))
    return parts


def _checked(parts: Sequence[_Marked], evidence: Evidence, lang: str, compare: Comparing | None) -> list[_Marked]:
    """The sentences with what holds of their markers, or why none does."""
    hits = {hit.rank: hit for hit in evidence.hits}
    asked = [(place, hits[marker]) for place, one in enumerate(parts) for marker in one.markers if marker in hits]
    verdicts = judge([Claim(parts[place].body, hit.passage) for place, hit in asked], lang, compare)
    checked = []
    for place, one in enumerate(parts):
        held, reasons = [], [f"there is no passage {n}" for n in one.markers if n not in hits]
        for (of, hit), verdict in zip(asked, verdicts, strict=True):
            if of == place and verdict.span:
                held.append(citation(hit, verdict.span, marker=hit.rank, sentence=place))
            elif of == place:
                reasons.append(f"passage {hit.rank}: {verdict.reason}")
        if not one.markers:
            added = _standing(one.body, place, evidence, lang)
            held, reasons = [added] if added else [], ["it names no passage"]
        checked.append(replace(one, held=tuple(held), reason="" if held else "; ".join(reasons)))
    return checked


def _standing(sentence: str, place: int, evidence: Evidence, lang: str) -> Citation | None:
    """The citation of the best passage in which a sentence stands word for word."""
    if len(set(terms(sentence, lang))) < _LEAST_WORDS:
        return None
    for hit in evidence.hits:
        if span := verbatim(sentence, hit.passage.text):
            return citation(hit, span, marker=hit.rank, sentence=place, added=True)
    return None


def citation(hit: Hit, span: Span, *, marker: int, sentence: int, added: bool = False) -> Citation:
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
        cosine=None if span.cosine is None else round(span.cosine, 4),
        entailment=None if span.entailment is None else round(span.entailment, 4),
        added=added,
    )
