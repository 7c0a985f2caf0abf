"""What people say of answers: taken in, and counted by generator and time."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

from citewell.errors import BadInput, Conflict, UnknownDocument
from citewell.ports import Answers
from citewell.records import (
    Answer,
    AnswerState,
    CitedSpan,
    Feedback,
    LedgerEntry,
    Opinion,
    Tokens,
    text_hash,
)
from citewell.split import estimated_tokens

# From this rating on an answer counts as a good one.
GOOD = 4
MAX_COMMENT = 10_000
MAX_PASSAGES = 50
Period = Literal["day", "week", "month", "all"]
PERIODS: tuple[Period, ...] = get_args(Period)


class FeedbackDesk:
    """Takes judgements of answers that are done. Safe to share between threads."""

    def __init__(
        self, store: Answers, document: Callable[[str], LedgerEntry], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._document = document
        self._clock = clock

    def give(
        self,
        answer_id: str,
        opinion: Opinion,
        caller: str = "",
        document: Callable[[str], LedgerEntry] | None = None,
    ) -> tuple[Feedback, bool]:
        """Keep it, in the place of what this caller said before; False with it where there was such.

        `document` looks documents up as the caller may see them. Raises `UnknownAnswer`, `Conflict` while the answer
        is not done, and `BadInput` for passages that there are not.
        """
        _check_size(opinion)
        answer = self._store.get(answer_id)
        if answer.state is not AnswerState.DONE:
            raise Conflict(
                f"answer {answer_id} is {answer.state.value} and cannot be judged",
                remedy="Wait until it is done."
                if not answer.state.final
                else "Ask again: only an answer that is done has something to judge.",
            )
        self._check_passages(answer, opinion.correct_passages, document or self._document)
        feedback = _judged(answer, opinion, caller, self._clock())
        return feedback, self._store.feedback().give(feedback)

    def given(self, since: float = 0.0) -> Iterable[Feedback]:
        """All that was given at `since` or later and is kept, oldest first."""
        return self._store.feedback().given(since)

    def _check_passages(
        self, answer: Answer, passages: tuple[str, ...], document: Callable[[str], LedgerEntry]
    ) -> None:
        """One of the evidence, or `DOC#N` of a document that the caller may see."""
        seen = {hit.passage.id for hit in answer.evidence.hits}
        unknown = [one for one in passages if one not in seen and not _stands_in(one, document)]
        if unknown:
            raise BadInput(
                f"`correct_passages`: there is no passage {', '.join(f'`{one}`' for one in unknown[:5])}",
                remedy="Send ids as evidence and searches have them, DOC#N, of documents that are loaded.",
            )


def _check_size(opinion: Opinion) -> None:
    if len(opinion.comment) > MAX_COMMENT:
        raise BadInput(
            f"the comment has {len(opinion.comment):,} characters", remedy=f"Send at most {MAX_COMMENT:,} of them."
        )
    if len(opinion.correct_passages) > MAX_PASSAGES:
        raise BadInput(
            f"`correct_passages` names {len(opinion.correct_passages)} passages",
            remedy=f"Name at most {MAX_PASSAGES}: those that answer the question best.",
        )


def _stands_in(passage_id: str, document: Callable[[str], LedgerEntry]) -> bool:
    doc_id, mark, ordinal = passage_id.rpartition("#")
    if not mark or not (ordinal.isascii() and ordinal.isdigit()):
        return False
    try:
        return int(ordinal) < document(doc_id).passages
    except UnknownDocument:
        return False


def _judged(answer: Answer, opinion: Opinion, caller: str, now: float) -> Feedback:
    spans = (
        CitedSpan(
            doc_id=one.doc_id, passage_id=one.passage_id, start=one.start, end=one.end, quote_hash=text_hash(one.quote)
        )
        for one in answer.citations
    )
    tokens = answer.tokens or Tokens(
        read=sum(estimated_tokens(hit.passage.text, hit.passage.lang) for hit in answer.evidence.hits),
        written=estimated_tokens(answer.answer, answer.question.lang),
    )
    return Feedback(
        rating=opinion.rating,
        comment=opinion.comment,
        correct_passages=tuple(dict.fromkeys(opinion.correct_passages)),
        answer_id=answer.id,
        caller=caller,
        given_at=now,
        question=answer.question,
        generator=answer.generator,
        model=answer.provenance.model,
        revision=answer.provenance.revision,
        abstained=answer.abstained,
        cited=tuple(dict.fromkeys(spans)),
        evidence=answer.provenance.passages,
        asked_at=answer.created_at,
        answer_ms=max(0.0, answer.finished_at - answer.created_at) * 1000,
        tokens_read=tokens.read,
        tokens_written=tokens.written,
    )


@dataclass(frozen=True)
class Figures:
    """Of the judged answers of one generator that were asked in one period, which begins at `start` (ISO date, UTC).

    `good` and `abstained` are shares; times are milliseconds from the question to the answer's end; tokens are means,
    as the model counted them, or as estimated where it did not.
    """

    generator: str
    start: str
    judged: int
    rating: float
    good: float
    abstained: float
    p50_ms: float
    p95_ms: float
    tokens_read: float
    tokens_written: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def figures(feedback: Iterable[Feedback], by: Period = "day") -> list[Figures]:
    """By generator and period, in this order. An answer that several callers judged counts once for each."""
    rows: dict[tuple[str, str], list[Feedback]] = defaultdict(list)
    for one in feedback:
        rows[one.generator, _start(one.asked_at, by)].append(one)
    return [_figures(generator, start, some) for (generator, start), some in sorted(rows.items())]


def _figures(generator: str, start: str, some: list[Feedback]) -> Figures:
    times = sorted(one.answer_ms for one in some)
    return Figures(
        generator=generator,
        start=start,
        judged=len(some),
        rating=round(statistics.fmean(one.rating for one in some), 2),
        good=round(statistics.fmean(one.rating >= GOOD for one in some), 3),
        abstained=round(statistics.fmean(one.abstained for one in some), 3),
        p50_ms=round(_quantile(times, 0.5), 1),
        p95_ms=round(_quantile(times, 0.95), 1),
        tokens_read=round(statistics.fmean(one.tokens_read for one in some), 1),
        tokens_written=round(statistics.fmean(one.tokens_written for one in some), 1),
    )


def _quantile(ordered: list[float], share: float) -> float:
    """The least value that this share of all does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _start(at: float, by: Period) -> str:
    if by == "all":
        return ""
    day = datetime.fromtimestamp(at, UTC).date()
    if by == "week":
        day -= timedelta(days=day.weekday())
    if by == "month":
        day = day.replace(day=1)
    return day.isoformat()
