"""Figures of one answer to one question: overlap with the references, citations, refusals, time and tokens. Pure.

What has no meaning for a question is NaN: overlap without references, the precision of citations that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from citewell.evaluate import bleu
from citewell.evaluate.conditions import covers
from citewell.evaluate.measures import Values
from citewell.evaluate.overlap import exact_match, f1, holds
from citewell.evaluate.questions import AnswerQuestion
from citewell.evaluate.rouge import NAMES as ROUGE
from citewell.evaluate.rouge import rouge
from citewell.records import Answer, Tokens
from citewell.split import estimated_tokens

OVERLAP = ("EM", "F1", "holds", *ROUGE, "chrF")
CITATIONS = ("citation precision", "citation recall", "supported", "evidence recall")
REFUSALS = ("refused", "wrong refusals", "right refusals")
MEASURES = (*OVERLAP, *CITATIONS, *REFUSALS)
_MS = ("retrieve", "build", "generate", "cite")
_NONE = math.nan


@dataclass(frozen=True)
class Score:
    """`values` by measure, `counts` what the answer adds to BLEU, `ms` its own time.

    Tokens `read` and `written` are as the model `counted` them, else estimates of the evidence and of the answer.
    """

    values: dict[str, float]
    counts: Values | None
    ms: float
    read: int
    written: int
    counted: bool


def score(question: AnswerQuestion, answer: Answer) -> Score:
    """An answer that failed says nothing: its overlap is 0, and it is no refusal."""
    text, short, lang = said(answer), in_short(answer), language(question, answer)
    values = dict.fromkeys(MEASURES, _NONE)
    counts = None
    if question.answers and question.answerable:
        values |= {
            "EM": exact_match(short, question.answers, lang),
            "F1": f1(short, question.answers, lang),
            "holds": holds(text, question.answers, lang),
            "chrF": bleu.chrf(text, question.answers),
        }
        values |= rouge(text, question.answers, lang)
        counts = bleu.counts(text, question.answers, lang)
    refused = float(answer.state == "done" and answer.abstained)
    values["refused"] = refused
    values["wrong refusals" if question.answerable else "right refusals"] = refused
    values |= _of_citations(question, answer)
    tokens = answer.tokens or Tokens(
        read=sum(estimated_tokens(hit.passage.text, hit.passage.lang) for hit in answer.evidence.hits),
        written=estimated_tokens(text, lang) if text else 0,
    )
    took = sum(answer.timings_ms.get(name, 0.0) for name in _MS)
    return Score(values, counts, took, tokens.read, tokens.written, counted=answer.tokens is not None)


def said(answer: Answer) -> str:
    """The answer's words without markers; "" for a refusal or a failure."""
    if answer.state != "done" or answer.abstained:
        return ""
    return " ".join(sentence.text for sentence in answer.sentences) or answer.answer


def in_short(answer: Answer) -> str:
    """The words that the generator names as the answer, the best ones alone; all its words where it names none."""
    return answer.exact[0].text if answer.exact else said(answer)


def language(question: AnswerQuestion, answer: Answer) -> str:
    return answer.question.lang or question.lang


def _of_citations(question: AnswerQuestion, answer: Answer) -> dict[str, float]:
    found: dict[str, float] = {}
    if answer.state == "done" and not answer.abstained and answer.sentences:
        found["supported"] = sum(one.supported for one in answer.sentences) / len(answer.sentences)
    if not question.relevant:
        return found
    cited = list(dict.fromkeys((one.doc_id, one.passage_id) for one in answer.citations))
    read = [(hit.passage.doc_id, hit.passage.id) for hit in answer.evidence.hits]
    if cited:
        right = [any(covers(gold, *passage) for gold in question.relevant) for passage in cited]
        found["citation precision"] = sum(right) / len(right)
    found["citation recall"] = _share(question.relevant, cited)
    if answer.evidence.mode != "none":
        found["evidence recall"] = _share(question.relevant, read)
    return found


def _share(relevant: Sequence[str], passages: Sequence[tuple[str, str]]) -> float:
    """How many of the relevant ids are there, of those that are asked for."""
    return sum(any(covers(gold, *passage) for passage in passages) for gold in relevant) / len(relevant)


def percentile(values: Sequence[float], share: float) -> float:
    return round(float(np.quantile(values, share)), 1) if values else 0.0
