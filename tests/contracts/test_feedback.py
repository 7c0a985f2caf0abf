"""Judgements of answers on SQLite and on a real Redis: one a caller, kept when the answer goes, read in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.config import Settings
from citewell.ports import Answers
from citewell.records import CitedSpan, Feedback, PassageMark, Question


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Answers]:
    named: dict[str, Any] = {"data_dir": tmp_path, "feedback_ttl": 1000}
    if request.param == "redis":
        named["redis_url"] = request.getfixturevalue("redis_db_url")
    settings = Settings.model_validate(named)
    made: Answers = (
        RedisAnswers(settings, clock=clock) if request.param == "redis" else SqliteAnswers(settings, clock=clock)
    )
    made.load()
    yield made
    made.close()


def judged(answer_id: str, at: float, rating: int = 5, caller: str = "", **more: Any) -> Feedback:
    question = Question(text="How long does the warranty of a lamp last?", lang="en")
    return Feedback(
        answer_id=answer_id, rating=rating, caller=caller, given_at=at, question=question, generator="g", **more
    )


def test_what_was_given_comes_back_whole(store: Answers, clock: Clock) -> None:
    span = CitedSpan(doc_id="ランプ#1", passage_id="ランプ#1#0", start=0, end=9, quote_hash="ab")
    whole = judged(
        "a", clock.now, 2, "key", comment="No.\n\u2028“É”", correct_passages=("d#3",), cited=(span,), abstained=True,
        evidence=(PassageMark(id="d#0", hash="cd"),), asked_at=clock.now - 60, answer_ms=12.5, tokens_read=40,
        tokens_written=7, model="m", revision="r",
    )  # fmt: skip
    assert store.feedback().give(whole) is True
    assert list(store.feedback().given()) == [whole]


def test_the_later_word_of_a_caller_counts_and_others_stand_beside_it(store: Answers, clock: Clock) -> None:
    kept = store.feedback()
    assert kept.give(judged("a", clock.now, 1, "one"))
    assert kept.give(judged("a", clock.now + 1, 2, "two"))
    assert kept.give(judged("b", clock.now + 2, 3, "one"))
    assert not kept.give(judged("a", clock.now + 3, 4, "one"))
    assert [(f.answer_id, f.caller, f.rating) for f in kept.given()] == [
        ("a", "two", 2),
        ("b", "one", 3),
        ("a", "one", 4),
    ]
    assert [f.rating for f in kept.given(clock.now + 2)] == [3, 4], "from that moment on"


def test_it_goes_after_its_time_and_not_with_its_answer(store: Answers, clock: Clock) -> None:
    kept = store.feedback()
    kept.give(judged("never created", clock.now))
    clock.now += 600
    kept.give(judged("b", clock.now))
    assert len(list(kept.given())) == 2
    clock.now += 600
    assert [f.answer_id for f in kept.given()] == ["b"]
    assert kept.give(judged("never created", clock.now)) is True, "what has gone is replaced by nothing"


def test_many_are_read_in_pieces_each_once(store: Answers, clock: Clock) -> None:
    """Also where a thousand came in the same moment, and some of them are replaced while they are read."""
    kept = store.feedback()
    for number in range(1200):
        kept.give(judged(f"a{number:04}", clock.now + (number >= 1100), 1 + number % 5))
    read, found = kept.given(), []
    for number, one in enumerate(read):
        found.append(one.answer_id)
        if number == 10:
            assert not kept.give(judged("a1199", clock.now + 5))
    assert sorted(found) == [f"a{number:04}" for number in range(1200)]
    assert found[-1] == "a1199"


def test_one_caller_at_once_leaves_one(store: Answers, clock: Clock) -> None:
    outcomes: list[bool] = []

    def give(rating: int) -> None:
        outcomes.append(store.feedback().give(judged("a", clock.now, rating, "key")))

    threads = [threading.Thread(target=give, args=(1 + n % 5,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 15 + [True]
    assert len(list(store.feedback().given())) == 1
