"""Near questions that ask the same, and those that do not."""

from __future__ import annotations

import pytest

from citewell.near import agree, names

SAME = [
    ("en", "How long does the warranty of a lamp last?", "How long do warranties of lamps last?"),
    ("en", "Can I return a kettle within 30 days?", "within 30 days, can a kettle be returned?"),
    ("en", "Does NASA fly to Mars?", "do flies of NASA fly to Mars"),
    ("es", "¿Cuánto dura la garantía de la tienda?", "¿cuánto durará la garantía de esta tienda?"),
    ("ja", "保証の期間は何年ですか", "保証の期間は何年でしょうか"),
    ("ko", "램프의 보증 기간은 얼마입니까?", "보증 기간은 램프의 얼마입니까"),
]
OTHER = [
    ("en", "Can I return a kettle within 30 days?", "Can I return a kettle within 60 days?"),
    ("en", "Which phones have 5G?", "Which phones have 4G?"),
    ("en", "Can I pay by card?", "Can I not pay by card?"),
    ("en", "What can't be returned?", "What can be returned?"),
    ("en", "Which team won against Denver?", "Which team won against Carolina?"),
    ("en", "Who opened the shop?", "When was the shop opened?"),
    ("en", "What happens before the payment?", "What happens after the payment?"),
    ("en", "What does os.path.join do?", "What does os.path.split do?"),
    ("en", "What is `len` for?", "What is `min` for?"),
    ("en", "Is the lamp cheaper than the tent?", "Is the lamp lighter than the tent?"),
    ("es", "¿Se puede pagar con tarjeta?", "¿No se puede pagar con tarjeta?"),
    ("es", "¿Quién abrió la tienda?", "¿Cuándo abrió la tienda?"),
    ("ja", "返品できますか", "返品できないのですか"),
    ("ja", "テントの保証は何年ですか", "ランプの保証は何年ですか"),
    ("ko", "반품할 수 있습니까?", "반품할 수 없습니까?"),
    ("ko", "Petrel 이어폰의 가격은?", "Beacon 이어폰의 가격은?"),
]


@pytest.mark.parametrize(("lang", "one", "other"), SAME)
def test_other_wordings_agree(lang: str, one: str, other: str) -> None:
    assert agree(one, other, lang)
    assert agree(other, one, lang)


@pytest.mark.parametrize(("lang", "one", "other"), OTHER)
def test_other_questions_do_not(lang: str, one: str, other: str) -> None:
    assert not agree(one, other, lang)
    assert not agree(other, one, lang)


def test_what_looks_like_a_name() -> None:
    assert names("Where did Marie Curie's team publish?", "en") == {"marie", "curie"}
    assert names("How does numpy.array work in C++?", "en") >= {"c++"}
    assert names("Where is the shop?", "en") == frozenset()
    assert names("テントとPetrel H3の違い", "ja") == {"テント", "petrel", "h3"}
