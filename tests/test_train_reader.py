"""A reader is trained, goes on after a kill, and answers or refuses as it was taught."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citewell.errors import BadInput, ReaderUnavailable
from citewell.generate.extractive import ExtractiveGenerator
from citewell.generate.reader import Reader
from citewell.records import Evidence, Hit, Job, Passage, Question
from citewell.train.course import Course, train_reader
from citewell.train.marked import read_set
from citewell.train.reader import Plan, best_threshold
from tests.tiny_reader import EncoderEmbedder, build_encoder, write_rows, write_set

PLAN = Plan(epochs=14, batch=16, rate=3e-3, negatives=1.0, check_every=30)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training towns and other towns to measure with."""
    folder = tmp_path_factory.mktemp("sets")
    return write_set(folder / "train", towns=slice(0, 9)), write_set(folder / "dev", towns=slice(9, 12), seed=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, encoder: Path, sets: tuple[Path, Path]) -> Path:
    folder = tmp_path_factory.mktemp("run")
    course = Course((sets[0],), (sets[1],), folder, PLAN)
    return train_reader(course, EncoderEmbedder(encoder), encoder, resume=False, tell=lambda _: None)


def passage(town: str, thing: str, year: str, rank: int) -> Hit:
    text = f"People of {town} like their {thing}. It was built in {year} by the council. It stands there still."
    key = f"{town}-{thing}"
    found = Passage(
        id=f"{key}#0", doc_id=key, ordinal=0, start=0, end=len(text), text=text, lang="en", title=f"{town} {thing}"
    )
    return Hit(passage=found, rank=rank, score=1.0 / rank)


def job(question: str, hits: tuple[Hit, ...]) -> Job:
    asked = Question(text=question, lang="en")
    return Job(answer_id="a", question=asked, evidence=Evidence(hits=hits, lang="en"))


def test_a_trained_reader_finds_answers_of_places_it_has_not_seen(made: Path, encoder: Path) -> None:
    described = json.loads((made / "reader.json").read_text("utf-8"))
    assert described["figures"]["F1"] > 90
    assert described["languages"] == ["en"]
    text = passage("Kell", "tower", "1345", 1).passage.text
    (reading,) = Reader(made, encoder, "cpu").read("When was the tower of Kell built?", [("Kell tower", text)])
    assert text[reading.spans[0].start : reading.spans[0].end] == "1345"
    assert reading.score >= described["threshold"]


def test_extractive_answers_with_the_sentence_around_the_span(made: Path, encoder: Path) -> None:
    generator = ExtractiveGenerator(EncoderEmbedder(encoder), Reader(made, encoder, "cpu"))
    hits = (passage("Kell", "tower", "1345", 1),)
    pieces = list(generator.generate([job("When was the tower of Kell built?", hits)], lambda _: False))
    assert "".join(piece.text for piece in pieces) == "It was built in 1345 by the council. [1]"


def test_the_card_says_what_it_was_made_of(made: Path) -> None:
    card = (made / "README.md").read_text("utf-8")
    assert "| train | 72 | 72 | CC0 | made for a test |" in card
    assert "citewell train reader --train train --dev dev" in card
    assert (made / "curves.svg").read_text("utf-8").count("<polyline") == 2
    assert (made / "layers.safetensors").stat().st_size < 25_000_000


def test_weights_that_are_not_whole_are_refused(made: Path, encoder: Path, tmp_path: Path) -> None:
    spoilt = Path(shutil.copytree(made, tmp_path / "spoilt"))
    weights = spoilt / "layers.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ReaderUnavailable, match="not those of its description"):
        Reader(spoilt, encoder, "cpu").load()
    with pytest.raises(ReaderUnavailable, match="cannot be read"):
        Reader(tmp_path / "nothing", encoder, "cpu").load()
    other = Path(shutil.copytree(encoder, tmp_path / "other"))
    (other / "config.json").write_text((other / "config.json").read_text("utf-8") + "\n", "utf-8")
    with pytest.raises(ReaderUnavailable, match="other weights"):
        Reader(made, other, "cpu").load()


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(
    made: Path, encoder: Path, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    script = (
        "import sys; from pathlib import Path; from tests.test_train_reader import *\n"
        "folder, encoder, train, dev = map(Path, sys.argv[1:])\n"
        "course = Course((train,), (dev,), folder, PLAN)\n"
        "train_reader(course, EncoderEmbedder(encoder), encoder, resume=False, tell=lambda _: None)\n"
    )
    arguments = [sys.executable, "-c", script, str(folder), str(encoder), *map(str, sets)]
    with subprocess.Popen(
        arguments, cwd=Path(__file__).parent.parent, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    ) as run:
        deadline = time.monotonic() + 240
        while not list(folder.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
            assert run.poll() is None, "the run ended before its first checkpoint"
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert not (folder / "reader").exists()
    course = Course((sets[0],), (sets[1],), folder, PLAN)
    with pytest.raises(BadInput, match="has a run in it"):
        train_reader(course, EncoderEmbedder(encoder), encoder, resume=False, tell=lambda _: None)
    steps: list[int] = []

    def tell(what: dict[str, Any]) -> None:
        steps.extend([what["step"]] if "loss" in what else [])

    again = train_reader(course, EncoderEmbedder(encoder), encoder, resume=True, tell=tell)
    assert min(steps) > 30, "it began anew instead of going on"
    assert json.loads((again / "reader.json").read_text())["figures"]["F1"] > 90


def test_another_plan_does_not_go_on_in_the_folder(made: Path, encoder: Path, sets: tuple[Path, Path]) -> None:
    course = Course((sets[0],), (), made.parent, PLAN)
    with pytest.raises(BadInput, match="other settings: dev"):
        train_reader(course, EncoderEmbedder(encoder), encoder, resume=True, tell=lambda _: None)


def test_nothing_of_a_development_set_is_trained_on(encoder: Path, sets: tuple[Path, Path], tmp_path: Path) -> None:
    course = Course((sets[0],), (sets[0],), tmp_path / "run", PLAN)
    with pytest.raises(BadInput, match="144 questions or passages are in the training sets and"):
        train_reader(course, EncoderEmbedder(encoder), encoder, resume=False, tell=lambda _: None)


def test_sets_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "set", towns=slice(0, 1))
    rows = [json.loads(line) for line in (folder / "queries.jsonl").read_text("utf-8").splitlines()]
    rows[0]["answers"] = ["a year that is not there"]
    rows[0]["starts"] = [-1]
    rows[1] |= {"answerable": False, "answers": [], "starts": []}
    write_rows(folder / "queries.jsonl", rows)
    read = read_set(folder)
    assert read.left_out == {"no answer of it stands in its passage": 1}
    assert read.named == ("q-Arlen-mill: no answer of it stands in its passage",)
    assert [question.spans for question in read.questions if question.id == "q-Arlen-bridge"] == [()]
    write_rows(folder / "queries.jsonl", rows[:1])
    with pytest.raises(BadInput, match=r"no question of .* can be used: 1 x no answer of it"):
        read_set(folder)
    (folder / "queries.jsonl").write_text('{"_id": 3}\n', "utf-8")
    with pytest.raises(BadInput, match=r"queries\.jsonl, line 1"):
        read_set(folder)
    with pytest.raises(BadInput, match="cannot be read"):
        read_set(tmp_path / "nothing")


def test_the_threshold_is_the_score_that_is_worth_most() -> None:
    scores, shared = np.array([-0.1, -0.5, -1.0, -2.0]), np.array([1.0, 0.0, 0.8, 0.0])
    has = np.array([True, False, True, False])
    threshold, greatest = best_threshold(scores, shared, has)
    assert -0.5 < threshold <= -0.1
    assert greatest == pytest.approx((1.0 + 1.0 + 1.0) / 4)
    assert best_threshold(scores, shared, np.array([False] * 4))[1] == pytest.approx(1.0)
