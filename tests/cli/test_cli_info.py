"""`citewell info`: what works, and what the embedder cannot do."""

from __future__ import annotations

from tests.cli.terminal import Terminal


def test_it_says_what_the_embedder_cannot_do(shop: Terminal) -> None:
    text = " ".join(shop.run("info").stdout.split())
    assert "speaks en" in text
    assert "ja bm25 100 all-MiniLM-L6-v2 does not speak ja" in text
    assert "en minmax 0.5 100 settings" in text
    assert "53 documents" in text
    assert "vectors int8_hnsw" in text


def test_it_is_what_the_service_answers(shop: Terminal) -> None:
    found = shop.json("info")
    assert found["index"]["documents"] == 53
    assert found["retrieval"]["languages"]["ko"]["method"] == "bm25"


def test_a_language_that_the_operator_declares_is_searched_by_both_legs(shop: Terminal) -> None:
    there = shop.with_settings(embedder_languages="en,es").json("info")["retrieval"]["languages"]
    assert (there["es"]["method"], there["ja"]["method"]) == ("minmax", "bm25")
