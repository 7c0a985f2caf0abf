"""What this process counts and times, for Prometheus: `GET /metrics` of the service, `metrics_port` of workers.

Labels are names out of the settings and words out of this code, so that their number is bounded; none holds a question,
an id or a caller. docs/operations.md has the list. Counting costs microseconds and is done whether or not it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from citewell.records import Outcome

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

Step = TypeVar("Step", bound=str)

_QUICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

_MOVES = Counter(
    "citewell_answer_moves",
    "Answers that moved into a state, by generator; `queued` are those accepted or given back.",
    ["generator", "state"],
    registry=REGISTRY,
)
_QUEUED = Histogram(
    "citewell_queue_seconds",
    "From the acceptance of a question to the start of its answer.",
    ["generator"],
    buckets=_LONG_S,
    registry=REGISTRY,
)
_FIRST = Histogram(
    "citewell_first_token_seconds",
    "From the start of an answer to its first piece of text.",
    ["generator"],
    buckets=_LONG_S,
    registry=REGISTRY,
)
_WRITTEN = Histogram(
    "citewell_generate_seconds",
    "From the start of an answer to the end of its text.",
    ["generator"],
    buckets=_LONG_S,
    registry=REGISTRY,
)
_TOKENS = Counter(
    "citewell_tokens", "Tokens that models of this process have written.", ["generator"], registry=REGISTRY
)
_SEARCHED = Histogram(
    "citewell_retrieval_seconds",
    "Steps of retrieval; `bm25` and `dense` are the legs as the index times them, `legs` both with the way there.",
    ["step"],
    buckets=_QUICK_S,
    registry=REGISTRY,
)
_CACHED = Counter(
    "citewell_cache_questions",
    "Questions that wanted the cache, by outcome: exact, near, miss.",
    ["outcome"],
    registry=REGISTRY,
)
_DOCUMENTS = Counter("citewell_documents", "Documents by what became of them.", ["status"], registry=REGISTRY)
_REQUESTS = Histogram(
    "citewell_http_seconds",
    "HTTP requests until their last byte, streams and long-polls too.",
    ["route", "status"],
    buckets=_LONG_S,
    registry=REGISTRY,
)


def moved(generator: str, state: str) -> None:
    _MOVES.labels(generator, state).inc()


def first_token(generator: str, seconds: float) -> None:
    _FIRST.labels(generator).observe(seconds)


def written(generator: str, timings_ms: Mapping[str, float]) -> None:
    """The times of an answer that has been written."""
    for name, histogram in (("queue", _QUEUED), ("generate", _WRITTEN)):
        if name in timings_ms:
            histogram.labels(generator).observe(timings_ms[name] / 1e3)


def tokens(generator: str, count: int) -> None:
    _TOKENS.labels(generator).inc(count)


def searched(timings_ms: Mapping[Step, float]) -> None:
    """Milliseconds by step."""
    for step, took in timings_ms.items():
        _SEARCHED.labels(step).observe(took / 1e3)


def cached(outcome: str) -> None:
    _CACHED.labels(outcome).inc()


def loaded(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """The same outcomes, counted as they pass."""
    for outcome in outcomes:
        _DOCUMENTS.labels(outcome.status).inc()
        yield outcome


def requested(route: str, status: int, seconds: float) -> None:
    _REQUESTS.labels(route, str(status)).observe(seconds)
