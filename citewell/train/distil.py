"""The student's training, by the library's own trainer: batches by step, figures by the clock, and an end that anneals.

The rate rises, stays and falls to nothing over the last steps. When the figures stop rising, the fall begins at once.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citewell import device
from citewell.errors import MissingDependency
from citewell.train.lessons import Batches

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

MEAN = "eval_mean"


@dataclass(frozen=True)
class Distilling:
    """How a student is trained; all of it is in its card.

    `pieces` are learned for the vocabulary, `longest` tokens of a text are read, `tokens` make a batch. The layers stay
    frozen for the first `frozen` steps: the new words come to the layers before the layers come to them. Figures are
    taken every `check_minutes`; after `patience` of them without a better mean the rate falls over `fall` steps, as it
    does at the end of `steps`. Of the result the trained weights are the share `blend`; what it began with is the rest.
    """

    pieces: int = 36_000
    longest: int = 160
    tokens: int = 8192
    steps: int = 20_000
    fall: int = 2_000
    frozen: int = 500
    word_rate: float = 1e-3
    layer_rate: float = 2e-4
    check_minutes: float = 20.0
    patience: int = 6
    dev_questions: int = 100
    dev_texts: int = 300
    blend: float = 1.0
    seed: int = 13


class Slope:
    """The share of the rate by step. The library keeps `falls` with a checkpoint and brings it back."""

    def __init__(self, plan: Distilling) -> None:
        self.planned = (plan.steps, plan.fall)
        self.rise = min(200, max(1, plan.steps // 20))
        self.fall = max(1, min(plan.fall, plan.steps))
        self.falls = plan.steps - self.fall

    def __call__(self, step: int) -> float:
        rising = min(1.0, (step + 1) / self.rise)
        return rising * max(0.0, min(1.0, 1 - (step - self.falls) / self.fall))

    @property
    def end(self) -> int:
        return self.falls + self.fall


def make_trainer(
    student: torch.nn.Module,
    batches: Batches,
    figures: Callable[[torch.nn.Module], dict[str, float]],
    plan: Distilling,
    folder: Path,
    tell: Callable[[dict[str, Any]], None],
) -> Trainer:
    """The library's trainer, ready to run; checkpoints go to `folder`. `figures` are of the student, by set."""
    if importlib.util.find_spec("accelerate") is None:
        raise MissingDependency("training needs `accelerate`", remedy="pip install 'citewell[train]'")
    from transformers import PrinterCallback, Trainer

    slope = Slope(plan)

    class Distiller(Trainer):
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            found = figures(student)
            metrics = {f"eval_{name}": value for name, value in found.items()}
            metrics[MEAN] = sum(found.values()) / max(1, len(found))
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    trainer = Distiller(
        model=student,
        args=_arguments(plan, folder),
        data_collator=_only,
        train_dataset=batches,
        eval_dataset=batches,
        optimizers=_optimizer(student, plan, slope),
        callbacks=[_watch(student, slope, plan, tell)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _watch(student: torch.nn.Module, slope: Slope, plan: Distilling, tell: Callable[[dict[str, Any]], None]) -> Any:
    """Figures by the clock, frozen layers at first, an end where the slope has one, and word of every step."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.checked = time.monotonic()
            self.worse = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if slope.planned != (plan.steps, plan.fall):  # a checkpoint brought those of its time
                vars(slope).update(vars(Slope(plan)))

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            set_frozen(student, frozen=state.global_step < plan.frozen)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop |= state.global_step >= slope.end
            if control.should_training_stop or time.monotonic() - self.checked > plan.check_minutes * 60:
                control.should_log = control.should_evaluate = control.should_save = True

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            self.checked = time.monotonic()
            better = state.best_metric is None or metrics[MEAN] > state.best_metric
            self.worse = 0 if better else self.worse + 1
            if self.worse >= plan.patience and state.global_step < slope.falls:
                slope.falls = state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            tell({"step": state.global_step, "steps": slope.end, **(logs or {})})

    return Watch()


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


def set_frozen(student: Any, *, frozen: bool) -> None:
    for name, parameter in student.named_parameters():
        if "word_embeddings" not in name:
            parameter.requires_grad_(not frozen)


def _arguments(plan: Distilling, folder: Path) -> Any:
    import torch
    from transformers import TrainingArguments

    where = device.chosen("auto")
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=1,
        bf16=device.dtype(where) is torch.bfloat16,
        use_cpu=where == "cpu",
        train_sampling_strategy="sequential",
        eval_strategy="steps",
        eval_steps=plan.steps + 1,
        save_steps=plan.steps + 1,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=MEAN,
        greater_is_better=True,
        logging_steps=20,
        logging_nan_inf_filter=False,
        seed=plan.seed,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def _optimizer(student: Any, plan: Distilling, slope: Slope) -> tuple[Any, Any]:
    """Adam without a decay for the word embeddings: it would draw words that seldom come towards nothing."""
    import torch

    words = [p for name, p in student.named_parameters() if "word_embeddings" in name]
    layers = [p for name, p in student.named_parameters() if "word_embeddings" not in name]
    groups: list[Mapping[str, Any]] = [
        {"params": words, "lr": plan.word_rate, "weight_decay": 0.0},
        {"params": layers, "lr": plan.layer_rate, "weight_decay": 0.01},
    ]
    optimizer = torch.optim.AdamW(groups, fused=True)  # type: ignore[arg-type]  # a Mapping is a dict to it
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, slope)
