"""Asking: a question becomes one job for each generator that is to answer it, stored and then queued."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from citewell.admission import Admission
from citewell.answers.moves import known
from citewell.cache import Cache
from citewell.callbacks import Postman
from citewell.config import Settings
from citewell.errors import BadInput, UnknownAnswer, UnknownGenerator
from citewell.ports import Answers, Generator, JobQueue
from citewell.quoting import create_fresh
from citewell.records import Answer, CacheMode, Job, JobMessage, Question, Terms
from citewell.retrieve import Retriever


@dataclass(frozen=True)
class Asking:
    """`generators` are those that questions may be for; `retriever` is asked for with each question."""

    settings: Settings
    store: Answers
    queue: JobQueue
    admission: Admission
    postman: Postman
    generators: Mapping[str, Generator]
    cache: Cache
    retriever: Callable[[], Retriever]

    def submit_each(self, question: Question, generators: Sequence[str], terms: Terms) -> list[Answer]:
        """One question to several generators, with the same evidence; a record each, in their order.

        "" is the setting `generator`.
        """
        names = [name or self.settings.generator for name in generators]
        for name in names:
            self._must_know(name)
        if not names or len(set(names)) < len(names):
            raise BadInput("each generator can be asked once, and one at least", remedy="Name different ones.")
        if terms.callback_url:
            self.postman.check(terms.callback_url)
        request, ids = terms.request(question, tuple(generators)), [terms.answer_id(n) for n in range(len(names))]
        found = [self._known(answer_id, request) if request else None for answer_id in ids]
        if None not in found:
            return [answer for answer in found if answer is not None]
        for name in names:
            self.admission.admit(name, terms.priority)
        retriever = self.retriever()
        question = retriever.check(question)

        def make() -> list[Job]:
            job = Job(
                answer_id="",
                evidence=retriever.gather(question),
                question=question,
                max_attempts=self.settings.max_attempts,
                created_at=time.time(),
                request=request,
                expires_in=terms.expires_in,
                priority=terms.priority,
                callback_url=terms.callback_url,
            )
            each = zip(ids, names, strict=True)
            return [job.model_copy(update={"answer_id": one, "generator": name}) for one, name in each]

        return self._create(make, terms.cache)

    def replay(self, answer_id: str, *, recorded: bool = False, groups: tuple[str, ...] | None = None) -> Answer:
        """Ask an answer's question again, with the index as it is now, or on the evidence of then; a new record.

        `groups` None leaves the question's as they are. `citewell.compare` says why the new answer differs. Raises
        `UnknownAnswer`, and `UnknownGenerator` when what wrote it is not there any more.
        """
        found = self.store.get(answer_id)
        question = found.question if groups is None else found.question.model_copy(update={"groups": groups})
        self._must_know(found.generator)
        self.admission.admit(found.generator, found.priority)

        def make() -> list[Job]:
            if recorded:  # read again: it has gone when one of its documents has
                evidence = self.store.get(answer_id).evidence.model_copy(update={"timings_ms": {}})
            else:
                evidence = self.retriever().gather(question)
            job = Job(
                answer_id=uuid.uuid4().hex,
                evidence=evidence,
                question=question,
                generator=found.generator,
                max_attempts=self.settings.max_attempts,
                created_at=time.time(),
                priority=found.priority,
                replay_of=found.id,
            )
            return [job]

        return self._create(make, "none")[0]

    def _must_know(self, generator: str) -> None:
        if generator not in self.generators:
            names = ", ".join(sorted(self.generators))
            raise UnknownGenerator(f"there is no generator `{generator}`", remedy=f"Choose one of: {names}.")

    def _create(self, make: Callable[[], list[Job]], cache: CacheMode | None) -> list[Answer]:
        answers = []
        for job, answer in create_fresh(self.store, make):
            given = None
            # Of requests that come at once with one key the first is created; two of the same microsecond would both
            # be queued, which the lease makes harmless.
            if answer.created_at == job.created_at:
                given = self.cache.serve(job, self.generators[job.generator].describe(), cache)
                if given is None:
                    message = JobMessage(answer_id=job.answer_id, generator=job.generator, priority=job.priority)
                    self.queue.submit(message)
            answers.append(given or answer)
        return answers

    def _known(self, answer_id: str, request: str) -> Answer | None:
        """The answer of an earlier request with the same key, before anything is retrieved for it."""
        try:
            return known(self.store.get(answer_id), request)
        except UnknownAnswer:
            return None
