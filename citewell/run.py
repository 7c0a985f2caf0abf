"""What a worker does with one message: lease, generate, cite, finish.

The lease is renewed beside the work. A worker that loses it (cancelled, or taken over after a lapse) stops at the
generator's next step and writes nothing more; the store refuses it anyway.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import structlog

from citewell import metrics
from citewell.cite import with_exact
from citewell.errors import CitewellError, GenerationFailed, LeaseLost, StoreUnavailable, UnknownGenerator
from citewell.leasing import Renewal, patiently
from citewell.ports import Generator, GeneratorCard, Leases
from citewell.records import Answer, Draft, Evidence, Failure, Job, JobMessage, Lease, Piece, Provenance

log = structlog.get_logger("citewell.run")

Cite = Callable[[str, Evidence, str], Draft]
Result = TypeVar("Result")

# Pieces that come closer together than this are stored as one; the first one goes out at once.
_GAP_S = 0.04
# A store that is away for longer than this, or than three leases, is given up: another attempt follows.
_PATIENCE_S = 15.0
_LONGEST_REASON = 500


@dataclass(frozen=True)
class RunResult:
    """What became of a message.

    `done`: the answer reached a final state here, and is in `answer`. `busy`: somebody else works on it, for
    `retry_after_s` at least. `dropped`: nothing was left to do. `lost`: the answer was cancelled, taken over or given
    back, or the store stayed away; whatever is still to be done will be offered again by the store's `due`.
    """

    status: Literal["done", "busy", "dropped", "lost"]
    answer: Answer | None = None
    retry_after_s: float = 0.0


class Runner:
    """Runs messages, one a call, from any number of threads.

    `owner` names this process in leases; `lease_seconds` is the time after which a dead worker's answer is taken over.
    """

    def __init__(
        self,
        leases: Leases,
        generators: Mapping[str, Generator],
        cite: Cite,
        *,
        owner: str,
        lease_seconds: float,
    ) -> None:
        self._leases = leases
        self._generators = dict(generators)
        self._cite = cite
        self._owner = owner
        self._seconds = lease_seconds
        self._patience = max(_PATIENCE_S, 3 * lease_seconds)
        self._give_up = threading.Event()
        self._running: Counter[str] = Counter()
        self._idle = threading.Condition()

    @property
    def generators(self) -> tuple[str, ...]:
        """Names of the generators that this runner can run."""
        return tuple(self._generators)

    def running(self) -> dict[str, int]:
        """How many messages each generator is at work on."""
        with self._idle:
            return {name: self._running[name] for name in self._generators}

    def run(self, message: JobMessage) -> RunResult:
        """Bring one answer to a final state, or find out why not; raises `StoreUnavailable` when it cannot lease."""
        with self._counted(message.generator):
            if self._give_up.is_set():
                return RunResult("busy")
            grant = self._patiently(lambda: self._leases.lease(message.answer_id, self._owner, self._seconds))
            if grant.lease is None:
                status: Literal["busy", "dropped"] = "busy" if grant.status == "busy" else "dropped"
                log.info("message_set_aside", answer=message.answer_id, status=status)
                return RunResult(status, retry_after_s=grant.retry_after_s)
            return self._attempt(grant.lease)

    def stop(self, grace_s: float = 0.0, wait_s: float = 5.0) -> bool:
        """Let running answers finish for `grace_s` seconds, then have the rest given back to the queue.

        Waits up to `wait_s` more for that and says whether all work has ended. Nothing is leased afterwards.
        """
        with self._idle:
            done = self._idle.wait_for(lambda: not self._running.total(), grace_s)
        self._give_up.set()
        if done:
            return True
        with self._idle:
            return self._idle.wait_for(lambda: not self._running.total(), wait_s)

    def _attempt(self, lease: Lease) -> RunResult:
        logged = log.bind(answer=lease.answer_id, attempt=lease.attempt)
        logged.info("answer_leased", generator=lease.job.generator)
        beat = Renewal(
            lambda: self._leases.renew(lease, self._seconds),
            self._seconds,
            f"lease-{lease.answer_id}",
            answer=lease.answer_id,
        )
        with beat.going():
            try:
                result, timings = self._produce(lease, lambda: beat.lost.is_set() or self._give_up.is_set())
                answer = self._patiently(lambda: self._leases.finish(lease, result, timings))
            except _StoppedError:
                return self._let_go(lease, beat)
            except LeaseLost as error:
                logged.info("lease_lost", reason=error.message)
                return RunResult("lost")
            except StoreUnavailable as error:
                logged.error("answer_not_stored", reason=error.message)
                return RunResult("lost")
        metrics.written(answer.generator, answer.timings_ms)
        logged.info("answer_finished", state=answer.state.value, timings_ms=answer.timings_ms)
        return RunResult("done", answer)

    def _produce(self, lease: Lease, stopped: Callable[[], bool]) -> tuple[Draft | Failure, dict[str, float]]:
        """The answer or why there is none, with the time that each step took."""
        job, timings, stage = lease.job, dict[str, float](), "generate"
        started = time.perf_counter()
        try:
            whole = self._generate(lease, stopped)
            timings["generate"] = _ms_since(started)
            stage, started = "cite", time.perf_counter()
            draft = self._cite(whole.text, job.evidence, job.evidence.lang or job.question.lang)
            more = {"provenance": self._provenance(job), "tokens": whole.tokens}
            draft = with_exact(draft, whole.exact).model_copy(update=more)
            return draft, timings | {"cite": _ms_since(started)}
        except (_StoppedError, LeaseLost):
            raise
        except CitewellError as error:
            failure = Failure(code=error.code, message=error.message, remedy=error.remedy)
        except Exception as error:  # a generator may raise anything, and the asker must be told
            log.exception("answer_failed", answer=lease.answer_id, stage=stage)
            failure = _unforeseen(job, stage, error)
        return failure, timings | {stage: _ms_since(started)}

    def _generate(self, lease: Lease, stopped: Callable[[], bool]) -> Piece:
        """All pieces as one."""
        job = lease.job
        generator = self._generators.get(job.generator)
        if generator is None:
            known = ", ".join(sorted(self._generators)) or "none"
            raise UnknownGenerator(f"this worker has no generator {job.generator!r}; it has {known}")
        stream = _Stream(self._leases, lease)
        parts, complete, made = list[str](), False, list[Piece]()
        started = time.perf_counter()
        pieces = generator.generate([job], lambda _answer_id: stopped())
        try:
            for piece in pieces:
                if piece.text and not parts:
                    metrics.first_token(job.generator, time.perf_counter() - started)
                parts.append(piece.text)
                if piece.exact or piece.tokens:
                    made.append(piece)
                stream.add(piece.text)
                complete = complete or piece.last
                if stopped() and not complete:
                    break
        finally:
            _close(pieces)
        if not complete:
            if stopped():
                raise _StoppedError
            raise GenerationFailed(f"generator {job.generator} ended before the answer was complete")
        stream.flush()
        exact = tuple(words for piece in made for words in piece.exact)
        tokens = next((piece.tokens for piece in reversed(made) if piece.tokens), None)
        return Piece(answer_id=job.answer_id, text="".join(parts), exact=exact, last=True, tokens=tokens)

    def _provenance(self, job: Job) -> Provenance:
        own = Provenance.of(job.evidence)
        made = written_by(job, self._generators[job.generator].describe())
        return made.model_copy(update={"index_version": own.index_version, "passages": own.passages})

    def _let_go(self, lease: Lease, beat: Renewal) -> RunResult:
        """After a stop that was asked for: hand the lease back unless it is lost already."""
        if beat.lost.is_set():
            log.info("lease_lost", answer=lease.answer_id, attempt=lease.attempt)
            return RunResult("lost")
        try:
            self._leases.release(lease)
            log.info("answer_given_back", answer=lease.answer_id, attempt=lease.attempt)
        except CitewellError as error:
            # The lease then runs out by itself; there is no time left to try again.
            log.warning("answer_not_given_back", answer=lease.answer_id, reason=error.message)
        return RunResult("lost")

    def _patiently(self, call: Callable[[], Result]) -> Result:
        return patiently(call, StoreUnavailable, self._patience, pauses=(0.05, 2.0), stop=self._give_up)

    @contextmanager
    def _counted(self, generator: str) -> Iterator[None]:
        with self._idle:
            self._running[generator] += 1
        try:
            yield
        finally:
            with self._idle:
                self._running[generator] -= 1
                self._idle.notify_all()


def written_by(job: Job, card: GeneratorCard) -> Provenance:
    """What an answer's provenance says of its generator and prompt, without its evidence."""
    said = card.wordings.get(job.question.lang) or card.wordings.get("en", "")
    return Provenance(
        model=card.model,
        revision=card.revision,
        prompt=card.prompt,
        prompt_hash=said,
        sampling=card.sampling,
        seed=card.seed,
    )


class _StoppedError(Exception):
    """The generator was asked to stop, by a lost lease or by `Runner.stop`."""


class _Stream:
    """Stores pieces as they come: the first at once, then as many together as come within `_GAP_S`.

    What the store does not take is kept for the next time: the final event has the whole text anyway.
    """

    def __init__(self, leases: Leases, lease: Lease) -> None:
        self._leases = leases
        self._lease = lease
        self._kept: list[str] = []
        self._stored_at = float("-inf")

    def add(self, text: str) -> None:
        if text:
            self._kept.append(text)
            if time.monotonic() - self._stored_at >= _GAP_S:
                self.flush()

    def flush(self) -> None:
        if not self._kept:
            return
        try:
            self._leases.emit(self._lease, "".join(self._kept))
            self._kept.clear()
        except StoreUnavailable as error:
            log.warning("piece_not_stored", answer=self._lease.answer_id, reason=error.message)
        self._stored_at = time.monotonic()


def _close(pieces: Iterator[object]) -> None:
    """End a generator function now, so that it frees its place in a batch; other iterators have nothing to end."""
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _unforeseen(job: Job, stage: str, error: Exception) -> Failure:
    doing = f"generator {job.generator}" if stage == "generate" else "checking the citations"
    reason = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
    return Failure(
        code=GenerationFailed.code,
        message=f"{doing} failed with {reason}",
        remedy=GenerationFailed.default_remedy,
    )


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
