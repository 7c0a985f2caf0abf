"""Numbers, dates and names are the same in every way of writing them, and no others."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from citewell.facts import names, unstated

LANGS = ("en", "es", "ja", "ko")
FULL_WIDTH = str.maketrans("0123456789,.", "０１２３４５６７８９，．")
EN = "January February March April May June July August September October November December".split()
ES = "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split()

# Written without a space: those may be two numbers, too.
UNSPACED = (0, 1, 2, 5, 6)

MARKS = "aB é Ñ0123456789.,:/-'’\n １０年月日년월일ア イウー東京市三十万만"

numbers = st.integers(0, 10**9)
dates = st.dates(datetime.date(1000, 1, 1), datetime.date(2999, 12, 31))


def written(number: int) -> list[str]:
    """A whole number in the ways that it is written in."""
    grouped = f"{number:,}"
    forms = [str(number), grouped, grouped.replace(",", "."), grouped.replace(",", " "), grouped.replace(",", "\u202f")]
    return [*forms, str(number).translate(FULL_WIDTH), grouped.translate(FULL_WIDTH)]


def dated(day: datetime.date) -> list[str]:
    y, m, d = day.year, day.month, day.day
    return [
        f"{y}-{m:02}-{d:02}", f"{y}/{m}/{d}",
        f"{EN[m - 1]} {d}, {y}", f"{d} {EN[m - 1]} {y}", f"{EN[m - 1][:3]} {d}, {y}",
        f"{d} de {ES[m - 1]} de {y}", f"{y}年{m}月{d}日", f"{y}년 {m}월 {d}일",
        f"{y}年{m}月{d}日".translate(FULL_WIDTH),
    ]  # fmt: skip


@pytest.mark.parametrize("lang", LANGS)
@given(number=numbers, one=st.integers(0, 6), other=st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_a_number_is_found_however_it_is_written(lang: str, number: int, one: int, other: int) -> None:
    sentence, passage = f"x {written(number)[one]} x", f"y {written(number)[other]} y"
    assert unstated(sentence, passage, lang) == []


@pytest.mark.parametrize("lang", LANGS)
@given(number=numbers, other=numbers, form=st.sampled_from(UNSPACED), passage_form=st.sampled_from(UNSPACED))
@settings(max_examples=100, deadline=None)
def test_another_number_is_not(lang: str, number: int, other: int, form: int, passage_form: int) -> None:
    assume(number not in (other, 1000 * other))  # `1.000` may be one
    assume(other != 1000 * number)
    assert unstated(f"x {written(number)[form]} x", f"y {written(other)[passage_form]} y", lang) != []


@pytest.mark.parametrize("lang", LANGS)
@given(day=dates, one=st.integers(0, 8), other=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_a_date_is_found_however_it_is_written(lang: str, day: datetime.date, one: int, other: int) -> None:
    assert unstated(f"x {dated(day)[one]} x", f"y {dated(day)[other]} y", lang) == []


@pytest.mark.parametrize("lang", LANGS)
@given(day=dates, another=dates, one=st.integers(0, 8), other=st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_another_date_is_not(lang: str, day: datetime.date, another: datetime.date, one: int, other: int) -> None:
    if day != another:
        assert unstated(f"x {dated(day)[one]} x", f"y {dated(another)[other]} y", lang) != []


@pytest.mark.parametrize("lang", [*LANGS, "de", "zh"])
@given(
    text=st.text(
        alphabet=st.sampled_from(list("aB é Ñ0123456789.,:/-'’\n １０年月日년월일ア イウー東京市三十万만")), max_size=40
    )
)
@settings(max_examples=200, deadline=None)
def test_a_text_states_all_that_it_says_itself(lang: str, text: str) -> None:
    assert unstated(text, text, lang) == []


@pytest.mark.parametrize(
    ("lang", "sentence", "passage"),
    [
        ("en", "It has 3 million users.", "The service has 3,000,000 users."),
        ("es", "Tiene 2,5 millones de euros.", "Son 2.500.000 euros."),
        ("ja", "3万円かかります。", "費用は30,000円です。"),
        ("ja", "1億2000万人です。", "人口は120,000,000人。"),
        ("ja", "三十日以内です。", "30日以内に承ります。"),
        ("ko", "5만 원입니다.", "가격은 50,000원입니다."),
        ("en", "The warranty is two years.", "A warranty of 2 years."),
        ("es", "Son tres años.", "3 años de garantía"),
        ("en", "It was founded in 2016.", "On February 7, 2016 it was founded."),
        ("en", "It began on February 7, 2016.", "In 2016 all began, on 7 February."),
        ("en", "In February 2016 it began.", "It began on 2016-02-07."),
        ("en", "It costs £12.9.", "It costs £12.90."),
        ("en", "It opens at 9:30.", "Open from 9:30 on."),
        ("en", "Napoleon's army crossed Málaga.", "The army of napoleon was in Malaga."),
        ("en", "The Norman kings ruled.", "Normans were kings."),
        ("ja", "ナポレオンはパリに住んだ。", "ナポレオンの家はパリにある。"),
        ("ja", "田中さんが作った。", "作者は田中太郎。"),
        ("ko", "NASA가 발사했다.", "NASA 발사"),
    ],
)  # fmt: skip
def test_the_same_in_other_words(lang: str, sentence: str, passage: str) -> None:
    assert unstated(sentence, passage, lang) == []


@pytest.mark.parametrize(
    ("lang", "sentence", "passage", "lost"),
    [
        ("en", "It has 3 million users.", "It has 3 thousand users.", ["3 million"]),
        ("en", "The warranty is two years.", "A warranty of three years.", ["two"]),
        ("en", "It began in March 2016.", "It began on February 7, 2016.", ["March 2016"]),
        ("en", "It began on February 8.", "It began on February 7, 2016; 8 came.", ["February 8"]),
        ("en", "It opens at 9:30.", "It opens at 9:45, on 30 days.", ["9:30"]),
        ("en", "The team beat Denver.", "The team beat Carolina.", ["Denver"]),
        ("en", "Marie Curie found it.", "Pierre Curie found it.", ["Marie"]),
        ("en", "It uses IPv6.", "It uses IPv4.", ["IPv6", "6"]),
        ("es", "Fue en Sevilla.", "Fue en Granada.", ["Sevilla"]),
        ("es", "Costó 1.500 euros.", "Costó 15.000 euros.", ["1.500"]),
        ("ja", "会議は5月3日です。", "会議は5月8日です。", ["5月3日"]),
        ("ja", "テントの保証です。", "ランプの保証です。", ["テント"]),
        ("ja", "鈴木さんが作った。", "田中さんが作った。", ["鈴木"]),
        ("ja", "二十年前です。", "三十年前です。", ["二十"]),
        ("ko", "2015년 3월입니다.", "2015년 4월입니다.", ["2015년 3월"]),
        ("ko", "박지성 선수가 뛰었다.", "손흥민 선수가 뛰었다.", ["박지성"]),
        ("ko", "가격은 5만 원입니다.", "가격은 5천 원입니다.", ["5만"]),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(lang: str, sentence: str, passage: str, lost: list[str]) -> None:
    assert sorted(unstated(sentence, passage, lang)) == sorted(lost)


def test_a_capital_that_only_opens_a_sentence_is_no_name() -> None:
    assert names("Returns are free. Shipping is not: Items stay.", "en") == []
    assert names("The Shop of Anna O'Neil uses NASA maps.", "en") == ["Shop", "Anna", "O'Neil", "NASA"]
    assert names("Der Versand nach Wien kostet Geld, sagt die ÖBB.", "de") == ["ÖBB"]
