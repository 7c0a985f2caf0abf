"""A reader is trained, goes on after a kill, and answers or refuses as it was taught."""

from __future__ import annotations

import dataclasses
import json
import math
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
from safetensors.torch import load_file
from structlog.testing import capture_logs

from citewell.errors import BadInput, ReaderUnavailable, TrainingFailed
from citewell.generate.extractive import ExtractiveGenerator, Spotted, sentences_around
from citewell.generate.reader import Reader
from citewell.records import Evidence, Hit, Job, Passage, Question
from citewell.train.course import Course, train_reader
from citewell.train.marked import read_set, text_hash
from citewell.train.reader import Plan, best_threshold, keeping, parts_of
from citewell.train.runs import alone, failures_told, opened
from tests.cli.terminal import PROGRAM, Terminal
from tests.small_disk import small_disk
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
    (exact,) = pieces[0].exact
    assert (exact.text, exact.marker, exact.doc_id) == ("1345", 1, "Kell-tower")
    assert math.log(exact.probability) >= Reader(made, encoder, "cpu").threshold


def test_the_network_is_loaded_by_the_first_question_that_it_reads(made: Path, encoder: Path) -> None:
    reader = Reader(made, encoder, "cpu")
    generator = ExtractiveGenerator(EncoderEmbedder(encoder), reader)
    generator.load()
    assert generator.info()["reader"]["name"] == "reader"
    korean = Job(answer_id="a", question=Question(text="탑은 언제 지었습니까?", lang="ko"), evidence=Evidence())
    list(generator.generate([korean], lambda _: False))
    assert not reader.loaded
    list(
        generator.generate(
            [job("When was the mill of Esk built?", (passage("Esk", "mill", "1500", 1),))], lambda _: False
        )
    )
    assert reader.loaded


def test_a_run_begins_with_the_weights_of_a_reader(made: Path, encoder: Path, tmp_path: Path) -> None:
    """What it learned is there at the first check, and the card tells both runs."""
    new = write_set(tmp_path / "new", towns=slice(0, 9), seed=5)
    plan = dataclasses.replace(PLAN, epochs=1.0, rate=1e-5, check_every=2, seed=3)
    heard: list[dict[str, Any]] = []
    course = Course((new,), (), tmp_path / "run", plan, base=made)
    again = train_reader(course, EncoderEmbedder(encoder), encoder, resume=False, tell=heard.append)
    first = next(what for what in heard if "eval_f1" in what)
    assert first["step"] == 2
    assert first["eval_f1"] > 90
    described = json.loads((again / "reader.json").read_text("utf-8"))
    before = json.loads((made / "reader.json").read_text("utf-8"))
    assert described["begun_with"] == before
    assert described["licences"] == ["CC0"]
    card = (again / "README.md").read_text("utf-8")
    assert f"citewell train reader --train new --from {before['sha256'][:12]}" in card
    assert before["command"] in card
    elsewhere = dataclasses.replace(course, base=None)
    with pytest.raises(BadInput, match="other settings: from"):
        train_reader(elsewhere, EncoderEmbedder(encoder), encoder, resume=True, tell=heard.append)
    with pytest.raises(ReaderUnavailable, match="cannot be read"):
        nothing = dataclasses.replace(course, base=tmp_path / "nothing", folder=tmp_path / "other")
        train_reader(nothing, EncoderEmbedder(encoder), encoder, resume=False, tell=heard.append)
    assert not (tmp_path / "other").exists()


def test_the_result_may_be_a_blend_with_the_weights_of_before(made: Path, encoder: Path, tmp_path: Path) -> None:
    new = write_set(tmp_path / "new", towns=slice(0, 9), seed=5)
    plan = dataclasses.replace(PLAN, epochs=1.0, rate=1e-3, check_every=2, seed=3)
    weights = {}
    for share in (1.0, 0.25):
        course = Course((new,), (), tmp_path / f"run-{share}", dataclasses.replace(plan, blend=share), base=made)
        folder = train_reader(course, EncoderEmbedder(encoder), encoder, resume=False, tell=lambda _: None)
        weights[share] = load_file(folder / "layers.safetensors")
    before = load_file(made / "layers.safetensors")
    moved = 0.0
    for name, value in before.items():
        wanted = value.float() * 0.75 + weights[1.0][name].float() * 0.25
        np.testing.assert_allclose(weights[0.25][name].float().numpy(), wanted.numpy(), atol=2e-3)
        moved += float((weights[1.0][name].float() - value.float()).abs().sum())
    assert moved > 1
    card = (tmp_path / "run-0.25" / "reader" / "README.md").read_text("utf-8")
    assert "--blend 0.25" in card
    alone = Course((new,), (), tmp_path / "alone", dataclasses.replace(plan, blend=0.5))
    with pytest.raises(BadInput, match="nothing to blend"):
        train_reader(alone, EncoderEmbedder(encoder), encoder, resume=False, tell=lambda _: None)


def test_a_checkpoint_that_was_being_written_is_left_out(tmp_path: Path) -> None:
    for step, state in ((5, "{}"), (10, ""), (15, '{"step": 1'), (20, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state, "utf-8")
    (tmp_path / "plan.json").write_text("{}", "utf-8")
    assert [path.name for path in opened(tmp_path, {}, resume=True)] == ["checkpoint-5"]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-5"]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [*PROGRAM, "train", "generator", "--out", str(folder), "--steps", "1", "--things", "20", "--width", "64"]
    with alone(folder):
        environment = Terminal(tmp_path / "data").environment()
        second = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert second.returncode == 1
    assert "another run is under way in" in second.stderr
    assert sorted(file.name for file in folder.iterdir()) == ["lock"]
    with alone(folder):
        pass
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(BadInput, match="is a file"), alone(tmp_path / "file"):
        pass
    with pytest.raises(BadInput, match="cannot be used"), alone(tmp_path / "file" / "run"):
        pass
    with pytest.raises(FileExistsError, match="of the run itself"), alone(folder):
        raise FileExistsError("of the run itself")


def test_what_is_held_back_does_not_depend_on_the_seed(sets: tuple[Path, Path]) -> None:
    held = [
        {q.id for q in parts_of([read_set(sets[0])], [], dataclasses.replace(PLAN, seed=seed, dev_share=0.2))[1]}
        for seed in (1, 2)
    ]
    assert held[0] == held[1] != set()


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


def test_a_reader_that_is_not_whole_stops_who_asked_for_it_and_no_one_else(
    made: Path, encoder: Path, tmp_path: Path
) -> None:
    spoilt = Path(shutil.copytree(made, tmp_path / "spoilt"))
    (spoilt / "layers.safetensors").write_bytes(b"x")
    other = Path(shutil.copytree(encoder, tmp_path / "other"))
    (other / "config.json").write_text((other / "config.json").read_text("utf-8") + "\n", "utf-8")
    asked = job("When was the tower of Kell built?", (passage("Kell", "tower", "1345", 1),))
    ranked = list(ExtractiveGenerator(EncoderEmbedder(encoder)).generate([asked], lambda _: False))
    assert ranked[0].text.endswith("[1]")
    # The first is found out when the engine starts, the second when the network is wanted.
    for reader, reason in (
        (Reader(spoilt, encoder, "cpu"), "not those"),
        (Reader(made, other, "cpu"), "other weights"),
    ):
        named = ExtractiveGenerator(EncoderEmbedder(encoder), reader)
        with pytest.raises(ReaderUnavailable, match=reason):
            list(named.generate([asked], lambda _: False))
        packaged = ExtractiveGenerator(EncoderEmbedder(encoder), reader, optional=True)
        with capture_logs() as logs:
            pieces = list(packaged.generate([asked], lambda _: False))
            list(packaged.generate([asked], lambda _: False))
        assert pieces == ranked
        assert all(piece.exact == () for piece in pieces)
        assert [log["event"] for log in logs] == ["reader_left_out"], "it is told once"
        assert reason in packaged.info()["reader"]["left_out"]
        assert packaged.describe().revision == ExtractiveGenerator(EncoderEmbedder(encoder)).describe().revision


def test_a_question_for_several_things_gets_them_and_the_same_words_count_once() -> None:
    body = "The oak stands here. The elm stands there. The ash fell. Again the oak is named."
    text = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=len(body), text=body, lang="en")
    hit = Hit(passage=text, rank=1, score=1.0)

    def spot(words: str, score: float, after: int = 0) -> Spotted:
        start = body.index(words, after)
        return Spotted(hit, start, start + len(words), score, score)

    found = [spot("oak", -0.1), spot("oak", -0.2, 30), spot("elm", -0.7), spot("ash", -0.9)]
    said = sentences_around(found, "en")
    assert [one.text for one in said] == ["The oak stands here.", "The elm stands there."]
    assert [[exact.text for exact in one.exact] for one in said] == [["oak"], ["elm"]]
    assert [one.text for one in sentences_around(found[:1] + found[3:], "en")] == ["The oak stands here."]


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


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    encoder: Path, sets: tuple[Path, Path], tmp_path: Path
) -> None:
    script = (
        "import sys; from dataclasses import replace; from citewell.errors import TrainingFailed\n"
        "from tests.test_train_reader import *\n"
        "folder, encoder, train, dev = map(Path, sys.argv[2:])\n"
        "course = Course((train,), (dev,), folder, replace(PLAN, epochs=2.0, check_every=5))\n"
        "try:\n"
        "    train_reader(course, EncoderEmbedder(encoder), encoder, resume=sys.argv[1] == 'on', tell=lambda _: None)\n"
        "except TrainingFailed as error:\n"
        "    sys.exit(f'{error.message}; {error.remedy}')\n"
    )
    with small_disk(tmp_path / "disk", "1m") as disk:
        given = [str(disk.folder / "run"), str(encoder), *map(str, sets)]
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
        full = disk.run(sys.executable, "-c", script, "new", *given, env=env)
        assert full.returncode == 1
        assert "could not be written" in full.stderr
        assert "--resume" in full.stderr
        assert "Traceback" not in full.stderr
        disk.resize("64m")
        done = disk.run(sys.executable, "-c", script, "on", *given, env=env)
        assert done.returncode == 0, done.stderr
        assert disk.run("ls", str(disk.folder / "run" / "reader" / "layers.safetensors")).returncode == 0


def test_another_plan_does_not_go_on_in_the_folder(made: Path, encoder: Path, sets: tuple[Path, Path]) -> None:
    course = Course((sets[0],), (), made.parent, PLAN)
    with pytest.raises(BadInput, match="other settings: dev"):
        train_reader(course, EncoderEmbedder(encoder), encoder, resume=True, tell=lambda _: None)


def test_nothing_of_a_development_set_is_trained_on(encoder: Path, sets: tuple[Path, Path], tmp_path: Path) -> None:
    course = Course((sets[0],), (sets[0],), tmp_path / "run", PLAN)
    with pytest.raises(BadInput, match="144 questions or passages are in the training sets and"):
        train_reader(course, EncoderEmbedder(encoder), encoder, resume=False, tell=lambda _: None)


def test_what_is_to_be_reported_on_can_be_left_out_of_the_training(sets: tuple[Path, Path]) -> None:
    whole, other = read_set(sets[0]), read_set(sets[1])
    first = whole.questions[0]
    less = whole.without({text_hash(first.text), text_hash(whole.texts["Esk-gate"].text)} | other.hashes())
    gone = {one.id for one in whole.questions} - {one.id for one in less.questions}
    assert gone == {first.id, "q-Esk-gate"}
    assert "Esk-gate" not in less.texts
    assert list(less.left_out.values()) == [2]
    with pytest.raises(BadInput, match="every question of train is in a set that is kept out"):
        whole.without(whole.hashes())


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


def test_the_threshold_keeps_a_share_of_the_answers() -> None:
    scores, shared = np.array([-3.0, -0.1, -1.0, -2.0]), np.array([0.2, 1.0, 0.8, 0.0])
    assert keeping(scores, shared, 0.5) == -0.1
    assert keeping(scores, shared, 0.9) == -1.0
    assert keeping(scores, shared, 0.91) == -3.0
    assert keeping(scores, shared, 1.0) == -3.0
    assert keeping(scores, np.zeros(4)) == 0.0
    assert keeping(scores[:0], shared[:0]) == 0.0


def test_the_best_threshold_is_the_score_that_is_worth_most() -> None:
    scores, shared = np.array([-0.1, -0.5, -1.0, -2.0]), np.array([1.0, 0.0, 0.8, 0.0])
    has = np.array([True, False, True, False])
    threshold, greatest = best_threshold(scores, shared, has)
    assert -0.5 < threshold <= -0.1
    assert greatest == pytest.approx((1.0 + 1.0 + 1.0) / 4)
    assert best_threshold(scores, shared, np.array([False] * 4))[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "could not be written"),
        (RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 678912 vs 678804"), "could not be"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), "could not be written"),
        (RuntimeError("PytorchStreamReader failed reading zip archive (inline_container.cc:1)"), "cannot be used"),
        (ValueError("the plan has no steps"), ""),
    ],
)
def test_an_error_of_disk_or_checkpoint_is_told_and_no_other(error: Exception, told: str, tmp_path: Path) -> None:
    if told:
        with pytest.raises(TrainingFailed, match=told), failures_told(tmp_path):
            raise error
    else:
        with pytest.raises(ValueError, match="no steps"), failures_told(tmp_path):
            raise error
