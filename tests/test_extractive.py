"""The extractive generator: sentences word for word, at most three, or a plain refusal."""

from __future__ import annotations

import pytest

from citewell.cite import cite
from citewell.generate.extractive import MAX_SENTENCES, ExtractiveGenerator
from citewell.prompt import ABSTENTIONS
from citewell.records import Evidence, Hit, Job, Passage, Question
from tests.hashing import HashingEmbedder

TEXTS = {
    "en": "# Returns\n\nYou can return a lamp within 30 days of delivery. We refund the price within five days. "
    "Our founder likes to sail.\n\n| Item | Days |\n|---|---|\n| Tent | 14 |",
    "es": "Puedes devolver una lámpara en los 30 días siguientes a la entrega. Nuestra fundadora navega.",
    "ja": "返品は商品到着から30日以内に承ります。創業者はヨットが好きです。",
    "ko": "반품은 수령일로부터 30일 이내에 가능합니다. 창업자는 요트를 좋아합니다.",
}


def evidence(*langs: str) -> Evidence:
    hits = []
    for rank, lang in enumerate(langs, start=1):
        text = TEXTS[lang]
        passage = Passage(id=f"{lang}#0", doc_id=lang, ordinal=0, start=0, end=len(text), text=text, lang=lang)
        hits.append(Hit(passage=passage, rank=rank, score=1 / rank))
    return Evidence(hits=tuple(hits))


def answer(question: str, lang: str, found: Evidence) -> str:
    job = Job(answer_id="a", question=Question(text=question, lang=lang), evidence=found)
    pieces = list(ExtractiveGenerator(HashingEmbedder()).generate([job], lambda _: False))
    assert pieces[-1].last
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("question", "lang", "expected"),
    [
        ("Within how many days can I return a lamp?", "en", "You can return a lamp within 30 days of delivery. [1]"),
        (
            "¿Cuántos días tengo para devolver una lámpara?",
            "es",
            "Puedes devolver una lámpara en los 30 días siguientes a la entrega. [1]",
        ),
        ("返品は何日以内ですか？", "ja", "返品は商品到着から30日以内に承ります。 [1]"),
        ("반품은 며칠 이내에 가능합니까?", "ko", "반품은 수령일로부터 30일 이내에 가능합니다. [1]"),
    ],
)
def test_it_quotes_the_sentence_that_answers(question: str, lang: str, expected: str) -> None:
    assert answer(question, lang, evidence(lang)) == expected


@pytest.mark.parametrize("lang", list(ABSTENTIONS))
def test_it_refuses_in_the_language_of_the_question(lang: str) -> None:
    questions = {
        "en": "Which planets have rings?", "es": "¿Qué planetas tienen anillos?",
        "ja": "土星の衛星はいくつありますか？", "ko": "토성의 위성은 모두 몇 개입니까?",
    }  # fmt: skip
    assert answer(questions[lang], lang, evidence(lang)) == ABSTENTIONS[lang]
    assert answer(questions[lang], lang, Evidence()) == ABSTENTIONS[lang]


def test_a_language_without_a_statement_gets_the_english_one() -> None:
    assert answer("Welche Planeten haben Ringe?", "de", Evidence()) == ABSTENTIONS["en"]


def test_passages_in_the_language_of_the_question_come_first() -> None:
    text = answer("返品は何日以内ですか？", "ja", evidence("en", "ko", "ja"))
    assert text == "返品は商品到着から30日以内に承ります。 [3]"


def test_at_most_three_sentences_in_reading_order_and_every_citation_holds() -> None:
    body = " ".join(f"A lamp of kind {n} can be returned within {n} days." for n in range(1, 9))
    passage = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=len(body), text=body, lang="en")
    found = Evidence(hits=(Hit(passage=passage, rank=1, score=1.0),))
    draft = cite(answer("When can a lamp be returned?", "en", found), found, "en")
    assert len(draft.sentences) == MAX_SENTENCES
    assert all(s.supported for s in draft.sentences)
    assert [c.start for c in draft.citations] == sorted(c.start for c in draft.citations)
    assert all(body[c.start : c.end] == c.quote for c in draft.citations)


def test_a_heading_or_a_table_rule_is_no_answer() -> None:
    text = answer("Returns", "en", evidence("en"))
    assert "#" not in text
    assert "---" not in text


def test_cancelled_answers_stop_without_an_end() -> None:
    job = Job(answer_id="a", question=Question(text="return a lamp", lang="en"), evidence=evidence("en"))
    assert list(ExtractiveGenerator(HashingEmbedder()).generate([job], lambda _: True)) == []
