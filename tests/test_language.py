"""Languages are told apart, and short questions are not taken for one that the index does not know."""

from __future__ import annotations

import pytest

from citewell.language import ASKED, detect, normalize
from tests.judged import SHOP, Collection


@pytest.mark.parametrize(
    ("text", "lang"),
    [
        ("How do I return a lamp?", "en"),
        ("¿Cómo devuelvo una lámpara?", "es"),
        ("返品は何日以内ですか？", "ja"),
        ("返品", "ja"),
        ("반품은 며칠 이내입니까?", "ko"),
        ("Wie gebe ich eine Lampe zurück?", "de"),
        ("42", "en"),
        ("", "en"),
    ],
)
def test_the_language_of_a_text(text: str, lang: str) -> None:
    assert detect(text) == lang


@pytest.mark.parametrize(("text", "lang"), [("tent zip", "en"), ("refund", "en"), ("garantía", "es"), ("価格", "ja")])
def test_two_words_are_taken_for_a_language_that_can_be_asked_in(text: str, lang: str) -> None:
    assert detect(text, among=ASKED) == lang


def test_every_question_of_the_shop_is_recognised() -> None:
    wrong = [q["_id"] for q in Collection(SHOP).questions(1000) if detect(q["text"], among=ASKED) != q["lang"]]
    assert wrong == []


def test_a_declared_tag_is_its_primary_part() -> None:
    assert [normalize(tag) for tag in ("en-GB", "ES", "ja_JP", " ko ", "")] == ["en", "es", "ja", "ko", ""]
