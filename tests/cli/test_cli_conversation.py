"""`citewell ask --after` and `citewell search --after`: follow-up questions at a terminal."""

from __future__ import annotations

from tests.cli.terminal import Terminal


def test_a_follow_up_is_asked_after_a_question_or_the_answer_to_one(shop: Terminal) -> None:
    before = "Is the Beacon L4 lamp any good?"
    first = shop.json("ask", "How much does it weigh?", "--lang", "en", "--after", before)
    assert first["question"]["rewriting"]["text"] == "How much does it weigh? (Beacon L4)"
    assert first["citations"][0]["doc_id"] == "en/guide-lamp.html"
    second = shop.json("ask", "And how much does it cost?", "--lang", "en", "--after", first["id"])
    assert "Beacon L4" in second["question"]["rewriting"]["text"]
    shown = shop.run("ask", "How much does it weigh?", "--lang", "en", "--after", before)
    assert "asked as: How much does it weigh? (Beacon L4)" in shown.stdout


def test_a_follow_up_is_searched_for_as_it_is_asked(shop: Terminal) -> None:
    before = "Is the Beacon L4 lamp any good?"
    question = ("How much does it weigh?", "--lang", "en")
    alone = shop.json("search", *question)
    assert alone["asked"] == ""
    found = shop.json("search", *question, "--after", before)
    assert found["asked"] == "How much does it weigh? (Beacon L4)"
    assert found["hits"][0]["passage"]["doc_id"] == "en/guide-lamp.html"
    assert found["hits"][0] != alone["hits"][0], "its conversation finds it"
    answer = shop.json("ask", *question, "--after", before)
    assert answer["evidence"]["asked"] == found["asked"]
    assert answer["evidence"]["hits"][0]["passage"]["doc_id"] == "en/guide-lamp.html"
    by_id = shop.json(
        "search", "And how much does it cost?", "--lang", "en", "--after", before, "--after", answer["id"]
    )
    assert "Beacon L4" in by_id["asked"]
    assert "asked as: How much does it weigh? (Beacon L4)" in shop.run("search", *question, "--after", before).stdout
    assert "asked as" not in shop.run("search", *question).stdout
    gone = shop.json("search", *question, "--after", "0" * 32, status=1)
    assert gone["error"]["code"] == "unknown_answer"
