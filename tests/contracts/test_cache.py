"""Answers given again, on LanceDB with SQLite and on Elasticsearch with Redis: only what holds now, for this caller."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.cache import transferred
from citewell.cite import exact_words
from citewell.config import Settings
from citewell.engine import Engine, Models
from citewell.errors import UnknownAnswer
from citewell.generate.extractive import ExtractiveGenerator
from citewell.jobs import InlineQueue
from citewell.ports import Answers, EmbedderCard, GeneratorCard, Kept
from citewell.quoting import Quoting
from citewell.records import Answer, Document, Filters, Job, Question, Terms
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.receiver import receiving

WARRANTY = "How long does the warranty of a lamp last?"
TEXTS = {"lamp": "The warranty of a lamp lasts two years.", "tent": "The warranty of a tent lasts five years."}


class Speaking(HashingEmbedder):
    """It says that it speaks English, so that near questions are looked for."""

    def describe(self) -> EmbedderCard:
        card = super().describe()
        return EmbedderCard(card.name, card.weights, card.dimension, card.max_tokens, card.tokenizer, languages=("en",))


class Counting(ExtractiveGenerator):
    """Counts what it writes; `card` is what it says of itself."""

    card = GeneratorCard("extractive", "extractive", revision="r1")

    def __init__(self, embedder: Speaking) -> None:
        super().__init__(embedder)
        self.written = 0

    def describe(self) -> GeneratorCard:
        return self.card

    def generate(self, jobs: Sequence[Job], cancelled: Any) -> Any:
        self.written += len(jobs)
        yield from super().generate(jobs, cancelled)


class Stack:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        embedder = Speaking()
        self.generator = Counting(HashingEmbedder())  # type: ignore[arg-type]
        store: Answers = RedisAnswers(settings) if settings.stack == "served" else SqliteAnswers(settings)
        self.engine = Engine(
            settings,
            "all",
            models=Models(embedder, {"extractive": self.generator, "other": self.generator}),
            library=library(settings, embedder, quoting=Quoting(store)),
            store=store,
            make_queue=lambda engine: InlineQueue(engine.run, store.due, threads=2, poll_s=0.1),
        )

    def put(self, groups: tuple[str, ...] = (), **texts: str) -> None:
        documents = [Document(id=name, text=text, lang="en", groups=groups) for name, text in texts.items()]
        assert {outcome.status for outcome in self.engine.put(documents)} <= {"added", "changed"}

    def ask(self, text: str = WARRANTY, cache: Any = "exact", generator: str = "", **more: Any) -> Answer:
        question = Question(text=text, **({"lang": "en", "k": 1} | more))
        found = self.engine.ask(question, generator, 30, Terms(cache=cache))
        assert found.state == "done", found
        return found


INSIDE: dict[str, Any] = {"callback_hosts": ["127.0.0.1"], "callback_private": True, "callback_secret": "s"}


@pytest.fixture(params=["embedded", "served"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    named: dict[str, Any] = {"stack": request.param, "data_dir": tmp_path / "data", "cache_size": 8, **INSIDE}
    if request.param == "served":
        named |= {name: request.getfixturevalue(name) for name in ("elasticsearch_url", "index_name")}
        named["redis_url"] = request.getfixturevalue("redis_db_url")
    made = Stack(Settings.model_validate(named))
    with made.engine:
        made.put(lamp=TEXTS["lamp"], tent=TEXTS["tent"])
        yield made


def test_the_same_question_is_answered_without_its_generator(stack: Stack) -> None:
    first = stack.ask()
    assert first.cached_from == ""
    assert "two years" in first.answer
    again = stack.ask(f"  {WARRANTY.replace(' ', '  ')}")
    assert again.id != first.id
    assert again.cached_from == first.id
    assert stack.generator.written == 1
    same = ("answer", "citations", "sentences", "abstained", "provenance", "evidence")
    for name in same[:5]:
        assert getattr(again, name) == getattr(first, name), name
    assert [hit.passage for hit in again.evidence.hits] == [hit.passage for hit in first.evidence.hits]
    assert "generate" not in again.timings_ms
    assert again.timings_ms["cache"] >= 0
    events = stack.engine.events(again.id)
    assert [event.kind for event in events] == ["state", "state", "delta", "final"]
    assert events[2].data["text"] == first.answer
    third = stack.ask()
    assert third.cached_from == first.id, "it names the answer that was written, not one that was given again"
    info = stack.engine.info()["cache"]
    assert (info["exact"], info["near"], info["miss"], info["hit_rate"]) == (2, 0, 1, 0.6667)


def test_a_callback_gets_what_is_given_again(stack: Stack) -> None:
    """The answer is final before any worker sees it; the record is posted all the same, once."""
    first = stack.ask()
    with receiving() as receiver:
        terms = Terms(cache="exact", callback_url=receiver.url())
        again = stack.engine.submit(Question(text=WARRANTY, lang="en", k=1), terms=terms)
        assert (again.state, again.cached_from) == ("done", first.id)
        assert stack.engine.post() == 1
        assert stack.engine.post() == 0
    (got,) = receiver.got
    assert (got.record["id"], got.record["answer"], got.record["cached_from"]) == (again.id, first.answer, first.id)
    told = stack.engine.answer(again.id).callback
    assert told is not None
    assert told.state == "delivered"


def test_nothing_is_given_again_unless_it_is_asked_for(stack: Stack) -> None:
    assert stack.settings.cache == "none"
    for cache in (None, "none", None):
        assert stack.ask(cache=cache).cached_from == ""
    assert stack.generator.written == 3
    assert stack.engine.cache.info()["miss"] == 0
    first = stack.ask(cache="exact")
    assert first.cached_from == "", "and what was asked without the cache is not in it"
    again = stack.engine.replay(stack.ask(cache="exact").id)
    assert stack.engine.answer(again.id, 30).cached_from == "", "asking again means asking"


@pytest.mark.parametrize(
    "more",
    [
        {"text": "How long does the warranty of a tent last?"},
        {"k": 2},
        {"mode": "bm25"},
        {"lang": "de"},
        {"filters": Filters(doc_id=("lamp",))},
        {"groups": ("staff",)},
        {"groups": ()},
        {"generator": "other"},
    ],
    ids=str,
)
def test_each_part_of_the_key_tells_questions_apart(stack: Stack, more: dict[str, Any]) -> None:
    stack.ask()
    other = stack.ask(**more)
    assert other.cached_from == ""
    assert stack.ask(**more).cached_from == other.id
    assert stack.generator.written == 2
    assert stack.ask().cached_from


@pytest.mark.parametrize(
    "card",
    [
        GeneratorCard("extractive", "extractive", revision="r2"),
        GeneratorCard("extractive", "extractive", revision="r1", model="m"),
        GeneratorCard("extractive", "extractive", revision="r1", prompt="answer-2"),
        GeneratorCard("extractive", "extractive", revision="r1", wordings={"en": "abc"}),
        GeneratorCard("extractive", "extractive", revision="r1", sampling={"method": "sample"}),
        GeneratorCard("extractive", "extractive", revision="r1", seed=3),
    ],
    ids=str,
)
def test_another_generator_writes_its_own(stack: Stack, card: GeneratorCard) -> None:
    stack.ask()
    stack.generator.card = card
    assert stack.ask().cached_from == ""
    assert stack.ask().cached_from != ""
    assert stack.generator.written == 2


def test_a_generator_that_turned_out_to_be_another_is_not_believed(stack: Stack) -> None:
    """The worker that wrote had weights that the service did not know of."""
    first = stack.ask()
    engine, card = stack.engine, GeneratorCard("extractive", "extractive", revision="r9")
    job = Job(answer_id="x", question=first.question, evidence=first.evidence)
    assert engine.cache._usable(first.id, job, stack.generator.card) is not None
    assert engine.cache._usable(first.id, job, card) is None


@pytest.mark.parametrize("cache", ["exact", "semantic"])
def test_what_was_deleted_changed_or_withdrawn_does_not_come_back(stack: Stack, cache: str) -> None:
    assert "two years" in stack.ask(cache=cache, k=2).answer
    stack.put(lamp="The warranty of a lamp lasts three years.")
    changed = stack.ask(cache=cache, k=2)
    assert changed.cached_from == ""
    assert "three years" in changed.answer
    assert stack.ask(cache=cache, k=2).cached_from == changed.id
    stack.put(groups=("staff",), lamp="The warranty of a lamp lasts three years.")
    outsider = stack.ask(cache=cache, k=2, groups=("visitors",))
    assert outsider.cached_from == ""
    assert "lamp" not in {citation.doc_id for citation in outsider.citations}
    insider = stack.ask(cache=cache, k=2, groups=("staff",))
    assert {citation.doc_id for citation in insider.citations} == {"lamp"}
    assert stack.ask(cache=cache, k=2, groups=("visitors",)).cached_from in ("", outsider.id)
    stack.engine.delete(["lamp"])
    left = stack.ask(cache=cache, k=2, groups=("staff",))
    assert left.cached_from == ""
    assert "lamp" not in left.evidence.documents()


def test_a_new_document_makes_a_new_answer_where_it_is_evidence(stack: Stack) -> None:
    first = stack.ask(k=3)
    stack.put(note="The warranty of a lamp does not cover the bulb.")
    assert stack.ask(k=3).cached_from == ""
    assert stack.generator.written == 2
    assert first.evidence.documents() == ("lamp", "tent")


def test_an_answer_that_went_with_its_document_leaves_no_way_to_it(stack: Stack) -> None:
    first = stack.ask()
    again = stack.ask()
    assert again.cached_from == first.id
    assert stack.engine.delete(["lamp"])[0].receipt["answers_removed"] == 2  # type: ignore[index]
    for answer in (first, again):
        with pytest.raises(UnknownAnswer):
            stack.engine.answer(answer.id)
    stack.put(lamp=TEXTS["lamp"])
    assert stack.ask().cached_from == "", "the pointer's answer is gone"


def test_a_near_question_that_asks_the_same(stack: Stack) -> None:
    stack.engine.cache._threshold = 0.75  # of an embedder that counts letters
    first = stack.ask(cache="semantic")
    near = "How long does the warranty of the lamp last?"
    assert stack.ask(near, cache="exact").cached_from == ""
    given = stack.ask(near.replace("the lamp", "this lamp"), cache="semantic")
    assert given.cached_from == first.id
    assert given.answer == first.answer
    assert stack.engine.cache.info()["near"] == 1


@pytest.mark.parametrize(
    "other",
    [
        "How long does the warranty of a Lumo lamp last?",
        "How long does the warranty of 2 lamps last?",
        "How long does the warranty of a lamp not last?",
    ],
)
def test_a_near_question_that_asks_something_else(stack: Stack, other: str) -> None:
    stack.engine.cache._threshold = 0.5
    stack.ask(cache="semantic")
    assert stack.ask(other, cache="semantic").cached_from == ""
    assert stack.ask("How long does this warranty of the lamps last?", cache="semantic").cached_from != ""


def test_a_near_question_whose_evidence_has_not_what_the_answer_cites(stack: Stack) -> None:
    stack.engine.cache._threshold = 0.5
    stack.ask(cache="semantic")
    tent = stack.ask("How long does the warranty of a tent last?", cache="semantic")
    assert tent.cached_from == ""
    assert "five years" in tent.answer


def test_languages_that_the_embedder_does_not_speak_have_no_near_questions(stack: Stack) -> None:
    stack.engine.cache._threshold = 0.1
    stack.ask(cache="semantic", lang="de")
    assert stack.ask(WARRANTY + " Bitte", cache="semantic", lang="de").cached_from == ""
    assert stack.ask(cache="semantic", lang="de").cached_from != "", "the exact one is"


def test_markers_follow_their_passages_to_other_ranks(stack: Stack) -> None:
    both = stack.ask("How long does a warranty last: lamp or tent?", cache="none", k=2)
    hits = both.evidence.hits
    swapped = tuple(hit.model_copy(update={"rank": n}) for n, hit in enumerate(reversed(hits), start=1))
    assert len(hits) == 2
    assert both.citations
    draft = transferred(both, both.evidence.model_copy(update={"hits": swapped}))
    assert draft is not None
    assert [c.passage_id for c in draft.citations] == [c.passage_id for c in both.citations]
    assert [c.marker for c in draft.citations] == [3 - c.marker for c in both.citations]
    first = both.citations[0]
    hit = next(hit for hit in hits if hit.rank == first.marker)
    words = exact_words(hit, first.passage_start, first.passage_end, 0.5)
    draft = transferred(both.model_copy(update={"exact": (words,)}), both.evidence.model_copy(update={"hits": swapped}))
    assert draft is not None
    assert draft.exact == (words.model_copy(update={"marker": 3 - first.marker}),)
    assert transferred(both, both.evidence.model_copy(update={"hits": ()})) is None


def test_the_cache_is_bounded(stack: Stack) -> None:
    cache = stack.engine.store.cache()
    answers = [stack.ask(cache="none") for _ in range(3)]
    for number in range(30):
        cache.keep(f"k{number}", "s", Kept(answers[number % 3].id, f"q{number}", b"\0\0"))
    assert sum(bool(cache.find(f"k{number}")) for number in range(30)) <= 8
    assert cache.find("k29") == answers[2].id
    kept = cache.near("s")
    assert 0 < len(kept) <= 8
    assert kept[0] == Kept(answers[2].id, "q29", b"\0\0")
    assert cache.near("another") == []


def test_what_is_too_old_is_not_given_again(stack: Stack) -> None:
    brief = stack.settings.model_copy(update={"cache_ttl": 1})
    store: Answers = RedisAnswers(brief) if brief.stack == "served" else SqliteAnswers(brief)
    store.load()
    answer = stack.ask(cache="none")
    store.cache().keep("k", "s", Kept(answer.id, "q", b"\0\0"))
    assert store.cache().find("k") == answer.id
    import time

    deadline = time.monotonic() + 20
    while store.cache().find("k") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert store.cache().find("k") == ""
    assert store.cache().near("s") == []
    store.close()


def test_many_at_once_and_a_delete_in_between(stack: Stack) -> None:
    """Whoever is first: afterwards no record holds the deleted document."""
    stack.ask(k=2)

    def one(number: int) -> Answer | None:
        if number == 20:
            stack.engine.delete(["lamp"])
            return None
        return stack.engine.submit(Question(text=WARRANTY, lang="en", k=2), "", Terms(cache="exact"))

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for answer in pool.map(one, range(40)) if answer is not None]
    assert any(answer.cached_from for answer in answers)
    held = 0
    for answer in answers:
        try:
            left = stack.engine.answer(answer.id, 30)
        except UnknownAnswer:
            held += 1
            continue
        assert "lamp" not in left.evidence.documents()
    assert held > 0
    assert stack.ask(k=2).evidence.documents() == ("tent",)
