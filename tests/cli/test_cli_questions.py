"""`citewell search`, `ask` and `answer` on the example shop, with the packaged embedder."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len

from citewell.answers.sqlite import SqliteAnswers
from citewell.cli.ask import _await
from citewell.cli.options import filters_of
from citewell.config import Settings
from citewell.engine import build
from citewell.records import Evidence, Failure, Hit, Job, Passage, Question
from tests.cli.terminal import SHOP, Terminal

QUESTIONS = {
    item["lang"]: item
    for item in map(json.loads, (SHOP / "queries.jsonl").read_text("utf-8").splitlines())
    if item["_id"] in ("en-02", "es-01", "ja-02", "ko-01")
}
PASSAGE = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=9, text="It works.")


def _store(terminal: Terminal) -> SqliteAnswers:
    store = SqliteAnswers(Settings(data_dir=terminal.folder))
    store.load()
    return store


def _job(answer_id: str) -> Job:
    evidence = Evidence(hits=(Hit(passage=PASSAGE, rank=1, score=1.0),))
    return Job(answer_id=answer_id, question=Question(text="Does it?"), evidence=evidence, created_at=time.time())


# Search


def test_search_shows_both_legs_beside_the_fused_list(shop: Terminal) -> None:
    found = shop.json("search", "how long do I have to return something", "--k", "4")
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4]
    assert found["hits"][0]["passage"]["doc_id"] == "en/returns.md"
    assert set(found["hits"][0]["legs"]) == {"bm25", "dense"}
    assert all("groups" not in key for key in found)
    text = shop.run("search", "how long do I have to return something", "--k", "4").stdout
    first = found["hits"][0]
    assert text.split()[:5] == ["#", "score", "bm25", "dense", "passage"]
    assert f"{first['score']:.3f}" in text
    assert all(f"{leg['score']:.3f}" in text for leg in first["legs"].values())
    assert first["passage"]["id"] in text
    assert first["passage"]["title"] in text
    assert all(cell_len(line) <= 100 for line in text.splitlines())


def test_search_explains_every_part_of_a_rank(shop: Terminal) -> None:
    words = ("search", "how long do I have to return something", "--k", "3", "--filter", "lang=en")
    found = shop.json(*words)
    text = shop.run(*words, "--explain").stdout
    for hit in found["hits"]:
        assert sum(leg["part"] for leg in hit["legs"].values()) == pytest.approx(hit["fused"])
        assert f"{hit['rank']}. {hit['passage']['id']}: {hit['fused']:.4f} = " in text
        assert all(f"{leg['part']:.4f} (rank {leg['rank']}, " in text for leg in hit["legs"].values())
    assert "fusion: method minmax, alpha 0.5, source settings; each leg ranked 100" in text
    assert 'filters, in both legs: {"lang":["en"]}' in text
    assert found["index_version"] in text


@pytest.mark.parametrize(("mode", "legs"), [("bm25", {"bm25"}), ("dense", {"dense"})])
def test_search_with_one_leg(shop: Terminal, mode: str, legs: set[str]) -> None:
    found = shop.json("search", "delivery to the islands", "--mode", mode)
    assert found["mode"] == mode
    assert {leg for hit in found["hits"] for leg in hit["legs"]} == legs


def test_filters(shop: Terminal) -> None:
    both = ("--filter", "metadata.section=returns", "--filter", "metadata.section=delivery", "--filter", "lang=en")
    found = shop.json("search", "delivery", "--k", "50", *both)
    passages = [hit["passage"] for hit in found["hits"]]
    assert {passage["metadata"]["section"] for passage in passages} == {"returns", "delivery"}
    assert {passage["lang"] for passage in passages} == {"en"}
    found = shop.json("search", "delivery", "--filter", "doc_id=en/shipping.md")
    assert {hit["passage"]["doc_id"] for hit in found["hits"]} == {"en/shipping.md"}
    result = shop.run("search", "delivery", "--filter", "lang=xx")
    assert result.stdout == "No passage fits the question.\n"


def test_filter_values_have_types() -> None:
    pairs = ["metadata.n=5", "metadata.n=1.50", "metadata.b=true", "metadata.s=x=y", 'metadata.q="5"', "metadata.z=NaN"]
    assert filters_of(pairs).metadata == {
        "n": (5, 1.5, "1.50"),
        "b": (True,),
        "s": ("x=y",),
        "q": ("5",),
        "z": ("NaN",),
    }
    assert filters_of(["lang=en", "lang=es", "doc_id=7"]).lang == ("en", "es")


@pytest.mark.parametrize("words", [("x", "--filter", "lang"), ("x", "--filter", "colour=red"), ("x", "--k", "0")])
def test_a_command_line_that_cannot_be_understood(shop: Terminal, words: tuple[str, ...]) -> None:
    for command in ("search", "ask"):
        assert shop.json(command, *words, status=2)["error"]["code"] == "usage"
        assert f"citewell {command} --help".replace("citewell", "") in shop.run(command, *words, status=2).stderr


# Ask


@pytest.mark.parametrize("lang", ["en", "es", "ja", "ko"])
def test_an_answer_in_each_language_is_proved(shop: Terminal, lang: str) -> None:
    answer = shop.json("ask", QUESTIONS[lang]["text"])
    assert answer["state"] == "done"
    assert answer["question"]["lang"] == lang
    assert not answer["abstained"]
    assert answer["citations"]
    passages = {hit["passage"]["id"]: hit["passage"] for hit in answer["evidence"]["hits"]}
    for citation in answer["citations"]:
        passage = passages[citation["passage_id"]]
        assert passage["lang"] == lang
        assert passage["text"][citation["passage_start"] : citation["passage_end"]] == citation["quote"]

    text = shop.run("ask", QUESTIONS[lang]["text"]).stdout
    first = answer["citations"][0]
    flat = "".join(text.split())
    assert first["heading"]
    for shown in (
        first["quote"], first["title"], first["url"], first["heading"], f"{first['start']}-{first['end']}"
    ):  # fmt: skip
        assert "".join(shown.split()) in flat
    assert f"[{first['marker']}]" in text
    assert f"support {first['support']:.2f}" in text
    assert all(cell_len(line) <= 100 for line in text.splitlines())


def test_what_the_documents_do_not_answer(shop: Terminal) -> None:
    question = "Who won the football world cup in Uruguay?"
    answer = shop.json("ask", question)
    assert answer["abstained"]
    assert answer["citations"] == []
    text = shop.run("ask", question).stdout
    assert "Not answered" in text
    nearest = list(dict.fromkeys(hit["passage"]["doc_id"] for hit in answer["evidence"]["hits"]))[:3]
    by_id = {hit["passage"]["doc_id"]: hit["passage"] for hit in answer["evidence"]["hits"]}
    told = text.split("Nearest documents:")[1]
    assert all(by_id[doc_id]["title"] in told for doc_id in nearest), "a reader is told where to look on"


def test_limits_of_a_question_reach_the_search(shop: Terminal) -> None:
    words = ("--k", "2", "--mode", "bm25", "--lang", "en", "--filter", "metadata.section=returns")
    evidence = shop.json("ask", "How long do I have?", *words)["evidence"]
    assert len(evidence["hits"]) <= 2
    assert evidence["mode"] == "bm25"
    assert {hit["passage"]["metadata"]["section"] for hit in evidence["hits"]} == {"returns"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("",), "invalid_question"),
        (("?!",), "invalid_question"),
        (("word " * 1000,), "invalid_question"),
        (("Which?", "--generator", "oracle"), "unknown_generator"),
    ],
)
def test_questions_that_are_refused(shop: Terminal, words: tuple[str, ...], code: str) -> None:
    error = shop.json("ask", *words, status=1)["error"]
    assert error["code"] == code
    assert error["remedy"]


def test_an_empty_index_is_told(terminal: Terminal) -> None:
    for words in (("search", "kettle"), ("ask", "Which kettle?"), ("ask", "Which kettle?", "--no-wait")):
        error = terminal.json(*words, status=1)["error"]
        assert "holds no documents" in error["message"]
        assert "citewell ingest" in error["remedy"]
    states = _store(terminal).info()["answers"]
    assert "queued" not in states
    assert "running" not in states


def test_ask_without_waiting_then_answer(shop: Terminal) -> None:
    patient = shop.with_settings(lease_seconds="1")
    result = patient.run("ask", "Where is the shop in Bristol?", "--no-wait")
    answer_id = result.stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{32}", answer_id)
    answer = patient.json("answers", "show", answer_id, "--wait", "60")
    assert answer["state"] == "done"
    assert answer["id"] == answer_id
    assert answer_id in patient.run("answers", "show", answer_id).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_worker_answers_what_was_left(shop: Terminal, tmp_path: Path) -> None:
    swift = shop.with_settings(lease_seconds="1")
    store = _store(shop)
    evidence = Evidence.model_validate(shop.json("search", "gift card"))
    question = Question(text="How long is a gift card valid?", lang="en")
    store.create(Job(answer_id="left-behind", question=question, evidence=evidence, created_at=time.time()))
    with (tmp_path / "log").open("w+", encoding="utf-8") as log:
        worker = swift.start("worker", "--json", stderr=log)
        deadline = time.monotonic() + 120
        while not store.get("left-behind").state.final and time.monotonic() < deadline:
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        stdout, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0
        log.seek(0)
        lines = [json.loads(line) for line in log]
    assert stdout == ""
    assert store.get("left-behind").state == "done"
    assert {"worker_ready", "answer_finished", "worker_stopping"} <= {line["event"] for line in lines}
    store.close()


# Answer


def test_an_answer_that_is_not_there_and_one_that_was_stopped(terminal: Terminal) -> None:
    store = _store(terminal)
    store.create(_job("waiting"))
    store.create(_job("stopped"))
    store.cancel("stopped")
    store.close()
    assert "is not there yet" in terminal.run("answers", "show", "waiting").stderr
    assert terminal.json("answers", "show", "waiting")["state"] == "queued"
    assert "cancelled" in terminal.run("answers", "show", "stopped", status=1).stderr
    assert terminal.json("answers", "show", "stopped", status=1)["state"] == "cancelled"


def test_a_failed_answer_gives_its_reason(terminal: Terminal) -> None:
    store = _store(terminal)
    store.create(_job("broken"))
    lease = store.lease("broken", "me", 10).lease
    assert lease is not None
    store.finish(lease, Failure(code="generation_failed", message="the model ran dry", remedy="Fill it up."), {})
    store.close()
    result = terminal.run("answers", "show", "broken", status=1)
    assert result.stderr.splitlines() == ["failed: the model ran dry", "remedy: Fill it up."]
    assert terminal.json("answers", "show", "broken", status=1)["error"]["message"] == "the model ran dry"


def test_an_answer_is_asked_again_and_compared(shop: Terminal) -> None:
    first = shop.json("ask", QUESTIONS["en"]["text"])
    made = first["provenance"]
    assert [mark["id"] for mark in made["passages"]] == [hit["passage"]["id"] for hit in first["evidence"]["hits"]]
    assert made["index_version"] == first["evidence"]["index_version"]
    assert made["revision"]
    found = shop.json("answers", "replay", first["id"], "--recorded")
    assert (found["before"], found["same"], found["changes"]) == (first["id"], True, [])
    assert found["before_answer"] == found["after_answer"] == first["answer"]
    assert shop.json("answers", "diff", found["after"]) == found
    other = shop.json("ask", QUESTIONS["en"]["text"], "--k", "1")
    text = shop.run("answers", "diff", first["id"], other["id"]).stdout
    assert "these differ" in " ".join(text.split())
    assert "gone" in text
    error = shop.json("answers", "diff", first["id"], status=1)["error"]
    assert f"citewell answers replay {first['id']}" in error["remedy"]


def test_an_unknown_answer(terminal: Terminal) -> None:
    error = terminal.json("answers", "show", "nothing", status=1)["error"]
    assert error["code"] == "unknown_answer"
    assert "answer_ttl" in error["remedy"]


def test_waiting_ends(terminal: Terminal) -> None:
    store = _store(terminal)
    store.create(_job("held"))
    assert store.lease("held", "somebody else", 60).lease is not None
    result = terminal.run("answers", "show", "held", "--wait", "0.2", status=1)
    assert "citewell answers show held --wait 60" in result.stderr
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_cancels_the_answer(terminal: Terminal) -> None:
    engine = build(Settings(data_dir=terminal.folder))
    engine.store.load()
    queued = engine.store.create(_job("mine"))
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(typer.Exit) as stopped:
        _await(engine, [queued], 30)
    timer.join()
    assert stopped.value.exit_code == 130
    assert engine.store.get("mine").state == "cancelled"
    engine.close()


def test_a_document_cannot_steer_the_terminal(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    record: dict[str, Any] = {
        "id": "x\x1b[2J",
        "title": "\x1b]0;owned\x07[bold]",
        "text": "The bells of Arlen \x1b[31mring\u202e at noon :smile: every day.",
    }
    file.write_text(json.dumps(record) + "\n", "utf-8")
    terminal.run("ingest", str(file))
    for command, way in (("search", terminal), ("ask", terminal), ("ask", terminal.with_settings(reader=""))):
        text = way.run(command, "When do the bells of Arlen ring?").stdout
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[bold]" in text
        assert ":smile:" in text
