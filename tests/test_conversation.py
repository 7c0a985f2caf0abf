"""Follow-up questions: made self-contained by rules, within bounds, and better found for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from citewell.config import load_settings
from citewell.conversation import RULES_VERSION, History, rewritten, standalone
from citewell.engine import Engine, build
from citewell.records import Question, Terms, Turn

SHOP = Path(__file__).parents[1] / "examples" / "shop"
FOLLOWUPS = [json.loads(line) for line in (SHOP / "followups.jsonl").read_text("utf-8").splitlines()]
WIDE = History(6, 1000)


@pytest.mark.parametrize(
    ("lang", "before", "text", "expected"),
    [
        ("en", "How strong a wind can the Dunlin 2 stand?", "How much does it weigh?",
         "How much does it weigh? (Dunlin 2)"),
        ("en", "How long is the warranty in Germany?", "And in Spain?",
         "How long is the warranty in Germany? And in Spain?"),
        ("en", "How long is the warranty?", "Why?", "How long is the warranty? Why?"),
        ("es", "¿Cuánto dura la garantía de la lámpara Beacon?", "¿Y en Canarias?",
         "¿Cuánto dura la garantía de la lámpara Beacon? ¿Y en Canarias?"),
        ("es", "¿Cuánto cuesta la lámpara Beacon?", "¿Cuánto pesa esa?", "¿Cuánto pesa esa? (Beacon)"),
        ("ja", "返品の期限は何日ですか？", "それは海外でも同じですか？", "それは海外でも同じですか？ (返品の期限)"),
        ("ja", "那覇市への送料はいくらですか？", "では、札幌市は？",
         "那覇市への送料はいくらですか？ では、札幌市は？"),
        ("ko", "부산 매장은 월요일에 문을 여나요?", "그럼 일요일은요?",
         "부산 매장은 월요일에 문을 여나요? 그럼 일요일은요?"),
        ("ko", "텐트 지퍼를 교체하면 얼마예요?", "그건 무게가 얼마나 되나요?",
         "그건 무게가 얼마나 되나요? (텐트 지퍼 교체하면)"),
    ],
)  # fmt: skip
def test_a_follow_up_gets_what_it_leans_on(lang: str, before: str, text: str, expected: str) -> None:
    assert standalone(text, [Turn(question=before)], lang)[0] == expected


@pytest.mark.parametrize(
    ("lang", "text"),
    [
        ("en", "How long is the warranty of a tent?"),
        ("en", "Is there a discount for students?"),
        ("es", "¿Cuánto cuesta enviar los paquetes a Canarias?"),
        ("ja", "ギフトカードの有効期限を教えてください"),
        ("ko", "기프트카드 유효 기간이 얼마나 되나요?"),
    ],
)
def test_a_question_that_stands_by_itself_stays_as_it_is(lang: str, text: str) -> None:
    before = {
        "en": "Who are you?",
        "es": "¿Hay tope para Bizum?",
        "ja": "送料はいくらですか？",
        "ko": "배송비는 얼마예요?",
    }
    assert standalone(text, [Turn(question=before[lang])], lang) == (text, "")


def test_a_person_is_looked_for_in_the_answer_before() -> None:
    turns = [Turn(question="Who designed the lamp?", answer="It was designed by Marta Ruiz in 2019 [1].")]
    assert standalone("Where was she born?", turns, "en") == ("Where was she born? (Marta Ruiz)", "person")


def test_a_chain_of_follow_ups_carries_its_topic() -> None:
    turns = [Turn(question="How much does the Beacon L4 cost?"), Turn(question="How much does it weigh?")]
    found, reason = standalone("Does it float?", turns, "en")
    assert (found, reason) == ("Does it float? (Beacon L4)", "pronoun")


def test_the_history_is_bounded_and_what_is_cut_is_told() -> None:
    turns = tuple(Turn(question=f"How long is warranty number {n}?", answer="word " * 50) for n in range(9))
    question = Question(text="Why?", lang="en", conversation=turns)
    few = rewritten(question, History(3, 1000), 2000)
    assert few.rewriting is not None
    assert (few.rewriting.turns, few.rewriting.cut, few.rewriting.by) == (3, 6, RULES_VERSION)
    short = rewritten(question, History(9, 150), 2000)
    assert short.rewriting is not None
    assert short.rewriting.turns < 9 and short.rewriting.turns + short.rewriting.cut == 9
    none = rewritten(question, History(0, 1000), 2000)
    assert none.rewriting is not None
    assert (none.standalone, none.rewriting.cut) == ("Why?", 9)


def test_a_rewriting_over_the_limit_leaves_the_question_and_says_so() -> None:
    question = Question(text="Why?", lang="en", conversation=(Turn(question="How long " * 30),))
    found = rewritten(question, WIDE, 100)
    assert found.standalone == "Why?"
    assert found.rewriting is not None and "question_limit" in found.rewriting.reason


def test_the_record_keeps_no_earlier_answer_and_is_rewritten_once() -> None:
    turns = (Turn(question="Who made the lamp?", answer="Marta Ruiz made the secret lamp."),)
    found = rewritten(Question(text="Where does she live?", lang="en", conversation=turns), WIDE, 2000)
    assert [turn.answer for turn in found.conversation] == [""]
    assert "secret" not in found.to_json()
    assert rewritten(found, History(0, 0), 2000) == found, "a replay asks what was asked"


def test_the_conversation_is_part_of_an_idempotent_request() -> None:
    terms = Terms(idempotency_key="k")
    turns = (Turn(question="How long is the warranty?"),)
    alone, after = Question(text="Why?"), Question(text="Why?", conversation=turns)
    assert terms.request(alone, ("",)) != terms.request(after, ("",))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    settings = load_settings(data_dir=tmp_path_factory.mktemp("shop"))
    with build(settings, "all") as engine:
        outcomes = list(engine.ingest([str(SHOP / "corpus")]))
        assert all(outcome.status == "added" for outcome in outcomes), outcomes
        yield engine


def hits(engine: Engine, *, followed: bool) -> dict[str, float]:
    """The share of follow-ups whose document is first, by language."""
    found: dict[str, list[bool]] = {}
    for one in FOLLOWUPS:
        turns = tuple(Turn(question=text) for text in one["conversation"]) if followed else ()
        evidence = engine.search(Question(text=one["text"], lang=one["lang"], conversation=turns, k=1))
        best = evidence.hits[0].passage.doc_id if evidence.hits else ""
        found.setdefault(one["lang"], []).append(best == one["doc"])
    return {lang: sum(right) / len(right) for lang, right in found.items()}


def test_follow_ups_of_the_shop_are_found_by_their_conversation(shop: Engine) -> None:
    raw, after = hits(shop, followed=False), hits(shop, followed=True)
    print("first document right, raw:", raw, "rewritten:", after)
    assert all(after[lang] >= raw[lang] for lang in raw)
    assert sum(after.values()) - sum(raw.values()) >= 1.0, (raw, after)


def test_the_cache_tells_conversations_apart(shop: Engine) -> None:
    terms = Terms(cache="exact")

    def ask(*before: str) -> str:
        turns = tuple(Turn(question=text) for text in before)
        asked = Question(text="How much does it weigh?", lang="en", conversation=turns)
        answer = shop.ask(asked, wait_s=60, terms=terms)
        assert answer.state == "done"
        assert answer.evidence.asked == answer.question.standalone
        return answer.cached_from

    assert ask("Is the Beacon L4 lamp any good?") == ""
    assert ask("Is the Dunlin 2 tent any good?") == ""
    assert ask("Is the Beacon L4 lamp any good?") != ""


def test_a_replay_asks_the_self_contained_question_again(shop: Engine) -> None:
    turns = (Turn(question="Is the Beacon L4 lamp any good?", answer="It is."),)
    answer = shop.ask(Question(text="How much does it weigh?", lang="en", conversation=turns), wait_s=60)
    again = shop.answer(shop.replay(answer.id).id, 60)
    assert again.question == answer.question
    assert [hit.passage.id for hit in again.evidence.hits] == [hit.passage.id for hit in answer.evidence.hits]
