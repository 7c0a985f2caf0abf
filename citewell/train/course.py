"""One training of a reader from sets to shipped weights, in a folder of its own, from which a killed run goes on.

FOLDER/plan.json          what is trained on and how; a run that goes on must want the same
FOLDER/negatives.json     the hard negatives, which take minutes to find
FOLDER/checkpoint-N/      the trainer's own
FOLDER/reader/            the result: weights, description, card and curves
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citewell.embed.tokens import uncut_tokenizer
from citewell.errors import BadInput
from citewell.generate.reader import Reader
from citewell.generate.windows import Windows
from citewell.ports import Embedder
from citewell.train.blend import blend, weights_of
from citewell.train.card import write_reader
from citewell.train.marked import Marked, MarkedSet, read_set
from citewell.train.negatives import hard_negatives
from citewell.train.neighbours import Neighbours
from citewell.train.reader import Plan, make_trainer, material
from citewell.train.runs import failures_told, opened

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer


Tell = Callable[[dict[str, Any]], None]
_NEGATIVES = "negatives.json"
# A word that this many questions have is one to ask with.
_OFTEN = 20


@dataclass(frozen=True)
class Course:
    """What is trained on (`train`), what is measured with (`dev`; empty keeps a part of `train` for it), and where.

    Whatever is in a set of `without` is left out of the training. `base` is the folder of a reader whose weights it
    begins with, in place of new heads.
    """

    train: tuple[Path, ...]
    dev: tuple[Path, ...]
    folder: Path
    plan: Plan
    without: tuple[Path, ...] = ()
    base: Path | None = None


def train_reader(course: Course, embedder: Embedder, encoder: Path, *, resume: bool, tell: Tell) -> Path:
    """Train, and give the folder of the result. `encoder` is the folder of the embedder's own model.

    `tell` hears of every step in plain values. Raises `BadInput` for sets that cannot be used and for a folder with
    another run in it, `TrainingFailed` when the disk or the numbers give out.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = course.folder
    base = Reader(course.base, encoder, "cpu") if course.base else None
    if base is not None:
        base.check()
    elif course.plan.blend != 1.0:
        raise BadInput("there is nothing to blend the trained weights with", remedy="Name a reader with --from.")
    checkpoints = opened(folder, _described(course, base), resume=resume)
    apart = set[str]().union(*(read_set(path).hashes() for path in course.without))
    sets = [read_set(path).without(apart) for path in course.train]
    dev = [read_set(path) for path in course.dev]
    for one in (*sets, *dev):
        tell({"set": one.name, "questions": len(one.questions), "left_out": dict(one.left_out), "named": one.named})
    cutting = uncut_tokenizer(embedder.describe().tokenizer)
    windows = Windows(cutting)
    network = _network(encoder, course.plan, base)
    near = _neighbours(network, cutting, sets)
    given = material(sets, dev, course.plan, _Negatives(folder / _NEGATIVES, embedder), near, windows)
    if not given.dev.pairs:
        raise BadInput("nothing is left to measure with", remedy="Name a development set with --dev.")
    tell({"windows": len(given.train), "dev_windows": len(given.dev)})
    trainer = make_trainer(network, given, course.plan, folder, windows.pad, tell)
    before = weights_of(network) if course.plan.blend != 1.0 else {}
    with failures_told(folder):
        trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
        blend(network, before, course.plan.blend)
        figures = trainer.evaluate()
        made = folder / "reader"
        history = trainer.state.log_history
        write_reader(made, network, [*sets, *dev], history, _made(course, sets, figures, base), embedder.describe())
    return made


def _neighbours(network: torch.nn.Module, tokenizer: Tokenizer, sets: Sequence[MarkedSet]) -> Neighbours:
    """By the encoder's word embeddings, among the words that the questions use more than once in a while."""
    rows = network.get_parameter("encoder.embeddings.word_embeddings.weight").detach().float().numpy()
    used = Counter(word for one in sets for question in one.questions for word in question.text.casefold().split())
    return Neighbours(tokenizer.get_vocab(), rows, {word for word, times in used.items() if times >= _OFTEN})


def _described(course: Course, base: Reader | None) -> dict[str, Any]:
    plan = dataclasses.asdict(course.plan)
    named = {"train": course.train, "dev": course.dev, "without": course.without}
    begun = {"from": base.revision} if base else {}
    return {**{key: [path.name for path in paths] for key, paths in named.items()}, **begun, **plan}


def _made(course: Course, sets: Sequence[MarkedSet], figures: dict[str, float], base: Reader | None) -> dict[str, Any]:
    """How the reader came about, for its card; `begun_with` is the description of the reader it began with."""
    plan = dataclasses.asdict(course.plan)
    command = ["citewell train reader", *(f"--train {path.name}" for path in course.train)]
    command += [f"--dev {path.name}" for path in course.dev]
    command += [f"--without {path.name}" for path in course.without]
    command += [f"--from {base.revision[:12]}"] if base else []
    command += [f"--{name.replace('_', '-')} {value}" for name, value in plan.items() if value != getattr(Plan(), name)]
    named = {
        "eval_exact_match": "exact match",
        "eval_f1": "F1",
        "eval_best_f1": "F1 with questions that have no answer",
    }
    languages = {question.lang for one in sets for question in one.questions} | set(base.languages if base else ())
    return {
        **({"begun_with": base.made} if base else {}),
        "languages": sorted(languages),
        "plan": plan,
        "command": " ".join(command),
        "threshold": figures["eval_threshold"],
        "figures": {name: round(figures[key], 4) for key, name in named.items()},
    }


class _Negatives:
    """Hard negatives of each set, found once and kept in a file."""

    def __init__(self, file: Path, embedder: Embedder) -> None:
        self._file = file
        self._embedder = embedder
        self._kept: dict[str, dict[str, str]] = json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def __call__(self, one: MarkedSet, questions: Sequence[Marked]) -> dict[str, str]:
        if one.name not in self._kept:
            self._kept[one.name] = hard_negatives(one, questions, self._embedder)
            whole = self._file.with_suffix(".new")
            whole.write_text(json.dumps(self._kept), "utf-8")
            whole.replace(self._file)
        return self._kept[one.name]


def _network(encoder: Path, plan: Plan, base: Reader | None) -> torch.nn.Module:
    """The encoder with new heads, or with the layers and heads of `base`; its word embeddings are not trained."""
    import torch
    from transformers import BertModel

    from citewell.generate.span_network import SpanNetwork
    from citewell.train import attention

    torch.manual_seed(plan.seed)
    options = attention.options() | {"hidden_dropout_prob": plan.dropout}
    model = BertModel.from_pretrained(str(encoder), add_pooling_layer=False, local_files_only=True, **options)
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    network = SpanNetwork(model)
    if base is not None:
        base.begin(network)
    return network
