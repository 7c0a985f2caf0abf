"""`citewell train`: small models of your own, on questions whose answers are marked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from citewell.cli.options import AsJson
from citewell.cli.output import emit_json, show_line

Sets = Annotated[
    list[Path],
    typer.Option("--train", metavar="SET", help="A folder with corpus, queries and qrels; repeatable.", exists=True),
]
Dev = Annotated[
    list[Path] | None,
    typer.Option(
        "--dev", metavar="SET", help="Measured with, never trained on; else a part of --train is kept for it.",
        exists=True,
    ),
]  # fmt: skip
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the run and its result are kept.")]
Without = Annotated[
    list[Path] | None,
    typer.Option(
        "--without", metavar="SET", help="What it holds is left out of the training: sets to report on; repeatable.",
        exists=True,
    ),
]  # fmt: skip
Base = Annotated[
    str, typer.Option("--from", metavar="READER", help="Begin with the weights of this folder, or of `packaged`.")
]
Dropout = Annotated[float, typer.Option("--dropout", min=0.0, max=0.9, help="Share of hidden states left out.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")]
Epochs = Annotated[float, typer.Option("--epochs", min=0.001, help="How often every question is seen.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Windows in a step.")]
Rate = Annotated[float, typer.Option("--rate", min=1e-7, help="The greatest learning rate.")]
Wrong = Annotated[
    float, typer.Option("--negatives", min=0.0, max=1.0, help="Share of questions that come with a wrong passage, too.")
]
Blend = Annotated[
    float,
    typer.Option(
        min=0.01, max=1.0,
        help="With --from: share of the trained weights in the result; those of before have the rest.",
    ),
]  # fmt: skip
Changed = Annotated[
    float,
    typer.Option(
        "--altered", min=0.0, max=1.0,
        help="Share of questions that come again so changed that their own passage does not answer them.",
    ),
]  # fmt: skip
CheckEvery = Annotated[int, typer.Option("--check-every", min=1, help="Steps between checkpoints with their figures.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")]
EmbedderBlend = Annotated[
    float,
    typer.Option(
        "--blend", min=0.01, max=1.0, help="Share of the trained weights in the result; the rest is what it began with."
    ),
]  # fmt: skip
Parallel = Annotated[
    list[Path],
    typer.Option(
        "--parallel", metavar="FILE", exists=True,
        help='Translations, one {"en": TEXT, "ko": TEXT} a line, or a folder of such files; repeatable.',
    ),
]  # fmt: skip
Pairs = Annotated[
    list[Path] | None,
    typer.Option(
        "--pairs", metavar="SET", help="A folder with corpus, queries and qrels, in any language; repeatable.",
        exists=True,
    ),
]  # fmt: skip
Measured = Annotated[
    list[Path],
    typer.Option(
        "--dev", metavar="SET", help="Measured with; what it holds is left out of the training; repeatable.",
        exists=True,
    ),
]  # fmt: skip
Teacher = Annotated[str, typer.Option("--teacher", help="Whose vectors are learned: `packaged`.")]
Begun = Annotated[
    str,
    typer.Option(
        "--from", metavar="EMBEDDER", help="Begin with the weights of this folder or of `multilingual`."
    ),
]  # fmt: skip
WordRate = Annotated[
    float, typer.Option("--word-rate", min=1e-7, help="The greatest learning rate of the word embeddings.")
]
LayerRate = Annotated[float, typer.Option("--layer-rate", min=1e-7, help="The greatest learning rate of the layers.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Most batches; --resume may give another number.")]
Fall = Annotated[int, typer.Option("--fall", min=1, help="Steps in which the rate falls to nothing at the end.")]
Tokens = Annotated[int, typer.Option("--tokens", min=64, help="Tokens in a batch.")]
Pieces = Annotated[int, typer.Option("--pieces", min=100, help="Pieces that are learned for the vocabulary.")]
Frozen = Annotated[int, typer.Option("--frozen", min=0, help="Steps in which the new words alone are trained.")]
CheckMinutes = Annotated[
    float, typer.Option("--check-minutes", min=0.0, help="Minutes between checkpoints with figures.")
]
Patience = Annotated[int, typer.Option("--patience", min=1, help="Checks without a better mean before the rate falls.")]
# Of an evaluation's figures, those that tell how it ran.
_NOT_SHOWN = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_best_f1", "eval_threshold")

group = typer.Typer(
    name="train",
    help="Train small models of your own: `citewell train reader`, `generator` or `embedder`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@contextmanager
def under_way(out: Path) -> Iterator[None]:
    """A run in its folder, alone; Ctrl-C says how to go on."""
    from citewell.train.runs import alone

    try:
        with alone(out):
            yield
    except KeyboardInterrupt:
        show_line("interrupted", "run the same command with --resume to go on from the last checkpoint")
        raise typer.Exit(130) from None


@group.command()
def reader(
    train: Sets,
    out: Out,
    dev: Dev = None,
    without: Without = None,
    base: Base = "",
    resume: Resume = False,
    epochs: Epochs = 2.0,
    batch: Batch = 16,
    rate: Rate = 1e-4,
    negatives: Wrong = 0.33,
    altered: Changed = 0.0,
    blend: Blend = 1.0,
    dropout: Dropout = 0.1,
    check_every: CheckEvery = 1000,
    seed: Seed = 13,
    as_json: AsJson = False,
) -> None:
    """Train a reader: it finds the words of a passage that answer a question, and says when there are none.

    Needs `pip install 'citewell[train]'`. A killed run goes on from its last checkpoint with `--resume`. The best
    checkpoint by F1 is kept in DIR/reader, with a card that says what it was made of and how good it is.

    Examples:

    ```
    citewell train reader --train my-questions --out build/reader
    citewell train reader --train squad1-en-train --out build/reader --resume
    ```
    """
    from citewell import parts
    from citewell.config import load_settings
    from citewell.embed.sentence import packaged_folder
    from citewell.generate.reader import folder_of
    from citewell.train.course import Course, train_reader
    from citewell.train.reader import Plan

    plan = Plan(
        epochs=epochs, batch=batch, rate=rate, negatives=negatives, altered=altered, blend=blend, dropout=dropout,
        seed=seed, check_every=check_every,
    )  # fmt: skip
    embedder = parts.packaged_embedder(load_settings())
    watch = Watch(as_json)
    try:
        begun = folder_of(base) if base else None
        course = Course(tuple(train), tuple(dev or ()), out, plan, tuple(without or ()), begun)
        with under_way(out):
            made = train_reader(course, embedder, packaged_folder(), resume=resume, tell=watch.tell)
    finally:
        embedder.close()
    show_made("reader", made, "reader.json", as_json)


@group.command()
def embedder(
    parallel: Parallel,
    out: Out,
    dev: Measured,
    pairs: Pairs = None,
    teacher: Teacher = "packaged",
    base: Begun = "",
    resume: Resume = False,
    steps: Steps = 20_000,
    fall: Fall = 2_000,
    tokens: Tokens = 8192,
    pieces: Pieces = 36_000,
    frozen: Frozen = 500,
    word_rate: WordRate = 1e-3,
    layer_rate: LayerRate = 2e-4,
    check_minutes: CheckMinutes = 20.0,
    patience: Patience = 6,
    blend: EmbedderBlend = 1.0,
    seed: Seed = 13,
    as_json: AsJson = False,
) -> None:
    """Train an embedder for several languages from the packaged one, which knows English alone.

    Needs `pip install 'citewell[train]'`. On a CPU it takes hours: run it in the background. A killed run goes on from
    its last checkpoint with `--resume`, which may also give it more or fewer steps. The best checkpoint is kept in
    DIR/embedder, which the setting `embedder` loads; its card says what it was made of and how good it is.

    Examples:

    ```
    citewell train embedder --parallel translations.jsonl --pairs my-questions --dev my-test --out build/embedder
    citewell train embedder --parallel translations.jsonl --dev my-test --out build/embedder --resume --steps 30000
    citewell train embedder --parallel legal.jsonl --dev my-test --from multilingual --out build/legal --steps 2000
    ```
    """
    from citewell import parts
    from citewell.config import load_settings
    from citewell.embed.sentence import packaged_folder
    from citewell.train.distil import Distilling
    from citewell.train.embedder import EmbedderCourse, train_embedder

    if teacher != "packaged":
        raise typer.BadParameter("the packaged embedder is the one teacher there is", param_hint="--teacher")
    plan = Distilling(
        pieces=pieces, tokens=tokens, steps=steps, fall=fall, frozen=frozen, word_rate=word_rate, layer_rate=layer_rate,
        check_minutes=check_minutes, patience=patience, blend=blend, seed=seed,
    )  # fmt: skip
    settings = load_settings(data_dir=out, embed_cache=True)
    model = parts.cached(settings, parts.packaged_embedder(settings))
    watch = Watch(as_json)
    try:
        course = EmbedderCourse(tuple(parallel), tuple(pairs or ()), tuple(dev), out, plan, begun_folder(base))
        with under_way(out):
            made = train_embedder(course, model, packaged_folder(), resume=resume, tell=watch.tell)
    finally:
        model.close()
    show_made("embedder", made, "figures.json", as_json)


@group.command()
def ship(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="The result of `citewell train embedder`.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="An empty folder, or a new one.")],
) -> None:
    """Write a trained embedder for a package: bytes for word embeddings, no file over 25 MB, checksums.

    Examples:

    ```
    citewell train ship build/embedder/embedder --out multilingual
    ```
    """
    from citewell.train.shipping import ship as write

    made = write(model, out)
    for file in sorted(made.rglob("*")):
        if file.is_file():
            show_line(str(file.relative_to(made)), f"{file.stat().st_size:,} bytes")


def begun_folder(name: str) -> Path | None:
    """Of an embedder to begin with; None for the teacher's own weights."""
    from citewell.embed.sentence import PACKAGED, source_of

    return None if name in ("", PACKAGED) else Path(source_of(name))


def show_made(name: str, made: Path, file: str, as_json: bool) -> None:
    described = json.loads((made / file).read_text("utf-8"))
    if as_json:
        emit_json({"folder": str(made), "figures": described["figures"]})
        return
    show_line(name, str(made))
    for figure, value in described["figures"].items():
        show_line(figure, f"{value:.3g}")


class Watch:
    """Shows how far a training is and what it may still take, a line at each report; as JSON with `--json`."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._began: tuple[float, int] | None = None

    def tell(self, what: Mapping[str, Any]) -> None:
        if self._as_json:
            typer.echo(json.dumps(what, ensure_ascii=False), err=True)
        elif "step" in what:
            self._step(what)
        elif "set" in what:
            self._set(what)
        elif "doing" in what:
            show_line("now", what["doing"] + (f", {what['done']} of {what['of']}" if "of" in what else ""))
        elif "windows" in what:
            show_line("windows", f"{what['windows']} to train on, {what['dev_windows']} to measure with")
        else:
            for name, counts in what.items():
                show_line(name, ", ".join(f"{count} {kind}" for kind, count in counts.items()))

    def _set(self, what: Mapping[str, Any]) -> None:
        left = what["left_out"] if isinstance(what["left_out"], int) else sum(what["left_out"].values())
        size = f"{what['questions']} questions" if "questions" in what else f"{what['translations']} translations"
        show_line("set", f"{what['set']}: {size}" + (f", {left} left out" if left else ""))
        for name in what.get("named", ()):
            show_line("left out", name)

    def _step(self, what: Mapping[str, Any]) -> None:
        now, step = time.monotonic(), int(what["step"])
        if self._began is None:
            self._began = (now, step)
        began, first = self._began
        rate = (step - first) / max(now - began, 1e-9)
        left = f", {_duration((what['steps'] - step) / rate)} left" if rate else ""
        shown = [
            f"{key.removeprefix('eval_')} {value:.3g}"
            for key, value in what.items()
            if (key == "loss" or key.startswith("eval_")) and key not in _NOT_SHOWN
        ]
        show_line(f"step {step} of {what['steps']}", ", ".join(shown) + left)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
