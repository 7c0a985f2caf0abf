"""Printed lines become text: whole sentences, exact page offsets, no running headers, nothing else lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from citewell.paged import running_text

WIDE = "A line that is as wide as the paper is, with many words on"


def test_lines_become_paragraphs_and_a_sentence_goes_on_behind_its_page() -> None:
    pages = [f"Shipping\r\n{WIDE}\r\nit. A new one.\r\n• first\r\n• second item\r\n{WIDE}", "the next page. End."]
    text, offsets = running_text(pages, [{"SHIPPING": 2}])
    assert text == f"## Shipping\n\n{WIDE} it. A new one.\n- first\n- second item\n{WIDE} the next page. End."
    assert [text[at:][:8] for at in offsets] == ["## Shipp", "the next"]


def test_words_cut_at_a_line_s_end_and_japanese_are_joined_without_a_space() -> None:
    assert (
        running_text(["A warehouse is insured in its iden\x02tifier."])[0]
        == "A warehouse is insured in its identifier."
    )
    assert (
        running_text(["返品は商品の到着から三十日以\n内にお申し込みください。"])[0]
        == "返品は商品の到着から三十日以内にお申し込みください。"
    )


def test_a_running_header_stays_once_and_page_numbers_go() -> None:
    pages = [f"The manual\nWords of page {word}.\n{number}" for number, word in enumerate(["one", "two", "three"], 1)]
    text, offsets = running_text(pages)
    assert text == "The manual\nWords of page one.\n\nWords of page two.\n\nWords of page three."
    assert len(offsets) == 3
    assert running_text(["Invoice 17\nx", "Invoice 18\ny"])[0].count("Invoice") == 2


LINES = st.lists(st.text(st.sampled_from("ab .•-1é返。\n"), max_size=12), max_size=8).map("\n".join)


@given(st.lists(LINES, max_size=6))
def test_offsets_are_in_order_and_no_letter_is_lost(pages: list[str]) -> None:
    text, offsets = running_text(pages)
    assert len(offsets) == len(pages)
    assert list(offsets) == sorted(offsets)
    assert all(0 <= at <= len(text) for at in offsets)
    if len(pages) < 3:
        letters = [c for c in "".join(pages) if c in "abé返1"]
        assert [c for c in text if c in "abé返1"] == letters
