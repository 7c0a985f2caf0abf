"""Answers for a person to read: the worst twenty, and twenty with citations, drawn with a fixed seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from citewell.evaluate.conditions import RAG
from citewell.evaluate.questions import AnswerQuestion, QuestionSet
from citewell.records import Answer, Citation

if TYPE_CHECKING:
    from citewell.evaluate.answers import Scored

SHOWN = 20
_SEED = 20_261_125
# Characters of the passage that are shown on either side of a quotation.
_AROUND = 240


def worst(questions: QuestionSet, scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """The questions that went worst, with every cell's answer; of equals, wrong answers before refusals.

    Judged by the cells with retrieval where there are any: they are what users get.
    """
    judged = [one for one in scored if one.cell.condition == RAG] or list(scored)
    places = [place for place in range(len(questions.questions)) if any(one.scores[place] for one in judged)]
    places.sort(key=lambda place: (_worth(questions.questions[place], judged, place), _silent(judged, place), place))
    return [_told(questions.questions[place], scored, place) for place in places[:SHOWN]]


def sample(questions: QuestionSet, scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """Questions whose answer, by the first cell that cites, has citations to judge."""
    for one in sorted(scored, key=lambda one: one.cell.condition != RAG):
        cited = [place for place, answer in enumerate(one.answers) if answer and answer.citations]
        if cited:
            drawn = sorted(random.Random(_SEED).sample(cited, min(SHOWN, len(cited))))  # noqa: S311 - no secret
            return [_told(questions.questions[place], [one], place) for place in drawn]
    return []


def _worth(question: AnswerQuestion, judged: Sequence[Scored], place: int) -> float:
    """From 0, all wrong, to 2: F1 and whether a reference stands in the answer, or whether it rightly refuses."""
    worths = []
    for one in judged:
        score = one.scores[place]
        if score is None:
            continue
        if not question.answerable:
            worths.append(2 * score.values["right refusals"])
        elif question.answers:
            worths.append(score.values["F1"] + score.values["holds"])
        else:
            worths.append(2 * score.values["citation recall"])
    return sum(worths) / len(worths)


def _silent(judged: Sequence[Scored], place: int) -> float:
    return sum(score.values["refused"] for one in judged if (score := one.scores[place]))


def _told(question: AnswerQuestion, scored: Sequence[Scored], place: int) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.text,
        "answers": list(question.answers),
        "relevant": list(question.relevant),
        "answerable": question.answerable,
        "given": [_given(one, answer, place) for one in scored if (answer := one.answers[place])],
    }


def _given(one: Scored, answer: Answer, place: int) -> dict[str, Any]:
    score = one.scores[place]
    values = score.values if score else {}
    return {
        "cell": str(one.cell),
        "id": answer.id,
        "state": answer.state.value,
        "error": answer.error.message if answer.error else "",
        "refused": answer.abstained,
        "text": answer.answer,
        "sentences": [
            {"text": answer.answer[one.start : one.end], "supported": one.supported} for one in answer.sentences
        ],
        "F1": round(values["F1"], 4) if values.get("F1") == values.get("F1") else None,
        "citations": [_cited(citation, answer) for citation in answer.citations],
        "read": [hit.passage.id for hit in answer.evidence.hits],
    }


def _cited(citation: Citation, answer: Answer) -> dict[str, Any]:
    """The quotation with what stands around it, as a person needs it to judge."""
    passages = {hit.passage.id: hit.passage.text for hit in answer.evidence.hits}
    text = passages.get(citation.passage_id, "")
    start, end = citation.passage_start, citation.passage_end
    return {
        "marker": citation.marker,
        "sentence": citation.sentence,
        "doc_id": citation.doc_id,
        "passage_id": citation.passage_id,
        "title": citation.title,
        "url": citation.url,
        "support": citation.support,
        "before": text[max(0, start - _AROUND) : start],
        "quote": citation.quote,
        "after": text[end : end + _AROUND],
    }
