"""What computes: embedders, rerankers and generators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from citewell.ports.backend import Backend, Vectors
from citewell.records import Job, Piece, Similarity


class Embedder(Backend, Protocol):
    """Text to vectors, float32 of shape (len(texts), fingerprint.dimension)."""

    def describe(self) -> EmbedderCard: ...

    def embed_passages(self, texts: Sequence[str]) -> Vectors: ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


@runtime_checkable
class KeepsVectors(Protocol):
    """An embedder that may keep vectors of passages for later."""

    def forget(self, texts: Sequence[str]) -> int | None:
        """Drop the vectors of these passages; how many a look afterwards still finds, None where none are kept."""
        ...


@dataclass(frozen=True)
class EmbedderCard:
    """What an embedder is.

    `max_tokens` is the longest input it reads; `tokenizer` a `tokenizers` JSON string, empty when nobody knows it;
    `similarity` how its vectors are compared. `languages` are the ISO 639-1 codes it was made for; empty means that
    it does not say, and is taken for all.
    """

    name: str
    weights: str
    dimension: int
    max_tokens: int
    tokenizer: str
    normalized: bool = True
    languages: tuple[str, ...] = ()
    similarity: Similarity = "cosine"

    def speaks(self, lang: str) -> bool:
        return not self.languages or lang in self.languages


class Reranker(Backend, Protocol):
    """Scores pairs of question and passage by reading them together."""

    def rerank(self, question: str, texts: Sequence[str], budget_s: float) -> RerankResult:
        """Score the texts in order, batch by batch, until the time is up."""
        ...


@dataclass(frozen=True)
class RerankResult:
    """One score for each of the first `len(scores)` texts, in [0, 1] for models with one label.

    `stopped` says why the others have none; empty when all have.
    """

    scores: tuple[float, ...]
    stopped: str = ""


class Entailment(Backend, Protocol):
    """Says whether one text follows from another."""

    def entail(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Probability that the second text of each pair follows from the first, in [0, 1]."""
        ...


class Generator(Backend, Protocol):
    """Questions with their evidence to text with markers `[n]`, n being the rank of a hit."""

    def describe(self) -> GeneratorCard:
        """What it is, as far as it is known before `load`; complete afterwards."""
        ...

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """Yield pieces for all jobs, interleaved as they come; ask `cancelled(answer_id)` at every step of the
        model, and stop that answer without a `last` piece when it says so."""
        ...


@dataclass(frozen=True)
class GeneratorCard:
    """What writes answers, for their records: equal cards and equal jobs give equal texts, unless sampled unseeded.

    `revision` tells the model's weights apart (a hash or a commit; empty where an endpoint does not say); `prompt` is
    the version of what it is asked, `wordings` by language the SHA-256 over what that says by itself (English stands
    for the others); `sampling` is how tokens are chosen (empty: no language model); `seed` None where chance has none.
    """

    name: str
    kind: str
    model: str = ""
    revision: str = ""
    prompt: str = ""
    wordings: Mapping[str, str] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
