"""Rating answers, the figures of ratings, and judged questions made of them."""

from __future__ import annotations

from pathlib import Path

from tests.cli.terminal import Terminal

TEXT = "# Warranty\n\nThe warranty of every lamp lasts two years. Keep the receipt.\n"
QUESTION = "How long does the warranty of a lamp last?"


def _asked(terminal: Terminal, tmp_path: Path) -> str:
    (tmp_path / "lamp.md").write_text(TEXT)
    terminal.run("ingest", str(tmp_path / "lamp.md"))
    answer = terminal.json("ask", QUESTION)
    assert "two years" in answer["answer"]
    return str(answer["id"])


def test_from_an_answer_to_a_judged_question(terminal: Terminal, tmp_path: Path) -> None:
    assert "No answer has been judged" in terminal.run("eval", "feedback").stdout
    answer_id = _asked(terminal, tmp_path)
    told = terminal.json("answers", "rate", answer_id, "5", "--comment", "Yes.")
    assert (told["rating"], told["comment"]) == (5, "Yes.")
    (row,) = terminal.json("eval", "feedback", "--by", "all")["figures"]
    assert (row["generator"], row["judged"], row["rating"], row["good"]) == ("extractive", 1, 5.0, 1.0)
    shown = terminal.run("eval", "feedback").stdout
    assert "extractive" in shown
    assert "100%" in shown
    out = tmp_path / "judged"
    found = terminal.json("eval", "export", "--out", str(out))
    assert (found["judged"], found["documents"]) == (1, 1)
    files = ("--queries", str(out / "queries.jsonl"), "--qrels", str(out / "qrels" / "test.tsv"))
    measured = terminal.json("eval", "retrieval", *files, "--mode", "bm25")
    assert measured["questions"] == 1
    assert next(iter(measured["figures"].values()))["en"]["R@10"]["value"] == 1.0
    again = terminal.run("eval", "export", "--out", str(out))
    assert "1 judged questions" in again.stdout


def test_what_cannot_be_judged_or_exported_is_told(terminal: Terminal, tmp_path: Path) -> None:
    answer_id = _asked(terminal, tmp_path)
    assert terminal.json("answers", "rate", "f" * 32, "3", status=1)["error"]["code"] == "unknown_answer"
    error = terminal.json("answers", "rate", answer_id, "3", "--passage", "lamp.md#99", status=1)["error"]
    assert "lamp.md#99" in error["message"]
    assert terminal.run("answers", "rate", answer_id, "6", status=2)
    assert terminal.json("eval", "export", "--out", str(tmp_path / "out"), status=1)["error"]["code"] == "bad_input"
    terminal.run("answers", "rate", answer_id, "5")
    error = terminal.json("eval", "export", "--out", str(tmp_path), status=1)["error"]
    assert "something else" in error["message"]
    assert terminal.json("eval", "feedback", "--days", "1", "--by", "month")["figures"] != []
