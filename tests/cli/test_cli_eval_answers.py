"""`citewell eval answers`: on the shop, against a service, with a gate, and killed in the middle."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import SHOP, Terminal
from tests.service.test_answer_score import without_times

QUESTIONS = ("--questions", str(SHOP))
QUESTIONS_KILLED = 120


@pytest.fixture(scope="module")
def measured(shop_load: tuple[Terminal, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A report of the shop as files, and as it was printed."""
    folder = tmp_path_factory.mktemp("answers")
    named = [word for name in ("r.json", "r.md", "r.html") for word in ("--out", str(folder / name))]
    words = ("eval", "answers", *QUESTIONS, "--limit", "40", "--conditions", "rag,closed-book,oracle")
    return folder, shop_load[0].json(*words, *named)


def test_the_report_answers_the_question_in_words(measured: tuple[Path, Any]) -> None:
    folder, found = measured
    assert json.loads((folder / "r.json").read_text("utf-8")) == found
    assert found["verdict"][0].startswith("Retrieval helps `extractive`")
    assert set(found["figures"]) == {"extractive rag", "extractive closed-book", "extractive oracle"}
    rag = found["figures"]["extractive rag"]
    assert set(rag) == {"all", "en", "es", "ja", "ko"}
    assert rag["all"]["citation precision"]["value"] > 0.75
    assert rag["all"]["supported"]["value"] > 0.9
    assert found["figures"]["extractive oracle"]["all"]["evidence recall"]["value"] > 0.9
    assert found["cells"]["extractive rag"]["ms"]["p95"] >= found["cells"]["extractive rag"]["ms"]["p50"] > 0
    assert len(found["worst"]) == 20
    assert found["sample"] and all(one["given"][0]["citations"] for one in found["sample"])
    text = (folder / "r.md").read_text("utf-8")
    assert found["verdict"][0] in text and "| extractive rag | ja |" in text
    page = (folder / "r.html").read_text("utf-8")
    assert "<svg" in page and "<mark>" in page and "src=" not in page and "<script" not in page


def test_nothing_is_left_of_a_run_that_came_to_its_end(shop: Terminal, measured: tuple[Path, Any]) -> None:
    assert not list((shop.folder / "evaluations").glob("*"))


def test_the_gate_holds_and_falls(shop: Terminal, measured: tuple[Path, Any], tmp_path: Path) -> None:
    folder, found = measured
    some = ("eval", "answers", *QUESTIONS, "--limit", "40", "--conditions", "rag")
    only = {"figures": {"extractive rag": found["figures"]["extractive rag"]}}
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps(only), "utf-8")
    assert "extractive rag" in shop.run(*some, "--baseline", str(kept)).stdout
    only["figures"]["extractive rag"]["all"]["supported"]["value"] += 0.05
    only["figures"]["extractive rag"]["ko"]["F1"] = {"value": 0.99}
    kept.write_text(json.dumps(only), "utf-8")
    said = shop.run(*some, "--baseline", str(kept), "--fail-below", "0.02", status=1).stderr
    assert "supported of extractive rag, all" in said
    assert "F1 of extractive rag, ko" in said
    assert folder.exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ((), 2, "--questions, or --corpus"),
        ((*QUESTIONS, "--generators", "extractive,gpt"), 1, "there is no generator `gpt`"),
        ((*QUESTIONS, "--conditions", "rag,openbook"), 1, "there is no condition `openbook`"),
        ((*QUESTIONS, "--conditions", "fine-tuned"), 1, "which generator is the fine-tuned one"),
        ((*QUESTIONS, "--fine-tuned", "extractive"), 2, "is not NAME=TUNED"),
        ((*QUESTIONS, "--out", "report.pdf"), 1, "cannot be written as report.pdf"),
        (("--questions", "absent.jsonl"), 1, "absent.jsonl cannot be read"),
        (("--corpus", str(SHOP), "--url", "http://127.0.0.1:9"), 2, "an index of its own"),
        ((*QUESTIONS, "--url", "http://127.0.0.1:9"), 1, "no service answers"),
    ],
)
def test_what_is_wrong_is_told(shop: Terminal, words: tuple[str, ...], status: int, said: str) -> None:
    assert said in shop.json("eval", "answers", *words, status=status)["error"]["message"]


def test_questions_without_what_they_need(shop: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "Who pays for the label?", "answers": ["we do"]}\n', "utf-8")
    said = shop.json("eval", "answers", "--questions", str(file), "--conditions", "oracle", status=1)["error"]
    assert "condition `oracle` needs the relevant documents" in said["message"]
    file.write_text('{"question": "Who pays for the label?"}\n', "utf-8")
    assert "line 1" in shop.json("eval", "answers", "--questions", str(file), status=1)["error"]["message"]


def test_an_empty_index_is_told(terminal: Terminal) -> None:
    assert "no documents" in terminal.json("eval", "answers", *QUESTIONS, status=1)["error"]["message"]


@pytest.fixture
def many(tmp_path: Path) -> Iterator[tuple[Terminal, Path]]:
    """Sixty loaded documents, and two questions about each."""
    terminal = Terminal(tmp_path / "data")
    words = ("lamp", "tent", "kettle", "stove", "anchor", "ladder")
    documents, questions = [], []
    for number in range(QUESTIONS_KILLED // 2):
        thing, metres = words[number % 6], 100 + number
        documents.append({"_id": f"d{number}", "text": f"The {thing} of type {metres} weighs {number + 3} kilograms."})
        for asked in (f"How much does the {thing} of type {metres} weigh?", f"What is the weight of type {metres}?"):
            answers = [f"{number + 3} kilograms"]
            questions.append({"question": asked, "lang": "en", "answers": answers, "relevant": [f"d{number}"]})
    for name, rows in (("d.jsonl", documents), ("q.jsonl", questions)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert terminal.json("ingest", str(tmp_path / "d.jsonl"))["counts"]["added"] == len(documents)
    yield terminal, tmp_path / "q.jsonl"


def asked_so_far(terminal: Terminal) -> int:
    with sqlite3.connect(next(terminal.folder.glob("*answers*.sqlite"))) as store:
        return int(store.execute("SELECT count(*) FROM answers").fetchone()[0])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_that_was_killed_goes_on(many: tuple[Terminal, Path], tmp_path: Path) -> None:
    """Three times killed in the middle: the same figures as undisturbed, and every question asked once."""
    terminal, questions = many
    words = ("eval", "answers", "--questions", str(questions), "--conditions", "rag,oracle")
    whole = terminal.json(*words)
    before = asked_so_far(terminal)
    assert before == 2 * QUESTIONS_KILLED
    for reached in (30, 90, 150):
        process = terminal.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_answers(process, terminal.folder / "evaluations", reached)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    out = tmp_path / "r.json"
    resumed = terminal.run(*words, "--out", str(out))
    assert "resumed: " in resumed.stderr
    assert without_times(json.loads(out.read_text("utf-8"))) == without_times(whole)
    assert asked_so_far(terminal) == 2 * before, "nothing was asked twice"
    assert not list((terminal.folder / "evaluations").glob("*"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_run_does_not_go_on_with_other_documents(many: tuple[Terminal, Path], tmp_path: Path) -> None:
    terminal, questions = many
    words = ("eval", "answers", "--questions", str(questions), "--conditions", "rag")
    process = terminal.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_answers(process, terminal.folder / "evaluations", 5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (tmp_path / "more.jsonl").write_text('{"_id": "e", "text": "The rope of type 9 weighs 8 kilograms."}\n', "utf-8")
    assert terminal.json("ingest", str(tmp_path / "more.jsonl"))["counts"]["added"] == 1
    said = terminal.json(*words, status=1)["error"]
    assert f"documents {QUESTIONS_KILLED // 2}, now {QUESTIONS_KILLED // 2 + 1}" in said["message"]
    assert "--fresh" in said["remedy"]
    assert terminal.json(*words, "--fresh")["questions"] == QUESTIONS_KILLED


def wait_for_answers(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = list(folder.glob("*/answers.jsonl"))
        if files and files[0].read_bytes().count(b"\n") > count:
            return
        assert process.poll() is None, "it came to its end before it was killed"
        time.sleep(0.005)
    raise AssertionError(f"no {count} answers within two minutes")


def test_a_collection_stays_apart_from_the_users_index(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "d", "text": "The hen is red, and the fox is grey."}\n', "utf-8")
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "Is the hen red?", "answers": ["red"]}\n', "utf-8")
    (folder / "qrels" / "test.tsv").write_text("q\td\t1\n", "utf-8")
    found = terminal.json("eval", "answers", "--corpus", str(folder), "--conditions", "rag,oracle")
    assert found["figures"]["extractive oracle"]["all"]["citation recall"]["value"] == 1
    assert list(terminal.folder.rglob("*")) == [terminal.folder / "evaluations"], "nothing is left, and nothing else"
