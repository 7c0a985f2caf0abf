"""The reader's training: a span and an answerability head on an embedder's encoder, by the library's own trainer.

The encoder's word embeddings stay as they are, so that the trained part is the layers alone: half the weights, which is
what is shipped. Hard negatives (the nearest passage without the answer) teach it to refuse.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell import device
from citewell.errors import BadInput, MissingDependency
from citewell.evaluate.overlap import exact_match, f1
from citewell.generate.windows import Found, Windows, spans_of
from citewell.train.altered import Alterations, Near
from citewell.train.marked import Marked, MarkedSet, Text
from citewell.train.pairs import Pair, Pairs, collate

if TYPE_CHECKING:
    import torch
    from transformers import Trainer


# Draws what is held back to measure with, whatever a plan's seed: a run that begins with a reader's weights is then
# never measured with what these were trained on.
_HELD_BACK = 13

# A reader refuses where that costs little: this share of the F1 of its answers is kept. Then it refuses as often as
# ranked sentences do where no passage answers, and answers more (docs/LOG.md).
_KEPT = 0.95

# A set and questions of it to the passage, for each by its id, that looks like an answer and holds none.
Nearest = Callable[[MarkedSet, Sequence[Marked]], dict[str, str]]


@dataclass(frozen=True)
class Plan:
    """How a reader is trained; all of it is in its card.

    `negatives` is the share of questions that come a second time, with a passage that does not answer them, `altered`
    that of those that come again so changed that their own passage does not (`citewell.train.altered`). `dev_share` of
    the training passages is kept for the development set where no other is given; `dev_most` bounds its questions.
    `dropout` is that of hidden states: a fifth of a step's time, and of no use where each question is seen but once.
    Where a run begins with a reader's weights, `blend` is the share of the trained ones in the result; those of before
    have the rest.
    """

    epochs: float = 2.0
    batch: int = 16
    rate: float = 1e-4
    negatives: float = 0.33
    altered: float = 0.0
    blend: float = 1.0
    dropout: float = 0.1
    seed: int = 13
    dev_share: float = 0.02
    dev_most: int = 1000
    check_every: int = 1000
    patience: int = 5


@dataclass(frozen=True)
class Material:
    """What is trained on and measured with."""

    train: Pairs
    dev: Pairs
    texts: dict[str, Text]


def parts_of(sets: Sequence[MarkedSet], dev: Sequence[MarkedSet], plan: Plan) -> tuple[list[Marked], list[Marked]]:
    """Questions to train on, and to measure with. Raises `BadInput` where both have a question or passage in common."""
    training = [question for one in sets for question in one.questions]
    measured = [question for one in dev for question in one.questions]
    if dev:
        common = set[str]().union(*(one.hashes() for one in sets)) & set[str]().union(*(one.hashes() for one in dev))
        if common:
            raise BadInput(
                f"{len(common)} questions or passages are in the training sets and in the development sets",
                remedy="Choose sets that have none in common: the figures would be worth nothing.",
            )
    else:
        titles = sorted({text.title or text.id for one in sets for text in one.texts.values()})
        _drawn(_HELD_BACK).shuffle(titles)
        kept = set(titles[: max(1, round(len(titles) * plan.dev_share))])
        texts = {key: text for one in sets for key, text in one.texts.items()}
        held = [any((texts[p].title or p) in kept for p in question.passages) for question in training]
        measured = [question for question, out in zip(training, held, strict=True) if out]
        training = [question for question, out in zip(training, held, strict=True) if not out]
    _drawn(_HELD_BACK).shuffle(measured)
    return training, measured[: plan.dev_most]


def material(
    sets: Sequence[MarkedSet], dev: Sequence[MarkedSet], plan: Plan, nearest: Nearest, near: Near, windows: Windows
) -> Material:
    """The pairs of training and of measuring; a question to measure with comes with a wrong passage, too.

    `near` gives the words that a question is altered with.
    """
    training, measured = parts_of(sets, dev, plan)
    texts = {key: text for one in (*sets, *dev) for key, text in one.texts.items()}
    chosen = _drawn(plan.seed + 1).sample(training, round(len(training) * plan.negatives))
    wrong: dict[str, str] = {}
    wanted = {question.id for question in (*chosen, *measured)}
    for one in (*sets, *dev):
        wrong |= nearest(one, [question for question in one.questions if question.id in wanted and question.spans])
    pairs = [pair for question in training for pair in _given(question)]
    pairs += [Pair(question, wrong[question.id], None) for question in chosen if question.id in wrong]
    some = _drawn(plan.seed + 3).sample(training, round(len(training) * plan.altered))
    for question, text in Alterations(texts, near, plan.seed + 4).of(some):
        texts[text.id] = text
        pairs.append(Pair(question, text.id, None))
    _drawn(plan.seed + 2).shuffle(pairs)
    measuring = [pair for question in measured for pair in _given(question)]
    measuring += [Pair(question, wrong[question.id], None) for question in measured if question.id in wrong]
    return Material(Pairs(pairs, texts, windows), Pairs(measuring, texts, windows), texts)


def _drawn(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - repeatable, not secret


def _given(question: Marked) -> list[Pair]:
    """A question with the passage of its first answer; with each passage where none answers."""
    if question.spans:
        return [Pair(question, question.spans[0].passage, question.spans[0])]
    return [Pair(question, passage, None) for passage in question.passages]


def make_trainer(
    network: torch.nn.Module,
    given: Material,
    plan: Plan,
    folder: Path,
    pad: int,
    tell: Callable[[dict[str, Any]], None],
) -> Trainer:
    """The library's trainer, ready to run; checkpoints go to `folder`."""
    if importlib.util.find_spec("accelerate") is None:
        raise MissingDependency("training needs `accelerate`", remedy="pip install 'citewell[train]'")
    import torch
    from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Telling(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            tell({"step": state.global_step, "steps": state.max_steps, **(logs or {})})

    where = device.chosen("auto")
    steps = int(plan.epochs * len(given.train) / plan.batch)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=plan.batch,
        per_device_eval_batch_size=32,
        learning_rate=plan.rate,
        weight_decay=0.01,
        warmup_steps=min(500, steps // 10),
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": max(1, steps // 3), "decay_type": "linear"},
        train_sampling_strategy="group_by_length",
        bf16=device.dtype(where) is torch.bfloat16,
        use_cpu=where == "cpu",
        eval_strategy="steps",
        eval_steps=plan.check_every,
        save_steps=plan.check_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
        greater_is_better=True,
        logging_steps=50,
        logging_nan_inf_filter=False,
        seed=plan.seed,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=network,
        args=arguments,
        data_collator=partial(collate, pad=pad),
        train_dataset=given.train,
        eval_dataset=given.dev,
        compute_metrics=lambda seen: measured_by(given, seen),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=plan.patience), Telling()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def measured_by(given: Material, seen: Any) -> dict[str, float]:
    """How well the development pairs are answered.

    `exact_match` and `f1` of the best span in the right passage, in percent. With the pairs that have no answer, as
    SQuAD 2.0 counts them (Rajpurkar et al. 2018): `best_f1`, in percent, is the greatest F1 that refusing below a score
    gives. `threshold` is where the product refuses: see `keeping`.
    """
    starts, ends, answers = seen.predictions
    best: dict[int, Found] = {}
    for row, place in enumerate(seen.label_ids[:, 3].tolist()):
        number = given.dev.places[place][0]
        window = given.dev[place]["window"]
        for found in spans_of(window, starts[row], ends[row], float(answers[row]), most=1):
            if number not in best or found.score > best[number].score:
                best[number] = found
    scores, shared, exact = [], [], []
    for number, pair in enumerate(given.dev.pairs):
        found = best.get(number, Found(0, 0, -np.inf))
        answer = given.texts[pair.passage].text[found.start : found.end]
        told, lang = (pair.question.answers if pair.span else ()), pair.question.lang
        scores.append(found.score)
        shared.append(f1(answer, told, lang) if told else 0.0)
        exact.append(exact_match(answer, told, lang) if told else 0.0)
    has = np.array([pair.span is not None for pair in given.dev.pairs])
    _, greatest = best_threshold(np.array(scores), np.array(shared), has)
    return {
        "exact_match": 100 * float(np.array(exact)[has].mean()) if has.any() else 0.0,
        "f1": 100 * float(np.array(shared)[has].mean()) if has.any() else 0.0,
        "best_f1": 100 * greatest,
        "threshold": keeping(np.array(scores)[has], np.array(shared)[has]),
    }


def keeping(scores: Any, shared: Any, kept: float = _KEPT) -> float:
    """The highest score from which on answers have this share of the F1 of all; arrays of shape (questions,)."""
    order = np.argsort(-scores, kind="stable")
    sums = np.cumsum(shared[order])
    if not len(order) or sums[-1] <= 0:
        return 0.0
    return float(scores[order[int(np.searchsorted(sums, kept * sums[-1] - 1e-9))]])


def best_threshold(scores: Any, shared: Any, has: Any) -> tuple[float, float]:
    """The score from which on it is best to answer, and the mean F1 then; arrays of shape (pairs,).

    `shared` is the F1 of the answer that would be given, `has` whether there is one. Refusing is worth 1 where there is
    none, and nothing where there is one.
    """
    order = np.argsort(-scores, kind="stable")
    answered = np.concatenate([[0.0], np.cumsum(np.where(has, shared, 0.0)[order])])
    refused = (~has).sum() - np.concatenate([[0], np.cumsum(~has[order])])
    means = (answered + refused) / max(1, len(scores))
    cut = int(np.argmax(means))
    if cut == len(scores):
        return float(np.nan_to_num(scores.min(), neginf=-1e4)) if len(scores) else 0.0, float(means[cut])
    return float(np.nextafter(scores[order[cut]], np.inf)), float(means[cut])
