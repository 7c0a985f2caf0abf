"""`citewell info`: what works, and what the embedder cannot do."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.terminal import Terminal


def test_it_says_what_the_embedder_cannot_do(english_shop: Terminal) -> None:
    text = " ".join(english_shop.run("info").stdout.split())
    assert "speaks en" in text
    assert "ja bm25 100 all-MiniLM-L6-v2 does not speak ja" in text
    assert "en minmax 0.5 100 settings" in text
    assert "53 documents" in text
    assert "vectors int8_hnsw" in text
    assert re.search(r"reader packaged, weights [0-9a-f]{12}; reads en", text)


def test_a_reader_is_named_or_its_want_is_told(shop: Terminal, tmp_path: Path) -> None:
    none = shop.with_settings(reader="")
    assert "reader" not in none.json("info")["extractive"]
    assert "reader none: `extractive` ranks sentences" in " ".join(none.run("info").stdout.split())
    for name in ("packaged", "auto"):
        text = " ".join(shop.with_settings(reader=name).run("info").stdout.split())
        assert re.search(r"reader packaged, weights [0-9a-f]{12}; reads en", text)
    wrong = shop.with_settings(reader=str(tmp_path / "nothing"))
    told = wrong.json("info")["extractive"]
    assert (told["ok"], told["code"]) == (False, "reader_unavailable")
    assert "cannot be read" in " ".join(wrong.run("info").stdout.split())
    refused = wrong.run("ask", "Who pays for the return label?", status=1).stderr
    assert "nothing" in refused
    assert "Traceback" not in refused


def test_it_is_what_the_service_answers(shop: Terminal, english_shop: Terminal) -> None:
    found = english_shop.json("info")
    assert found["index"]["documents"] == 53
    assert found["retrieval"]["languages"]["ko"]["method"] == "bm25"
    found = shop.json("info")
    assert found["embedder"]["name"] == found["index"]["fingerprint"]["embedder"] == "citewell-multilingual"
    assert found["index"]["documents"] == 53
    assert found["retrieval"]["languages"]["ko"]["method"] == "minmax"


def test_a_language_that_the_operator_declares_is_searched_by_both_legs(english_shop: Terminal) -> None:
    told = Terminal(english_shop.folder, embedder="packaged", embedder_languages="en,es")
    there = told.json("info")["retrieval"]["languages"]
    assert (there["es"]["method"], there["ja"]["method"]) == ("minmax", "bm25")
