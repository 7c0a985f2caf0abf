"""One training of a small generator from facts to a model folder, from which a killed run goes on.

FOLDER/plan.json          what is trained on and how; a run that goes on must want the same
FOLDER/held-out/          invented facts of names that no training has: documents, questions and judgements
FOLDER/checkpoint-N/      the trainer's own
FOLDER/generator/         the result: an ordinary model folder with tokenizer, card, curves and figures
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from citewell.errors import BadInput
from citewell.generate.weights import OVERHEAD
from citewell.prompt import PROMPT_VERSION
from citewell.train.card import CARD, CURVES, picture
from citewell.train.causal import CONTEXT, Shape, learned_tokenizer, new_model, opened_model, parameters
from citewell.train.course import Tell
from citewell.train.drills import Drilling, Encoded, Mix, rendered
from citewell.train.generator import GeneratorPlan, make_trainer
from citewell.train.invented import DEV, HELD_OUT, TRAIN, invent, write_set
from citewell.train.marked import MarkedSet, read_set
from citewell.train.runs import failures_told, opened

FIGURES = "figures.json"
# Drills that the tokenizer is learned from, things that are held out, tokens kept free for an answer.
_LEARNED_FROM = 2500
_HELD_OUT_THINGS = 200
_ANSWER = 64
# Share of the drills without passages where the facts are to be learned by heart.
_BY_HEART = 0.5


@dataclass(frozen=True)
class GeneratorCourse:
    """`train` and `dev` are sets of one's own (none: invented facts), `base` the folder of a model to go on from."""

    train: tuple[Path, ...]
    dev: tuple[Path, ...]
    base: Path | None
    folder: Path
    plan: GeneratorPlan


def train_generator(course: GeneratorCourse, *, resume: bool, tell: Tell) -> Path:
    """Train, and give the folder of the result, which a generator of kind `transformers` loads.

    `tell` hears of every step in plain values. Raises `BadInput` for sets or a model that cannot be used and for a
    folder with another run in it, `TrainingFailed` when the disk, a checkpoint or the numbers give out.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    plan = course.plan
    sets, dev = _sets(course)
    for one in (*sets, *dev):
        tell({"set": one.name, "questions": len(one.questions), "left_out": dict(one.left_out), "named": one.named})
    based = opened_model(course.base) if course.base else None
    checkpoints = opened(course.folder, _described(course), resume=resume)
    drills = Drilling(sets, mix(plan), plan.seed).course(plan.steps, plan.batch)
    tokenizer, model = based or _new(drills, plan)
    context = min(CONTEXT, int(getattr(model.config, "max_position_embeddings", CONTEXT)))
    budget = max(16, context - OVERHEAD - _ANSWER)
    watched = Drilling(dev, mix(plan), plan.seed + 1).some(plan.dev_most, plan.passages)
    pair = [Encoded(some, tokenizer, context, budget) for some in (drills, sorted(watched, key=lambda d: d.length))]
    trainer = make_trainer(model, pair[0], pair[1], plan, course.folder, tokenizer.pad_token_id, tell)
    with failures_told(course.folder):
        if not (course.train or (course.folder / "held-out").exists()):
            write_set(invent(_HELD_OUT_THINGS, plan.seed + 2, HELD_OUT, plan.langs), course.folder / "held-out")
        trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
        figures = trainer.evaluate()
        made = course.folder / "generator"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        _write_card(made, course, [*sets, *dev], trainer.state.log_history, _about(course, model, figures))
    return made


def mix(plan: GeneratorPlan) -> Mix:
    """How its drills are mixed."""
    return Mix(plan.passages, closed=_BY_HEART, by_heart=True) if plan.by_heart else Mix(plan.passages)


def _sets(course: GeneratorCourse) -> tuple[list[MarkedSet], list[MarkedSet]]:
    """To train on, and to watch with. Raises `BadInput` where both have a question or passage in common."""
    plan = course.plan
    if not course.train:
        if course.dev:
            raise BadInput("a --dev set needs a --train set", remedy="Name both, or neither for invented facts.")
        dev = invent(max(20, plan.things // 10), plan.seed, DEV, plan.langs)
        return [invent(plan.things, plan.seed, TRAIN, plan.langs)], [dev]
    sets, dev_sets = [read_set(path) for path in course.train], [read_set(path) for path in course.dev]
    if not dev_sets:
        parts = [_parted(one, plan) for one in sets]
        return [part[0] for part in parts], [part[1] for part in parts if part[1].questions]
    common = set[str]().union(*(s.hashes() for s in sets)) & set[str]().union(*(s.hashes() for s in dev_sets))
    if common:
        raise BadInput(
            f"{len(common)} questions or passages are in the training sets and in the development sets",
            remedy="Choose sets that have none in common: the figures would be worth nothing.",
        )
    return sets, dev_sets


def _parted(one: MarkedSet, plan: GeneratorPlan) -> tuple[MarkedSet, MarkedSet]:
    """Less the questions to watch with, and these; by heart all are learned, and some of them watched with."""
    some = list(one.questions)
    random.Random(plan.seed).shuffle(some)  # noqa: S311 - repeatable, not secret
    kept = some[: max(1, round(len(some) * plan.dev_share))]
    if plan.by_heart:
        return one, dataclasses.replace(one, questions=tuple(kept))
    if len(some) < 2:
        raise BadInput(f"the set {one.name} has one question alone", remedy="Name a set to measure with: --dev.")
    rest = tuple(question for question in one.questions if question not in kept)
    return dataclasses.replace(one, questions=rest), dataclasses.replace(one, questions=tuple(kept))


def _new(drills: Sequence[Any], plan: GeneratorPlan) -> tuple[Any, Any]:
    """A tokenizer that has seen drills of all kinds, and a model with weights from the seed."""
    spread = drills[:: max(1, len(drills) // _LEARNED_FROM)]
    texts = [m["content"] for d in spread for m in rendered(d, len, 10**6)] + [drill.answer for drill in spread]
    shape = Shape(plan.width, plan.layers)
    tokenizer = learned_tokenizer(texts, shape.vocabulary)
    return tokenizer, new_model(tokenizer, shape, plan.seed)


def _described(course: GeneratorCourse) -> dict[str, Any]:
    plan = dataclasses.asdict(course.plan) | {"langs": list(course.plan.langs)}
    sets = {"train": [path.name for path in course.train], "dev": [path.name for path in course.dev]}
    return {**sets, "from": course.base.name if course.base else "", "prompt": PROMPT_VERSION, **plan}


def _about(course: GeneratorCourse, model: Any, figures: Mapping[str, float]) -> dict[str, Any]:
    plan, standard = course.plan, GeneratorPlan()
    command = ["citewell train generator", *(f"--train {path.name}" for path in course.train)]
    command += [f"--dev {path.name}" for path in course.dev] + ([f"--from {course.base.name}"] if course.base else [])
    given = ("steps", "batch", "rate", "things", "passages", "width", "layers", "seed")
    command += [f"--{name} {getattr(plan, name)}" for name in given if getattr(plan, name) != getattr(standard, name)]
    command += ["--by-heart"] if plan.by_heart else []
    command += [f"--lang {lang}" for lang in plan.langs] if plan.langs != standard.langs else []
    named = {"eval_exact_match": "exact match", "eval_refused": "refused where nothing answers", "eval_loss": "loss"}
    return {
        "parameters": parameters(model),
        "command": " ".join([*command, f"--out {course.folder.name}"]),
        "figures": {name: round(figures[key], 4) for key, name in named.items()},
        **_described(course),
    }


def _write_card(
    made: Path,
    course: GeneratorCourse,
    sets: Sequence[MarkedSet],
    history: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> None:
    loss = [(row["step"], float(row["loss"])) for row in history if "loss" in row]
    right = [(row["step"], float(row["eval_exact_match"])) for row in history if "eval_exact_match" in row]
    (made / CURVES).write_text(picture(loss, right, "exact match, 0 to 100", 100.0), "utf-8")
    (made / FIGURES).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", "utf-8")
    start = f"from `{course.base.name}`" if course.base else "from nothing"
    lines = [
        "# A small generator",
        "",
        f"A causal language model of {about['parameters'] / 1e6:.1f} M parameters, trained {start} to quote",
        f"the sentence that answers with its marker, or to say that none does, in the prompts of `{PROMPT_VERSION}`.",
        "It knows no more language than the sets below have.",
        "",
        f"![loss and exact match by step]({CURVES})",
        "",
        "| set | questions | passages | licence | source |",
        "|---|---:|---:|---|---|",
        *(f"| {s.name} | {len(s.questions)} | {len(s.texts)} | {s.licence} | {s.source} |" for s in sets),
        "",
        "| figure on the development questions | |",
        "|---|---:|",
        *(f"| {name} | {value:.2f} |" for name, value in about["figures"].items()),
        "",
        "```",
        str(about["command"]),
        "```",
    ]
    (made / CARD).write_text("\n".join(lines) + "\n", "utf-8")
