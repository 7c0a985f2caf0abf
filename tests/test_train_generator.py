"""A small generator is trained from nothing, goes on after a kill, and reads what the product makes it read."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from citewell.catalogue import TransformersTable
from citewell.cite import abstention, cite
from citewell.config import Settings
from citewell.errors import BadInput, TrainingFailed
from citewell.generate.transformers import TransformersGenerator
from citewell.prompt import PROMPT_VERSION
from citewell.records import Job
from citewell.train.causal import CONTEXT, Shape, learned_tokenizer, new_model
from citewell.train.drills import Drilling, Encoded, Mix
from citewell.train.generating import GeneratorCourse, mix, train_generator
from citewell.train.generator import GeneratorPlan
from citewell.train.invented import DEV, HELD_OUT, TRAIN, invent, part_of, write_set
from citewell.train.marked import MarkedSet, read_set
from tests.cli.terminal import PROGRAM, Terminal
from tests.small_disk import small_disk
from tests.tiny_models import build_chance

ROOT = Path(__file__).parent.parent
PLAN = GeneratorPlan(
    steps=60, batch=16, rate=5e-3, things=80, passages=2, width=32, layers=2, check_every=20, dev_most=30
)


def course(folder: Path, **changes: Any) -> GeneratorCourse:
    return GeneratorCourse((), (), None, folder, dataclasses.replace(PLAN, **changes))


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, told: list[dict[str, Any]]) -> Path:
    return train_generator(course(tmp_path_factory.mktemp("run")), resume=False, tell=told.append)


def facts(some: MarkedSet) -> tuple[set[str], set[str]]:
    """Questions, passages and quoted sentences as hashes; and all names, numbers and years."""
    values = {answer for question in some.questions for answer in question.answers[1:]}
    names = {text.title.partition(",")[0] for text in some.texts.values()}
    dated = {value.rpartition(", ")[2] for value in values}
    told = (sha256(question.answers[0].encode()).hexdigest() for question in some.questions if question.spans)
    return some.hashes() | set(told), names | dated


def test_held_out_facts_share_nothing_with_those_of_a_training() -> None:
    parts = {part: facts(invent(400, 13, part)) for part in (TRAIN, DEV, HELD_OUT)}
    for one, other in ((TRAIN, HELD_OUT), (TRAIN, DEV), (DEV, HELD_OUT)):
        assert not parts[one][0] & parts[other][0]
        assert not parts[one][1] & parts[other][1]
    assert {part_of(word) for word in parts[HELD_OUT][1]} == {HELD_OUT}
    assert len(parts[HELD_OUT][1]) > 1000


def test_what_is_invented_reads_back_as_a_set(tmp_path: Path) -> None:
    some = invent(20, 3, HELD_OUT)
    write_set(some, tmp_path / "set")
    again = read_set(tmp_path / "set")
    assert (again.texts, again.questions) == (some.texts, some.questions)
    assert not again.left_out
    assert invent(20, 3, HELD_OUT) == some
    with pytest.raises(BadInput, match="no invented facts in `xx`"):
        invent(20, 3, TRAIN, ("xx",))
    with pytest.raises(BadInput, match="more than there are names for"):
        invent(10**6, 3, TRAIN)


def test_drills_quote_the_right_passage_or_say_that_none_answers() -> None:
    drills = Drilling([invent(100, 1, TRAIN)], Mix(most=4), 1).course(20, 16)
    kinds = {"answered": 0, "refused": 0, "closed": 0}
    for drill in drills:
        draft = cite(drill.answer, drill.evidence, "en")
        if not drill.answerable:
            assert drill.answer == abstention("en")
            assert draft.abstained
            kinds["refused" if drill.evidence.hits else "closed"] += 1
            continue
        assert [one.supported for one in draft.sentences] == [True]
        quoted = drill.answer.rpartition(" [")[0]
        holding = [hit.rank for hit in drill.evidence.hits if quoted in hit.passage.text]
        assert draft.citations[0].marker == holding[0]
        kinds["answered"] += 1
    assert kinds["answered"] > 200
    assert kinds["refused"] > 30
    assert kinds["closed"] > 5
    assert max(len(drill.evidence.hits) for drill in drills[:64]) == 1
    assert max(len(drill.evidence.hits) for drill in drills) == 4
    assert Drilling([invent(100, 1, TRAIN)], Mix(most=4), 1).course(20, 16) == drills


def test_training_prompts_are_those_of_the_product(made: Path) -> None:
    settings = Settings(max_new_tokens=64, device="cpu")
    generator = TransformersGenerator(settings, "tiny", TransformersTable(kind="transformers", model=str(made)))
    generator.load()
    drills = Drilling([invent(60, 4, HELD_OUT)], Mix(most=3), 4).some(12, 3)
    encoded = Encoded(drills, generator._tokenizer, CONTEXT, 700)
    jobs = [Job(answer_id=str(n), question=d.question, evidence=d.evidence) for n, d in enumerate(drills)]
    for job, item in zip(jobs, (encoded[place] for place in range(len(drills))), strict=True):
        assert [token for token, aim in zip(item["input_ids"], item["labels"], strict=True) if aim == -100] == (
            generator._prompt(job)
        )
    pieces = list(generator.generate(jobs, lambda _: False))
    assert {piece.answer_id for piece in pieces if piece.last} == {job.answer_id for job in jobs}
    generator.close()


def test_the_loss_falls_and_the_card_tells_how_it_came_about(made: Path, told: list[dict[str, Any]]) -> None:
    losses = [row["loss"] for row in told if "loss" in row]
    assert losses[-1] < 0.6 * losses[0]
    card = (made / "README.md").read_text("utf-8")
    assert "| invented-train | 400 | 80 | CC0-1.0 |" in card
    assert "citewell train generator --steps 60 --batch 16 --rate 0.005 --things 80 --width 32 --layers 2" in card
    assert (made / "curves.svg").read_text("utf-8").count("<polyline") == 2
    figures = json.loads((made / "figures.json").read_text("utf-8"))
    assert 0 < figures["parameters"] < 20_000_000
    assert figures["prompt"] == PROMPT_VERSION
    assert len(read_set(made.parent / "held-out").questions) == 1000


def test_names_are_made_of_the_same_pieces_wherever_they_stand(made: Path) -> None:
    tokenizer = learned_tokenizer([text.text for text in invent(300, 1, TRAIN).texts.values()], 2048)
    for name in ("Vosk Melsen", "Trabin Zekral", "Numar"):
        alone = tokenizer(name, add_special_tokens=False)["input_ids"]
        within = tokenizer(f"The mayor of {name} is {name} {name}.", add_special_tokens=False)["input_ids"]
        assert sum(within[at : at + len(alone)] == alone for at in range(len(within))) == 3
    with pytest.raises(BadInput, match="M parameters, 20 M are the most"):
        new_model(tokenizer, Shape(width=1024, layers=6), 1)
    with pytest.raises(BadInput, match="cannot be shared among 4 heads"):
        new_model(tokenizer, Shape(width=36), 1)


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(made: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "run"
    script = (
        "import sys; from pathlib import Path; from tests.test_train_generator import *\n"
        f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
        "train_generator(course(Path(sys.argv[1])), resume=False, tell=lambda _: None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], cwd=ROOT) as run:
        deadline = time.monotonic() + 240
        while not list(folder.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
            assert run.poll() is None, "the run ended before its first checkpoint"
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert not (folder / "generator").exists()
    with pytest.raises(BadInput, match="has a run in it"):
        train_generator(course(folder), resume=False, tell=lambda _: None)
    with pytest.raises(BadInput, match="other settings: rate"):
        train_generator(course(folder, rate=1e-3), resume=True, tell=lambda _: None)
    steps: list[int] = []
    again = train_generator(
        course(folder), resume=True, tell=lambda what: steps.extend([what["step"]] if "loss" in what else [])
    )
    assert min(steps) > 20, "it began anew instead of going on"
    one, other = (load_file(place / "model.safetensors") for place in (made, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_model_goes_on_with_questions_of_ones_own(made: Path, tmp_path: Path) -> None:
    write_set(invent(20, 5, HELD_OUT), tmp_path / "mine")
    plan = dataclasses.replace(PLAN, steps=10, check_every=5, by_heart=True)
    told: list[dict[str, Any]] = []
    own = GeneratorCourse((tmp_path / "mine",), (), made, tmp_path / "tuned", plan)
    tuned = train_generator(own, resume=False, tell=told.append)
    assert [row["set"] for row in told if "set" in row] == ["mine", "mine"]
    assert not (tmp_path / "tuned" / "held-out").exists()
    assert (tuned / "tokenizer.json").read_bytes() == (made / "tokenizer.json").read_bytes()
    assert "--train mine --from generator --steps 10" in (tuned / "README.md").read_text("utf-8")
    drills = Drilling([read_set(tmp_path / "mine")], mix(plan), 1).some(200, 1)
    closed = [drill for drill in drills if drill.evidence.mode == "none"]
    assert 70 < len(closed) < 130, "half are asked without passages"
    assert sum(drill.answerable and "[" not in drill.answer for drill in closed) > 40
    same = GeneratorCourse((tmp_path / "mine",), (tmp_path / "mine",), made, tmp_path / "other", plan)
    with pytest.raises(BadInput, match="are in the training sets and in the development sets"):
        train_generator(same, resume=False, tell=lambda _: None)


def test_models_that_cannot_be_trained_further_say_why(tmp_path: Path) -> None:
    def begun(base: Path) -> None:
        own = dataclasses.replace(course(tmp_path / "run"), base=base)
        train_generator(own, resume=False, tell=lambda _: None)

    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty cannot be trained further"):
        begun(tmp_path / "empty")
    with pytest.raises(BadInput, match="sequence-to-sequence"):
        begun(build_chance(tmp_path / "t5", family="t5"))
    assert not (tmp_path / "run").exists()


def test_a_spoilt_checkpoint_and_a_rate_that_is_too_high_are_told(made: Path, tmp_path: Path) -> None:
    spoilt = Path(shutil.copytree(made.parent, tmp_path / "spoilt"))
    for weights in spoilt.glob("checkpoint-*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(TrainingFailed, match=r"checkpoint in .* cannot be used"):
        train_generator(course(spoilt), resume=True, tell=lambda _: None)
    with pytest.raises(TrainingFailed, match="no number any more"):
        train_generator(course(tmp_path / "wild", rate=1e30), resume=False, tell=lambda _: None)


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        options = "--steps 8 --batch 4 --things 20 --width 64 --check-every 4".split()
        terminal = Terminal(tmp_path / "data")
        command = [*PROGRAM, "train", "generator", "--out", str(disk.folder / "run"), *options]
        full = disk.run(*command, env=terminal.environment())
        assert full.returncode == 1
        assert "could not be written" in full.stderr
        assert "--resume" in full.stderr
        assert "Traceback" not in full.stderr
        disk.resize("64m")
        done = disk.run(*command, "--resume", env=terminal.environment())
        assert done.returncode == 0, done.stderr
        assert disk.run("ls", str(disk.folder / "run" / "generator" / "model.safetensors")).returncode == 0
