"""Citations: only what is really there is cited."""

from __future__ import annotations

import pytest

from citewell.cite import cite, exact_words, with_exact
from citewell.prompt import ABSTENTIONS
from citewell.records import Evidence, Hit, Passage
from citewell.support import find_support
from citewell.text import sentences

TEXTS = {
    1: "# Returns\n\nYou can return most items within 30 days. Outlet items have 14 days.",
    2: "Shipping to the islands takes 7 to 10 working days. It costs £12.90.",
    3: "返品は商品到着から30日以内に承ります。送料はお客様のご負担です。",
    4: "반품은 수령일로부터 30일 이내에 가능합니다. 배송비는 고객 부담입니다.",
}


def evidence() -> Evidence:
    hits = []
    for rank, text in TEXTS.items():
        passage = Passage(
            id=f"doc{rank}#2",
            doc_id=f"doc{rank}",
            ordinal=2,
            start=100,
            end=100 + len(text),
            text=text,
            title=f"T{rank}",
        )
        hits.append(Hit(passage=passage, rank=rank, score=1.0 / rank))
    return Evidence(hits=tuple(hits))


def markers(text: str, lang: str = "en") -> list[tuple[int, int, str]]:
    return [(c.sentence, c.marker, c.quote) for c in cite(text, evidence(), lang).citations]


def test_a_verbatim_sentence_is_cited_with_offsets_in_passage_and_document() -> None:
    draft = cite("You can return most items within 30 days. [1]", evidence(), "en")
    (citation,) = draft.citations
    text = TEXTS[1]
    assert text[citation.passage_start : citation.passage_end] == citation.quote
    assert citation.start == 100 + citation.passage_start
    assert citation.quote == "You can return most items within 30 days."
    assert (citation.support, citation.doc_id, citation.title) == (1.0, "doc1", "T1")
    assert draft.text == "You can return most items within 30 days. [1]"
    assert [s.supported for s in draft.sentences] == [True]


def test_a_paraphrase_is_cited_by_the_sentence_that_supports_it() -> None:
    assert markers("Most items can be returned within 30 days [1].") == [
        (0, 1, "You can return most items within 30 days.")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "You can return most items within 60 days. [1]",  # a number that the passage does not hold
        "You can return most items within 30 days. [9]",  # no such passage
        "You can return most items within 30 days. [2]",  # the wrong passage
        "Our founder likes sailing in the summer. [1]",  # nothing to do with it
        "Most items can be returned within 30 days.",  # no marker: none is invented
    ],
)
def test_a_marker_that_does_not_hold_is_removed_and_the_sentence_flagged(text: str) -> None:
    draft = cite(text, evidence(), "en")
    assert draft.citations == ()
    assert "[" not in draft.text
    assert [s.supported for s in draft.sentences] == [False]


def test_of_several_markers_those_that_hold_stay() -> None:
    draft = cite("You can return most items within 30 days. [1][2] It costs £12.90. [2, 7]", evidence(), "en")
    assert draft.text == "You can return most items within 30 days. [1] It costs £12.90. [2]"
    assert [(c.sentence, c.marker) for c in draft.citations] == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("lang", "text", "marker"),
    [
        ("ja", "返品は商品到着から30日以内に承ります。[3]", 3),
        ("ja", "返品は到着から30日以内です。[3]", 3),
        ("ko", "반품은 수령일로부터 30일 이내에 가능합니다. [4]", 4),
    ],
)
def test_other_languages(lang: str, text: str, marker: int) -> None:
    (citation,) = cite(text, evidence(), lang).citations
    assert citation.marker == marker
    assert citation.quote in TEXTS[marker]


def test_sentences_span_the_text_with_their_markers() -> None:
    draft = cite("You can return most items within 30 days. [1] It costs £12.90. [2]", evidence(), "en")
    pieces = [draft.text[s.start : s.end] for s in draft.sentences]
    assert pieces == ["You can return most items within 30 days. [1]", "It costs £12.90. [2]"]


@pytest.mark.parametrize("lang", list(ABSTENTIONS))
def test_an_abstention_is_one(lang: str) -> None:
    draft = cite(ABSTENTIONS[lang], evidence(), lang)
    assert draft.abstained
    assert draft.citations == ()


def test_an_empty_answer_abstains_in_the_language_of_the_question() -> None:
    assert cite("  ", evidence(), "es").text == ABSTENTIONS["es"]


def test_support_takes_the_shortest_span_that_is_best() -> None:
    span = find_support("Shipping to islands takes 7 to 10 working days", evidence().hits[1].passage, "en")
    assert span is not None
    assert TEXTS[2][span.start : span.end] == "Shipping to the islands takes 7 to 10 working days."


def test_newlines_of_an_answer_survive() -> None:
    draft = cite("It costs £12.90. [2]\n\nOutlet items have 14 days. [1]", evidence(), "en")
    assert draft.text == "It costs £12.90. [2]\n\nOutlet items have 14 days. [1]"


def test_headings_table_headers_and_rules_are_no_sentences() -> None:
    text = "# Hours\n\n| Day | Open |\n| --- | --- |\n| Sunday | 11 to 17 |\n\n- We close at Easter. Sorry!\n\n---\n"
    assert [text[a:b] for a, b in sentences(text, "en")] == ["Sunday | 11 to 17", "We close at Easter.", "Sorry!"]


def test_a_full_stop_before_a_figure_ends_a_japanese_sentence() -> None:
    text = "14日以内です。11月から承ります。「はい。」と答えた。"
    assert [text[a:b] for a, b in sentences(text, "ja")][:2] == ["14日以内です。", "11月から承ります。"]


def test_a_citation_names_page_and_the_headings_above_its_quote() -> None:
    text = "## Fees\n\nIt costs ten euros.\n\n### Islands\n\nThere it costs twelve euros.\n\n# Help\n\nCall us at noon."
    passage = Passage(
        id="d#3", doc_id="d", ordinal=3, start=50, end=50 + len(text), text=text, heading="Shipping > Fees", page=7
    )
    evidence = Evidence(hits=(Hit(passage=passage, rank=1, score=1.0),))
    draft = cite("It costs ten euros. [1] There it costs twelve euros. [1] Call us at noon. [1]", evidence, "en")
    assert [(c.heading, c.page) for c in draft.citations] == [
        ("Shipping > Fees", 7), ("Shipping > Fees > Islands", 7), ("Help", 7)
    ]  # fmt: skip
    below = passage.model_copy(update={"text": text.partition("\n\n")[2], "heading": "Shipping > Fees"})
    draft = cite(
        "It costs ten euros. [1] There it costs twelve euros. [1]",
        Evidence(hits=(Hit(passage=below, rank=1, score=1.0),)),
        "en",
    )
    assert [c.heading for c in draft.citations] == ["Shipping > Fees", "Islands"]


def test_words_that_answer_are_named_where_a_citation_quotes_them() -> None:
    found = evidence()
    draft = cite("You can return most items within 30 days. [1]", found, "en")
    text = TEXTS[1]
    inside, outside = text.index("30 days"), text.index("14 days")
    sure, unsure = text.index("most items"), text.index("14 days")
    named = [
        exact_words(found.hits[0], inside, inside + 7, 0.5),
        exact_words(found.hits[0], outside, outside + 7, 0.9),
        exact_words(found.hits[0], sure, sure + 10, 0.6),
        exact_words(found.hits[1], unsure, unsure + 7, 0.9),
    ]
    exact = with_exact(draft, named).exact
    assert [(one.text, one.marker, one.probability) for one in exact] == [("most items", 1, 0.6), ("30 days", 1, 0.5)]
    assert [one.start - one.passage_start for one in exact] == [100, 100]
    assert with_exact(cite("It is 60 days. [1]", found, "en"), named).exact == ()
