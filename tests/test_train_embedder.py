"""An embedder for another language is learned from one that does not know it, goes on after a kill, and is loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citewell import parts
from citewell.config import load_settings
from citewell.embed import shipped
from citewell.embed.sentence import weights_hash
from citewell.errors import BadInput, EmbedderUnavailable
from citewell.train.distil import Distilling, Slope
from citewell.train.embedder import EmbedderCourse, read, train_embedder
from citewell.train.lessons import Batches, Texts
from citewell.train.marked import text_hash
from citewell.train.shipping import ship
from tests.tiny_reader import build_encoder
from tests.tiny_teacher import EncoderTeacher, translated, write_judged, write_parallel

PLAN = Distilling(
    pieces=300, longest=64, tokens=1024, steps=80, fall=30, frozen=10, word_rate=3e-3, layer_rate=1e-3,
    check_minutes=0.1, patience=100, dev_questions=24, dev_texts=24,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The steps are too small to be shared: two threads would wait for each other at each."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """parallel.jsonl, and en, es (questions to measure with) and pairs (to train on)."""
    folder = tmp_path_factory.mktemp("files")
    write_parallel(folder / "parallel.jsonl")
    for name, lang, seed in (("en", "en", 2), ("es", "es", 2), ("pairs", "en", 3)):
        write_judged(folder / name, lang, seed)
    rows = [json.loads(line) for line in (folder / "pairs" / "queries.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        row["text"] = row["text"].replace("Still when", "There when")
    (folder / "pairs" / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def course_of(files: Path, folder: Path, plan: Distilling = PLAN) -> EmbedderCourse:
    return EmbedderCourse((files / "parallel.jsonl",), (files / "pairs",), (files / "en", files / "es"), folder, plan)


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    return []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, encoder: Path, files: Path, told: list[dict[str, Any]]) -> Path:
    course = course_of(files, tmp_path_factory.mktemp("run"))
    return train_embedder(course, EncoderTeacher(encoder), encoder, resume=False, tell=told.append)


def test_the_loss_falls_and_the_other_language_is_found(made: Path, told: list[dict[str, Any]]) -> None:
    losses = [what["loss"] for what in told if "loss" in what]
    assert losses[-1] < losses[0]
    before = next(what for what in told if what.get("step") == 0)
    figures = json.loads((made / "figures.json").read_text("utf-8"))["figures"]
    assert figures["es"] > before["eval_es"]
    assert {what["steps"] for what in told if "loss" in what} == {80}


def test_the_product_loads_it_and_knows_its_languages(made: Path, encoder: Path, tmp_path: Path) -> None:
    model = parts.embedder(load_settings(embedder=str(made), data_dir=tmp_path))
    card = model.describe()
    assert card.languages == ("en", "es")
    assert card.dimension == 64
    text = "People of Kell like their tower. It was built in 1345 by the council."
    own = model.embed_passages([text, translated(text), "When was the mill of Bosk built?"])
    assert own[0] @ own[1] > own[0] @ own[2]
    taught = EncoderTeacher(encoder).embed_passages([text])
    assert float(taught[0] @ own[0]) > 0.8
    again = Path(shutil.copytree(made, tmp_path / "copy"))
    other = parts.embedder(load_settings(embedder=str(again), data_dir=tmp_path))
    assert other.describe().weights == card.weights
    assert np.allclose(other.embed_queries([text]), own[:1], atol=0.02)
    (again / "tokenizer.json").write_text((again / "tokenizer.json").read_text("utf-8") + "\n", "utf-8")
    changed = parts.embedder(load_settings(embedder=str(again), data_dir=tmp_path))
    assert changed.describe().weights != card.weights


def test_the_shipped_form_gives_the_same_vectors_and_is_checked(made: Path, tmp_path: Path) -> None:
    folder = ship(made, tmp_path / "shipped")
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert max(file.stat().st_size for file in files) <= 25_000_000
    assert sum(file.stat().st_size for file in files) < sum(f.stat().st_size for f in made.rglob("*") if f.is_file())
    texts = ["People of Kell like their tower.", translated("When was the mill of Bosk built?")]
    whole = parts.embedder(load_settings(embedder=str(made), data_dir=tmp_path))
    small = parts.embedder(load_settings(embedder=str(folder), data_dir=tmp_path))
    assert ((whole.embed_passages(texts) * small.embed_passages(texts)).sum(axis=1) > 0.999).all()
    assert small.describe().languages == ("en", "es")
    assert small.describe().weights != whole.describe().weights
    with pytest.raises(BadInput, match="is not empty"):
        ship(made, folder)
    with pytest.raises(BadInput, match=r"has no model\.safetensors"):
        ship(tmp_path / "shipped", tmp_path / "again")
    layers = folder / "layers.safetensors"
    layers.write_bytes(layers.read_bytes()[:-1] + b"x")
    with pytest.raises(EmbedderUnavailable, match=r"not what was shipped: layers\.safetensors"):
        parts.embedder(load_settings(embedder=str(folder), data_dir=tmp_path)).load()


def test_the_card_says_what_it_was_made_of(made: Path) -> None:
    card = (made / "README.md").read_text("utf-8")
    assert "| pairs | 48 questions | CC0 | made for a test |" in card
    assert "--parallel parallel.jsonl --pairs pairs --dev en --dev es" in card
    assert "| parallel.jsonl | es " in card
    assert "| es | " in card
    assert weights_hash(made) in card
    assert (made / "curves.svg").read_text("utf-8").count("<polyline") == 2


def test_no_text_of_a_development_set_is_trained_on(files: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (files / "parallel.jsonl").read_text("utf-8").splitlines()]
    dev = [json.loads(line) for line in (files / "es" / "corpus.jsonl").read_text("utf-8").splitlines()]
    asked = [json.loads(line) for line in (files / "en" / "queries.jsonl").read_text("utf-8").splitlines()]
    rows += [{"en": "A text.", "es": dev[0]["text"].upper()}, {"en": asked[0]["text"] + " ", "es": "Un texto."}]
    (tmp_path / "parallel.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    told: list[dict[str, Any]] = []
    course = EmbedderCourse(
        (tmp_path / "parallel.jsonl",), (files / "pairs",), (files / "en", files / "es"), tmp_path / "run", PLAN
    )
    given = read(course, told.append)
    assert told[0]["left_out"] == 2
    held = set().union(*(one.hashes() for one in given.dev))
    used = {text_hash(text) for one in given.translations for text in (one.teacher, one.other)}
    used |= set().union(*(one.hashes() for one in given.pairs))
    assert len(held) > 100
    assert not held & used


def test_a_killed_run_goes_on_from_its_checkpoint(encoder: Path, files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    # It waits to be killed as soon as it has something to go on from: a fast machine would be done by then.
    script = (
        "import signal, sys; from tests.test_train_embedder import *\n"
        "files, folder, encoder = map(Path, sys.argv[1:])\n"
        "saved = lambda: any(folder.glob('checkpoint-*/trainer_state.json'))\n"
        "tell = lambda what: signal.pause() if 'loss' in what and saved() else None\n"
        "course = course_of(files, folder, dataclasses.replace(PLAN, check_minutes=0.002))\n"
        "train_embedder(course, EncoderTeacher(encoder), encoder, resume=False, tell=tell)\n"
    )
    arguments = [sys.executable, "-c", script, str(files), str(folder), str(encoder)]
    with subprocess.Popen(
        arguments, cwd=Path(__file__).parent.parent, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    ) as run:
        deadline = time.monotonic() + 240
        while not list(folder.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
            assert run.poll() is None, "the run ended before its first checkpoint"
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert not (folder / "embedder").exists()
    saved = max(int(path.parent.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*/trainer_state.json"))
    course = course_of(files, folder)
    with pytest.raises(BadInput, match="has a run in it"):
        train_embedder(course, EncoderTeacher(encoder), encoder, resume=False, tell=lambda _: None)
    told: list[dict[str, Any]] = []
    again = train_embedder(course, EncoderTeacher(encoder), encoder, resume=True, tell=told.append)
    steps = [what["step"] for what in told if "loss" in what]
    assert min(steps) > saved - 1, "it began anew instead of going on"
    assert json.loads((again / "figures.json").read_text("utf-8"))["figures"]["es"] > 0.2


def test_a_run_that_ended_goes_on_with_more_steps(made: Path, encoder: Path, files: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made.parent, tmp_path / "run"))
    told: list[dict[str, Any]] = []
    course = course_of(files, folder, dataclasses.replace(PLAN, steps=100, fall=10))
    train_embedder(course, EncoderTeacher(encoder), encoder, resume=True, tell=told.append)
    rates = {what["step"]: what["learning_rate"] for what in told if "learning_rate" in what}
    assert max(rates) == 100
    assert rates[100] < PLAN.word_rate / 5


def test_a_run_begins_with_what_was_trained_before(made: Path, encoder: Path, files: Path, tmp_path: Path) -> None:
    before = json.loads((made / "figures.json").read_text("utf-8"))
    for base in (made, ship(made, tmp_path / "shipped")):
        told: list[dict[str, Any]] = []
        plan = dataclasses.replace(PLAN, steps=4, fall=4)
        course = dataclasses.replace(course_of(files, tmp_path / f"run-{base.name}", plan), base=base)
        again = train_embedder(course, EncoderTeacher(encoder), encoder, resume=False, tell=told.append)
        kinds = next(what["started"] for what in told if "started" in what)
        assert kinds["kept"] > 100
        assert kinds["random"] == 0
        begun = next(what for what in told if what.get("step") == 0)
        assert begun["eval_es"] > 0.8 * before["figures"]["es"]
        described = json.loads((again / "figures.json").read_text("utf-8"))
        assert described["begun_with"]["sha256"] == weights_hash(base)
        assert described["begun_with"]["command"] == before["command"]
        assert f"--from {base.name}" in described["command"]
        card = (again / "README.md").read_text("utf-8")
        assert weights_hash(base) in card
        assert "(begun-with.md)" in card
        kept = (again / "begun-with.md").read_text("utf-8")
        assert before["command"] in kept
        assert "curves.svg" not in kept
    with pytest.raises(BadInput, match="other settings: from"):
        train_embedder(course_of(files, again.parent, plan), EncoderTeacher(encoder), encoder, resume=True, tell=print)


def test_a_blend_lies_between_what_it_began_with_and_what_was_trained(
    made: Path, encoder: Path, files: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    trained, told = load_file(made / "model.safetensors"), list[dict[str, Any]]()
    folder = Path(shutil.copytree(made.parent, tmp_path / "run"))
    course = course_of(files, folder, dataclasses.replace(PLAN, blend=0.25))
    blended = load_file(
        train_embedder(course, EncoderTeacher(encoder), encoder, resume=True, tell=told.append) / "model.safetensors"
    )
    begun = load_file(encoder / "model.safetensors")
    with np.load(folder / "start.npz") as start:
        begun[shipped.WORDS] = start["rows"]
    assert {name for name in blended if not np.allclose(blended[name], trained[name], atol=1e-3)}
    for name, value in blended.items():
        wanted = 0.25 * trained[name].astype(np.float32) + 0.75 * begun[name].astype(np.float32)
        assert np.allclose(value, wanted, atol=2e-3), name
    described = json.loads((folder / "embedder" / "figures.json").read_text("utf-8"))
    assert "--blend 0.25" in described["command"]
    assert told[-1]["eval_es"] == described["figures"]["es"], "the figures are those of the blend"


def test_a_base_that_cannot_be_begun_with_says_why(made: Path, encoder: Path, files: Path, tmp_path: Path) -> None:
    def beginning(base: Path) -> None:
        course = dataclasses.replace(course_of(files, tmp_path / "run"), base=base)
        train_embedder(course, EncoderTeacher(encoder), encoder, resume=False, tell=lambda _: None)

    with pytest.raises(BadInput, match=r"none has no model\.safetensors"):
        beginning(tmp_path / "none")
    wide = build_encoder(tmp_path / "wide", width=96)
    with pytest.raises(BadInput, match="wide gives vectors of 96 numbers, the teacher of 64"):
        beginning(wide)
    broken = Path(shutil.copytree(made, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="broken has no word embeddings of BERT's kind"):
        beginning(broken)
    assert not (tmp_path / "run").exists()


def test_sources_of_a_language_have_the_same_share_whatever_their_size(made: Path) -> None:
    from tokenizers import Tokenizer

    texts = Texts(Tokenizer.from_file(str(made.parent / "vocabulary.json")), 64)
    lessons = []
    for lang, size in (("es", 400), ("es", 20), ("ko", 40)):
        numbers = texts.add([f"{lang} {size} {n}" for n in range(size)])
        lessons.append(texts.lesson("translations", lang, list(zip(numbers, numbers, strict=True))))
    drawn = Counter(len(Batches(texts, lessons, 1000, 512, 5).drawn(step)[0].items) for step in range(1000))
    assert drawn[400] == pytest.approx(250, abs=50)
    assert drawn[20] == pytest.approx(250, abs=50)
    assert drawn[40] == pytest.approx(500, abs=60)


def test_another_plan_does_not_go_on_in_the_folder(made: Path, encoder: Path, files: Path) -> None:
    course = EmbedderCourse((files / "parallel.jsonl",), (), (files / "en",), made.parent, PLAN)
    with pytest.raises(BadInput, match="other settings: dev, pairs"):
        train_embedder(course, EncoderTeacher(encoder), encoder, resume=True, tell=lambda _: None)


def test_files_that_cannot_be_used_say_why(files: Path, tmp_path: Path) -> None:
    def reading(text: str) -> None:
        (tmp_path / "bad.jsonl").write_text(text, "utf-8")
        course = EmbedderCourse((tmp_path / "bad.jsonl",), (), (files / "en",), tmp_path / "run", PLAN)
        read(course, lambda _: None)

    with pytest.raises(BadInput, match=r"bad\.jsonl, line 2: no translation: "):
        reading('{"en": "a", "ko": "b"}\n{"en": "a"}\n')
    with pytest.raises(BadInput, match="one language beside `en`, not ko, ja"):
        reading('{"en": "a", "ko": "b", "ja": "c"}\n')
    with pytest.raises(BadInput, match=r"bad\.jsonl has no translations"):
        reading("\n")
    with pytest.raises(BadInput, match=r"no question of .* has a passage that answers it"):
        (tmp_path / "set" / "qrels").mkdir(parents=True)
        (tmp_path / "set" / "corpus.jsonl").write_text('{"_id": "a", "text": "b"}\n', "utf-8")
        (tmp_path / "set" / "queries.jsonl").write_text('{"_id": "q", "text": "b"}\n', "utf-8")
        course = EmbedderCourse((files / "parallel.jsonl",), (tmp_path / "set",), (files / "en",), tmp_path, PLAN)
        read(course, lambda _: None)


def test_the_rate_rises_stays_and_falls_and_a_fall_can_begin_early() -> None:
    slope = Slope(Distilling(steps=1000, fall=100))
    assert slope(0) < 0.1
    assert slope(500) == 1.0
    assert slope(950) == pytest.approx(0.5)
    assert slope(1000) == 0.0
    slope.falls = 300
    assert slope.end == 400
    assert slope(350) == pytest.approx(0.5)
