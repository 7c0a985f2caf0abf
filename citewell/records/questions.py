"""Questions, and the evidence that was found for one."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from citewell.records.base import FilterValue, Mode, Record
from citewell.records.documents import Passage


class Range(Record):
    """Bounds of a metadata value: numbers, or dates as ISO 8601 writes them. At least one is set."""

    gte: FilterValue | None = None
    gt: FilterValue | None = None
    lte: FilterValue | None = None
    lt: FilterValue | None = None


class Filters(Record):
    """Conditions on passages, all of which must hold; several values of one field mean any of them."""

    lang: tuple[str, ...] = ()
    doc_id: tuple[str, ...] = ()
    url: tuple[str, ...] = ()
    url_prefix: tuple[str, ...] = ()
    metadata: dict[str, tuple[FilterValue, ...]] = Field(default_factory=dict)
    ranges: dict[str, Range] = Field(default_factory=dict)

    def __bool__(self) -> bool:
        return self != Filters()


class Turn(Record):
    """An earlier question of a conversation, and its answer."""

    question: str
    answer: str = ""


class Rewriting(Record):
    """How a follow-up became self-contained: `by` is the version of what did it, `reason` what it leaned on.

    `turns` of the conversation were looked at, and `cut` earlier ones were over its bounds.
    """

    text: str
    by: str
    reason: str = ""
    turns: int = 0
    cut: int = 0


class Question(Record):
    """A question with what limits its search. `groups` None is the operator, who sees everything.

    `conversation` holds the turns before it, oldest first; `rewriting` is what was made of both, once it is checked.
    """

    text: str
    lang: str = ""
    k: int = 5
    mode: Mode = "hybrid"
    filters: Filters = Filters()
    groups: tuple[str, ...] | None = None
    conversation: tuple[Turn, ...] = ()
    rewriting: Rewriting | None = None

    @property
    def standalone(self) -> str:
        """The question as it is searched for and answered: without its conversation it says the same."""
        return self.rewriting.text if self.rewriting else self.text


class LegRank(Record):
    """Where one leg ranked a passage: `rank` from 1, `score` in the leg's own unit (BM25; cosine or dot product).

    `part` is what the leg added to the fused score.
    """

    rank: int
    score: float
    part: float = 0.0


class Hit(Record):
    """A passage in the ranked list: `score` orders it, in the unit of what ranked last (reranker, or fusion).

    `legs` says what each leg thought of it, `fused` and `fused_rank` what their fusion did, `rerank` what the
    reranker did (None: it did not look at it). `merged` names the neighbours that were joined into the passage,
    best first, and `duplicates` the passages left out because they say the same.
    """

    passage: Passage
    rank: int
    score: float
    fused: float = 0.0
    fused_rank: int = 0
    rerank: float | None = None
    legs: dict[str, LegRank] = Field(default_factory=dict)
    merged: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()


class Evidence(Record):
    """The passages that travel with a question to the generator, and everything that ranked them.

    `fusion`: method, weights and where these come from; `rerank`: model, how many it scored, why it stopped;
    `building`: how hits became evidence. `depth` and `filters` limited both legs. `asked` is the self-contained form
    of a follow-up, which was searched for; "" where the question had no conversation.
    """

    hits: tuple[Hit, ...] = ()
    mode: Mode = "hybrid"
    fusion: dict[str, Any] = Field(default_factory=dict)
    rerank: dict[str, Any] = Field(default_factory=dict)
    building: dict[str, Any] = Field(default_factory=dict)
    depth: int = 0
    filters: Filters = Filters()
    lang: str = ""
    asked: str = ""
    index_version: str = ""
    embedder: str = ""
    timings_ms: dict[str, float] = Field(default_factory=dict)

    def documents(self) -> tuple[str, ...]:
        """Ids of the documents whose passages it holds, each once."""
        return tuple(dict.fromkeys(hit.passage.doc_id for hit in self.hits))

    def visible(self, groups: tuple[str, ...] | None) -> bool:
        """Whether somebody of these groups may see all of it; None is the operator, who sees everything."""
        if groups is None:
            return True
        return all(not hit.passage.groups or set(groups) & set(hit.passage.groups) for hit in self.hits)
