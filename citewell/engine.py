"""The product on one screen: what can be asked of it, and which classes do it.

`build(settings, role)` puts the `parts` of the configured stack together; `Engine` does not know which one it runs on.

Roles: `all` does everything in one process (the embedded stack); of the served stack, `api` retrieves and queues,
`worker` answers (it needs the answer store alone, because a job carries its evidence), `ingest` loads documents.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import structlog

from citewell import __version__, parts
from citewell.admission import Admission
from citewell.asking import Asking
from citewell.cache import Cache
from citewell.callbacks import Postman
from citewell.catalogue import standing
from citewell.choosing import settled
from citewell.citing import Citing
from citewell.config import Settings
from citewell.conversation import History
from citewell.errors import (
    CitewellError,
    ConfigError,
    FingerprintMismatch,
    MissingDependency,
    Unavailable,
    UnknownDocument,
)
from citewell.evidence import Bounds
from citewell.feedback import FeedbackDesk
from citewell.fuse import Fusion
from citewell.ingest.load import Loading, load_sources, opened, preview_sources
from citewell.ingest.sources import Item, Source, Tell
from citewell.language import ASKED
from citewell.library import Library, fingerprint_of, must_fit
from citewell.ports import Answers, Embedder, Generator, Index, JobQueue, Legs, Reranker
from citewell.quoting import Quoting
from citewell.records import (
    Answer,
    Event,
    Evidence,
    Fingerprint,
    JobMessage,
    LedgerEntry,
    Opinion,
    Outcome,
    Question,
    Terms,
)
from citewell.retrieve import Plan, Reranking, Retriever
from citewell.run import Runner, RunResult

Sources = Sequence[Source | str]
Role = Literal["all", "api", "worker", "ingest"]
_LOADING = Loading()
_TERMS = Terms()
# A running answer may end by itself for this long; then it is queued again for the next process.
_CLOSE_GRACE_S = 1.0


def _quiet(_: int) -> None:
    """Nobody watches how far the reading is."""


@dataclass(frozen=True)
class Models:
    """What of an engine computes: `reranker` None leaves the fused order, `citing` None asks the embedder alone."""

    embedder: Embedder
    generators: Mapping[str, Generator]
    reranker: Reranker | None = None
    citing: Citing | None = None


class Engine:
    """Everything that Citewell does, as plain methods. `load` before use, `close` after; usable as a context."""

    def __init__(
        self,
        settings: Settings,
        role: Role,
        *,
        models: Models,
        library: Library,
        store: Answers,
        make_queue: Callable[[Engine], JobQueue],
    ) -> None:
        self.settings = settings
        self.role = role
        self.embedder = models.embedder
        self.reranker = models.reranker
        self.store = store
        self.generators = models.generators
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.citing = models.citing or Citing(models.embedder, None, settings)
        self.runner = Runner(store, models.generators, self.citing, owner=owner, lease_seconds=settings.lease_seconds)
        self.cache = Cache(store, models.embedder, self.citing, settings, owner)
        self.queue = make_queue(self)
        self.postman = Postman(store, settings)
        self.admission = Admission(store, self.queue, settings.max_wait)
        self.asking = Asking(
            settings, store, self.queue, self.admission, self.postman, models.generators, self.cache, self._retriever
        )
        self.library = library
        self.feedback = FeedbackDesk(store, self.document)

    # Life

    def load(self) -> Engine:
        """Load what the role needs.

        A service starts although a server of its is down, says so in `check`, and finds it at a later use. Every other
        role raises, and so does what does not fit together: a generator's model, the embedder's vectors, an index that
        was made with another embedder. All of that is told at once.
        """
        self.embedder.load()
        if self.reranker is not None and self.role != "worker":
            self.reranker.load()
        fit: list[Callable[[], object]] = [generator.load for generator in self._first_generators()]
        if self.role in ("all", "worker"):
            fit.append(self.citing.load)
        if self.role != "worker":
            fit += [lambda: must_fit(self.embedder), self._use_index]
        unfit = [error for load in fit if (error := self._started(load))]
        if len(unfit) == 1:
            raise unfit[0]
        if unfit:
            remedies = dict.fromkeys(error.remedy for error in unfit)
            raise ConfigError("; ".join(error.message for error in unfit), remedy=" ".join(remedies))
        if self.role != "ingest":
            for load in (self.store.load, self.queue.load):
                if error := self._started(load):
                    raise error
        return self

    def _started(self, load: Callable[[], object]) -> CitewellError | None:
        """What does not fit together, for the caller to raise with all else of that kind."""
        try:
            load()
        except (ConfigError, FingerprintMismatch, MissingDependency) as error:
            return error
        except Unavailable as error:
            if self.role != "api":
                raise
            structlog.get_logger(__name__).warning("backend_down", reason=error.message, remedy=error.remedy)
        return None

    def close(self) -> None:
        """Let go of everything; answers that are being written are finished or given back first."""
        # First the work, then those who do it: the queue waits for its threads, which may be in a long answer.
        self.runner.stop(_CLOSE_GRACE_S)
        self.queue.close()
        for generator in self.generators.values():
            generator.close()
        self.citing.close()
        self.library.close()
        self.store.close()
        if self.reranker is not None:
            self.reranker.close()
        self.embedder.close()

    def __enter__(self) -> Engine:
        return self.load()

    def __exit__(self, *_: object) -> None:
        self.close()

    # Documents

    def ingest(self, sources: Sources, plan: Loading = _LOADING, tell: Tell = _quiet) -> Iterator[Outcome]:
        """Load sources, one outcome a document as it happens; with `plan.sync`, delete what they no longer have."""
        plan.check(self.settings)
        self._use_index()
        found = opened(sources, self.settings)
        if not plan.distributed:
            return load_sources(self.library, found, plan, tell)
        shelf = parts.spread(self.settings, self.library, [source.name for source in found], plan.note)
        return load_sources(shelf, found, plan, tell)

    def preview(self, sources: Sources, plan: Loading = _LOADING, tell: Tell = _quiet) -> Iterator[Outcome]:
        """What `ingest` would do. Needs no `load`: it writes nothing and embeds nothing."""
        with self.library.looking() as index:
            yield from preview_sources(index, opened(sources, self.settings), plan, tell)

    def put(self, items: Iterable[Item], source: str = "api") -> Iterator[Outcome]:
        """Load documents; what is unchanged costs a look at the ledger."""
        self._use_index()
        return self.library.put(items, source)

    def document(self, doc_id: str) -> LedgerEntry:
        """A document as it was loaded, with what the ledger knows of it; raises `UnknownDocument`."""
        entry = self._use_index().ledger([doc_id], with_document=True).get(doc_id)
        if entry is None:
            raise UnknownDocument(f"there is no document `{doc_id}`")
        return entry

    def delete(self, doc_ids: Sequence[str]) -> list[Outcome]:
        """Remove documents; when this returns, no search finds them. An unknown id is a failed outcome."""
        self._use_index()
        return self.library.delete(doc_ids)

    # Questions

    def search(self, question: Question) -> Evidence:
        """The passages that fit a question best, with both legs' ranks and scores."""
        return self._retriever().search(question)

    def legs(self, question: Question, depth: int) -> tuple[Question, Legs, dict[str, float]]:
        """Both legs as they are, for measuring and tuning: the checked question, its legs, milliseconds by step."""
        retriever = self._retriever()
        question = retriever.check(question)
        return question, *retriever.legs(question, Plan(Fusion(), depth))

    def submit(self, question: Question, generator: str = "", terms: Terms = _TERMS) -> Answer:
        """Retrieve now, answer later: the record is `queued`, and safe once this returns.

        With an idempotency key a request that comes again gets the record of the first, and nothing else happens.
        Raises `KeyReused`, and `Overloaded` when it would wait for longer than `max_wait`.
        """
        return self.submit_each(question, (generator,), terms)[0]

    def submit_each(self, question: Question, generators: Sequence[str], terms: Terms = _TERMS) -> list[Answer]:
        """One question to several generators, with the same evidence; a record each, in their order."""
        return self.asking.submit_each(question, generators, terms)

    def replay(self, answer_id: str, *, recorded: bool = False, groups: tuple[str, ...] | None = None) -> Answer:
        """Ask an answer's question again, with the index as it is now, or on the evidence of then; a new record.

        `groups` None leaves the question's as they are. `citewell.compare` says why the new answer differs. Raises
        `UnknownAnswer`, and `UnknownGenerator` when what wrote it is not there any more.
        """
        return self.asking.replay(answer_id, recorded=recorded, groups=groups)

    def ask(self, question: Question, generator: str = "", wait_s: float = 60.0, terms: Terms = _TERMS) -> Answer:
        """`submit`, then wait for the final record, or for the record as it is after `wait_s` seconds."""
        return self.answer(self.submit(question, generator, terms).id, wait_s)

    def answer(self, answer_id: str, wait_s: float = 0.0) -> Answer:
        """The record, with its place in the line while it is queued; waits up to `wait_s` seconds for a final state.

        Raises `UnknownAnswer`.
        """
        deadline = time.monotonic() + wait_s
        seen = ""
        answer = self.store.get(answer_id)
        while not answer.state.final and (left := deadline - time.monotonic()) > 0:
            events = self.store.events(answer_id, seen, left)
            seen = events[-1].id if events else seen
            if not events or events[-1].kind == "final":
                answer = self.store.get(answer_id)
        return self.admission.placed(answer)

    def events(self, answer_id: str, after: str = "", wait_s: float = 0.0) -> list[Event]:
        """Events of an answer later than the id `after`; waits up to `wait_s` seconds for the first."""
        return self.store.events(answer_id, after, wait_s)

    def cancel(self, answer_id: str) -> Answer:
        """Stop an answer that is not final; the record either way."""
        return self.store.cancel(answer_id)

    def rate(self, answer_id: str, opinion: Opinion) -> dict[str, Any]:
        """Judge an answer; what was said before is replaced. Raises as `FeedbackDesk.give`."""
        return self.feedback.give(answer_id, opinion)[0].told()

    def run(self, message: JobMessage) -> RunResult:
        """A worker's part: lease, generate, cite, finish."""
        return self.runner.run(message)

    def post(self) -> int:
        """Post the final records that are due to their callbacks; says how many were tried."""
        return self.postman.post_due()

    # State

    def info(self) -> dict[str, Any]:
        """Versions, counts and fingerprints of what works now."""
        more = {} if self.role == "ingest" else {"cache": _checked(self.cache.info)}
        if "extractive" in self.generators:
            more["extractive"] = _checked(self.generators["extractive"].info)
        return {
            "version": __version__,
            "stack": self.settings.stack,
            "generators": sorted(self.generators),
            "retrieval": self._describe_retrieval(),
            **self.check(),
            **more,
        }

    def _describe_retrieval(self) -> dict[str, Any]:
        plans = {lang: self.plan(lang) for lang in ASKED}
        return {
            "k": self.settings.k,
            "languages": {lang: {**plan.fusion.describe(), "depth": plan.depth} for lang, plan in plans.items()},
        }

    def catalogue(self) -> list[dict[str, Any]]:
        """Every generator by name: what it is, its live workers (elsewhere: some seconds ago), what waits and runs."""
        own = {"state": "ready", "generators": list(self.runner.generators), "running": self.runner.running()}
        workers = self.queue.info().get("workers", [own])
        rows = standing({name: self.settings.catalogue().get(name) for name in sorted(self.generators)}, workers)
        default = self.settings.generator
        return [row | {"default": row["name"] == default, "waiting": self.queue.depth(row["name"])} for row in rows]

    def check(self) -> dict[str, dict[str, Any]]:
        """Every backend of the role with `ok` and its own information, or the reason and remedy why it is not."""
        looks: dict[str, Callable[[], dict[str, Any]]] = {"embedder": self.embedder.info}
        if self.reranker is not None:
            looks["reranker"] = self.reranker.info
        if self.role != "worker":
            looks["index"] = lambda: self._use_index().info()
        if self.role != "ingest":
            looks |= {"answers": self.store.info, "queue": self.queue.info}
        return {name: _checked(look) for name, look in looks.items()}

    def fingerprint(self) -> Fingerprint:
        """What an index must have been made with to be opened by this engine."""
        return fingerprint_of(self.settings, self.embedder.describe())

    # Parts

    def _use_index(self) -> Index:
        if self.role == "worker":
            raise ConfigError("a worker has no index", remedy="Ask the service, which retrieves.")
        return self.library.index()

    def _retriever(self) -> Retriever:
        settings = self.settings
        reranking = None
        if self.reranker is not None:
            reranking = Reranking(self.reranker, settings.rerank_depth, settings.rerank_budget_ms / 1e3)
        return Retriever(
            self._use_index(),
            self.embedder,
            plan=self.plan,
            question_limit=settings.question_limit,
            bounds=Bounds(settings.evidence_tokens, settings.evidence_per_document),
            reranking=reranking,
            history=History(settings.conversation_turns, settings.conversation_tokens),
        )

    def plan(self, lang: str) -> Plan:
        """How questions in a language are searched."""
        return Plan.of(self.settings, self.embedder.describe(), lang)

    def _first_generators(self) -> list[Generator]:
        """Those to load at the start: all of a worker's; in one process the default, others when they are asked."""
        if self.role not in ("all", "worker"):
            return []
        default = self.settings.generator
        if default not in self.settings.catalogue() and default not in self.generators:
            raise ConfigError(
                f"setting `generator`: there is no generator `{default}`",
                remedy=f"Choose one of: {', '.join(sorted(self.generators))}.",
            )
        if self.role == "all" and default in self.generators:
            return [self.generators[default]]
        return list(self.generators.values())


def _checked(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ok": True, **look()}
    except CitewellError as error:
        return {"ok": False, **error.to_json()["error"]}


def build(
    settings: Settings, role: Role = "all", *, version: str = "", generators: Sequence[str] = (), sources: Sources = ()
) -> Engine:
    """An engine of the configured stack, not yet loaded, on the index version that fits or on a named one.

    `generators` are those of the catalogue that it has and runs; all when none is named. `sources` are what will be
    loaded: an embedder of `auto` is chosen by them where there is no document yet (`citewell.choosing`). On the
    embedded stack every role but `ingest` is `all`.
    """
    settings = settled(settings, opened(sources, settings))
    model = parts.embedder(settings)
    cached, citing = parts.cached(settings, model), parts.citing(settings, model)
    known, store = parts.generators(settings, model, generators), parts.answers(settings)
    library = Library(settings, cached, parts.access(settings), version, Quoting(store))
    return Engine(
        settings,
        role if settings.stack == "served" or role == "ingest" else "all",
        models=Models(cached, known, parts.reranker(settings) if role != "worker" else None, citing),
        library=library,
        store=store,
        make_queue=lambda engine: parts.queue(settings, engine.run, store, tuple(known), engine.post),
    )
