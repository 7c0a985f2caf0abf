"""Conditions: what a generator is given for a question, so that one can see what retrieval and fine-tuning are worth.

rag             the product's retrieval
closed-book     nothing: the generator answers from what it knows
oracle          the relevant documents alone are searched, so that retrieval cannot go wrong
fine-tuned      the generator's fine-tuned partner, closed-book
fine-tuned+rag  the partner, with the product's retrieval
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from citewell.errors import BadInput
from citewell.evaluate.questions import AnswerQuestion
from citewell.records import Filters, Question

RAG, CLOSED_BOOK, ORACLE, FINE_TUNED, BOTH = CONDITIONS = (
    "rag",
    "closed-book",
    "oracle",
    "fine-tuned",
    "fine-tuned+rag",
)


@dataclass(frozen=True)
class Cell:
    """One generator under one condition; `asks` is who writes: the generator, or its fine-tuned partner."""

    generator: str
    condition: str
    asks: str

    def __str__(self) -> str:
        return f"{self.generator} {self.condition}"

    @property
    def searches(self) -> bool:
        return self.condition in (RAG, ORACLE, BOTH)

    def question(self, asked: AnswerQuestion, k: int) -> Question | None:
        """What to ask; None where the condition has no meaning for the question: nothing is known to be relevant."""
        if not self.searches:
            return Question(text=asked.text, lang=asked.lang, k=k, mode="none")
        if self.condition != ORACLE:
            return Question(text=asked.text, lang=asked.lang, k=k)
        ids = documents(asked.relevant or (() if asked.answerable else asked.near))
        if not ids:
            return None
        return Question(text=asked.text, lang=asked.lang, k=max(k, len(ids)), filters=Filters(doc_id=ids))


def cells(generators: Sequence[str], conditions: Sequence[str], fine_tuned: Mapping[str, str]) -> list[Cell]:
    """Every generator under every condition; one without a fine-tuned partner has no cell for that.

    Raises `BadInput` for an unknown condition, and where no generator has a partner for one that needs it.
    """
    if unknown := [name for name in conditions if name not in CONDITIONS]:
        raise BadInput(f"there is no condition `{unknown[0]}`", remedy=f"Conditions: {', '.join(CONDITIONS)}.")
    if not generators or not conditions:
        raise BadInput("name one generator and one condition at least", remedy=f"Conditions: {', '.join(CONDITIONS)}.")
    if strangers := [name for name in fine_tuned if name not in generators]:
        raise BadInput(f"`{strangers[0]}` has a fine-tuned partner, but is not among the generators")
    tuned = [name for name in conditions if name in (FINE_TUNED, BOTH)]
    if tuned and not fine_tuned:
        raise BadInput(
            f"condition `{tuned[0]}` needs to know which generator is the fine-tuned one",
            remedy="Say so with --fine-tuned NAME=TUNED, where TUNED is a generator of the catalogue.",
        )
    return [
        Cell(generator, condition, fine_tuned[generator] if condition in tuned else generator)
        for generator in dict.fromkeys(generators)
        for condition in dict.fromkeys(conditions)
        if condition not in tuned or generator in fine_tuned
    ]


def documents(ids: Sequence[str]) -> tuple[str, ...]:
    """The document ids among ids of documents and passages.

    `a#3` may be the fourth passage of `a` or a document of that name: both are let through.
    """
    return tuple(dict.fromkeys(name for one in ids for name in (one, _document(one))))


def covers(gold: str, doc_id: str, passage_id: str) -> bool:
    """Whether a passage is what a judgement means: its document, itself, or one of those that were joined into it."""
    if gold in (doc_id, passage_id):
        return True
    document, mark, ordinal = gold.rpartition("#")
    first, _, last = passage_id.rpartition("#")[2].partition("-")
    if not mark or document != doc_id or not (ordinal.isdigit() and first.isdigit()):
        return False
    return int(first) <= int(ordinal) <= int(last or first)


def _document(name: str) -> str:
    document, _, ordinal = name.rpartition("#")
    return document if document and ordinal.isdigit() else name
