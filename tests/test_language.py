"""Languages are told apart, and short questions are not taken for one that the index does not know."""

from __future__ import annotations

from itertools import islice

import pytest

from citewell import language
from citewell.language import ASKED, KNOWN, detect, normalize
from tests.judged import SHARED, SHOP, Collection, _rows


def by_lingua(text: str) -> str:
    found = language._detector(KNOWN).detect_language_of(text)
    assert found is not None
    return str(found.iso_code_639_1.name.lower())


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


LONG = {
    "en": "The parcel is what you have when it was sent to us and then came back, with all that there is in it. ",
    "es": "Cuando el cliente no está en su casa, los paquetes son para el vecino, y esto es lo que se hace con ellos. ",
    "de": "Wenn das Paket nicht da ist, dann wird es auch von uns nicht mehr mit der Post und dem Auto gebracht. ",
    "fr": "Quand vous avez reçu le colis, il est dans votre maison, et nous ne pouvons plus le prendre avec nous. ",
    "it": "Quando il pacco non è nella casa, noi non possiamo più fare niente, perché il corriere ha già finito. ",
    "pt": "Quando a encomenda não está em casa, nós não podemos mais fazer isso, porque o correio já foi com ela. ",
}


@pytest.mark.parametrize("lang", LONG)
def test_long_texts_are_told_alike_by_small_words_and_by_lingua(lang: str) -> None:
    text = LONG[lang] * 3
    assert detect(text) == by_lingua(text) == lang
    assert language._plain(text) in (lang, "")


def test_small_words_leave_doubt_to_lingua() -> None:
    assert language._plain(LONG["en"] * 3) == "en"
    assert language._plain(LONG["en"] * 3 + LONG["de"] * 2) == "", "two languages"
    assert language._plain("the of and to " * 5) == "", "too short"
    assert language._plain(LONG["en"] * 3 + "返品") == "", "another script"
    assert language._plain("parcel house river stone field paper light water market winter " * 5) == "", (
        "no small words"
    )


@pytest.mark.skipif(not SHARED.is_dir(), reason="no test collections")
def test_documents_are_told_alike_by_both() -> None:
    rows = [
        row for name in ("squad1-en-dev", "squad1-es-dev") for row in islice(_rows(SHARED / name, "corpus.jsonl"), 60)
    ]
    told = [(plain, by_lingua(row["text"])) for row in rows if (plain := language._plain(row["text"][:600]))]
    assert len(told) >= 50
    assert [pair for pair in told if pair[0] != pair[1]] == []


def test_a_declared_tag_is_its_primary_part() -> None:
    assert [normalize(tag) for tag in ("en-GB", "ES", "ja_JP", " ko ", "")] == ["en", "es", "ja", "ko", ""]
