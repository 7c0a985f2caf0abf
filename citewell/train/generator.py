"""The generator's training: a causal language model learns to quote what answers, by the library's own trainer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from citewell import device
from citewell.errors import MissingDependency, TrainingFailed
from citewell.train.drills import IGNORED, Drill, Encoded, collate

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

# What the tokens before the answer weigh together, against the answer's. Passages name a thing again and again: to
# foresee that is what teaches a new model to copy.
_BEFORE = 0.3


@dataclass(frozen=True)
class GeneratorPlan:
    """How a generator is trained; all of it is in its card.

    `things` is how many invented things there are to be asked about where no set is given. `dev_most` drills are
    measured with; `dev_share` of the questions is kept for it where sets are given without one to measure with.
    """

    steps: int = 900
    batch: int = 24
    rate: float = 3e-3
    things: int = 6000
    passages: int = 2
    by_heart: bool = False
    width: int = 128
    layers: int = 3
    seed: int = 13
    check_every: int = 150
    patience: int = 5
    dev_most: int = 200
    dev_share: float = 0.05
    langs: tuple[str, ...] = ("en",)


def make_trainer(
    model: torch.nn.Module,
    train: Encoded,
    dev: Encoded,
    plan: GeneratorPlan,
    folder: Path,
    pad: int,
    tell: Callable[[dict[str, Any]], None],
) -> Trainer:
    """The library's trainer, ready to run; checkpoints go to `folder`. Items are taken in their order."""
    if importlib.util.find_spec("accelerate") is None:
        raise MissingDependency("training needs `accelerate`", remedy="pip install 'citewell[train]'")
    import torch
    from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback

    class Telling(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            shown = ("loss", "eval_exact_match", "eval_refused", "eval_loss")
            tell({"step": state.global_step, "steps": state.max_steps, **{k: v for k, v in logs.items() if k in shown}})

    class Drilled(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(input_ids=inputs["input_ids"], use_cache=False)
            loss = weighted_loss(outputs.logits, inputs, pad, _BEFORE if model.training else 0.0)
            if not torch.isfinite(loss):
                raise TrainingFailed(
                    "the loss is no number any more", remedy="Begin again in another folder with a smaller --rate."
                )
            return (loss, {"logits": outputs.logits}) if return_outputs else loss

    trainer = Drilled(
        model=model,
        args=_arguments(plan, folder),
        data_collator=partial(collate, pad=pad),
        train_dataset=train,
        eval_dataset=dev,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        compute_metrics=lambda seen: measured(dev.drills, seen.predictions, seen.label_ids),
        callbacks=[EarlyStoppingCallback(early_stopping_patience=plan.patience), Telling()],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(plan: GeneratorPlan, folder: Path) -> Any:
    import torch
    from transformers import TrainingArguments

    where = device.chosen("auto")
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch,
        per_device_eval_batch_size=50,
        learning_rate=plan.rate,
        weight_decay=0.01,
        adam_beta2=0.98,
        warmup_steps=min(100, plan.steps // 10),
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": max(1, plan.steps * 3 // 10), "decay_type": "linear"},
        train_sampling_strategy="sequential",
        bf16=device.dtype(where) is torch.bfloat16,
        use_cpu=where == "cpu",
        eval_strategy="steps",
        eval_steps=plan.check_every,
        save_steps=plan.check_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_steps=min(50, plan.check_every),
        logging_nan_inf_filter=False,
        seed=plan.seed,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=False,
    )


def weighted_loss(logits: torch.Tensor, inputs: dict[str, torch.Tensor], pad: int, before: float) -> torch.Tensor:
    """Mean cross entropy of the answers' tokens, and `before` times that of those before.

    `logits` have shape (items, longest, tokens), `input_ids` and `labels` (items, longest).
    """
    import torch

    aims, answers = inputs["input_ids"][:, 1:], inputs["labels"][:, 1:] != IGNORED
    found = logits[:, :-1]

    def mean(where: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(found[where].float(), aims[where])

    loss = mean(answers)
    return loss + before * mean(~answers & (aims != pad)) if before else loss


def measured(drills: Sequence[Drill], guessed: Any, labels: Any) -> dict[str, float]:
    """Percent of the drills whose every token is the likeliest one, which is what greedy decoding writes.

    `guessed` and `labels` have shape (drills, longest). `exact_match` is over those with an answer, `refused` over
    those without.
    """
    aims = labels[:, 1:]
    right = ((guessed[:, : aims.shape[1]] == aims) | (aims == IGNORED)).all(1)
    has = np.array([drill.answerable for drill in drills])
    return {
        "exact_match": 100 * float(right[has].mean()) if has.any() else 0.0,
        "refused": 100 * float(right[~has].mean()) if (~has).any() else 0.0,
    }
