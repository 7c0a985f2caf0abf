"""The product as a caller of certain groups sees it.

Searches take the groups along, so that both legs rank what the caller may see and nothing else. An answer is there for
those who may see all of its evidence, whoever asked; a document for those of its groups. To anybody else they are as
unknown as what never was: the same error, without a wait that would tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from citewell.answers.moves import unknown
from citewell.engine import Engine
from citewell.errors import UnknownDocument
from citewell.records import Answer, Event, Evidence, Feedback, LedgerEntry, Opinion, Question, Terms


@dataclass(frozen=True)
class View:
    """One caller's, for one request: what was visible once is not looked at again. `groups` None sees everything."""

    engine: Engine
    groups: tuple[str, ...] | None
    _seen: set[str] = field(default_factory=set)

    def search(self, question: Question) -> Evidence:
        return self.engine.search(self._mine(question))

    def submit(self, question: Question, generator: str, terms: Terms) -> Answer:
        return self.engine.submit(self._mine(question), generator, terms)

    def submit_each(self, question: Question, generators: Sequence[str], terms: Terms) -> list[Answer]:
        return self.engine.submit_each(self._mine(question), generators, terms)

    def replay(self, answer_id: str, *, recorded: bool) -> Answer:
        """Asked again with the caller's groups; who sees everything keeps those that it was asked with."""
        self.must_see(answer_id)
        return self.engine.replay(answer_id, recorded=recorded, groups=self.groups)

    def answer(self, answer_id: str, wait_s: float = 0.0) -> Answer:
        self.must_see(answer_id)
        return self.engine.answer(answer_id, wait_s)

    def events(self, answer_id: str, after: str = "", wait_s: float = 0.0) -> list[Event]:
        self.must_see(answer_id)
        return self.engine.events(answer_id, after, wait_s)

    def cancel(self, answer_id: str) -> Answer:
        self.must_see(answer_id)
        return self.engine.cancel(answer_id)

    def rate(self, answer_id: str, opinion: Opinion, caller: str) -> tuple[Feedback, bool]:
        self.must_see(answer_id)
        return self.engine.feedback.give(answer_id, opinion, caller, self.document)

    def document(self, doc_id: str) -> LedgerEntry:
        entry = self.engine.document(doc_id)
        # Without its document an entry does not say who may see it.
        groups = entry.document.groups if entry.document else None
        if self.groups is None or (groups is not None and (not groups or set(groups) & set(self.groups))):
            return entry
        raise UnknownDocument(f"there is no document `{doc_id}`")

    def must_see(self, answer_id: str) -> None:
        """Raises `UnknownAnswer` when it is not there for this caller. Evidence never changes, so once will do."""
        if self.groups is None or answer_id in self._seen:
            return
        if not self.engine.store.get(answer_id).evidence.visible(self.groups):
            raise unknown(answer_id)
        self._seen.add(answer_id)

    def _mine(self, question: Question) -> Question:
        return question.model_copy(update={"groups": self.groups})
