"""`citewell ask --after`: follow-up questions at a terminal."""

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
