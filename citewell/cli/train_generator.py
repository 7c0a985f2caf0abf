"""`citewell train generator`: a small language model of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from citewell.cli.options import AsJson
from citewell.cli.train import Dev, Out, Rate, Resume, Seed, Watch, group, show_made, under_way

Sets = Annotated[
    list[Path] | None,
    typer.Option(
        "--train", metavar="SET", help="A folder with corpus, queries and qrels; repeatable. None: invented facts.",
        exists=True,
    ),
]  # fmt: skip
Base = Annotated[
    Path | None, typer.Option("--from", metavar="FOLDER", help="A causal model to train further.", exists=True)
]
ByHeart = Annotated[
    bool, typer.Option("--by-heart", help="Learn the facts, too: some questions come without passages.")
]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Batches that are trained on.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Questions in a step.")]
Things = Annotated[int, typer.Option("--things", min=20, help="Invented things with facts, where no set is given.")]
Lang = Annotated[list[str] | None, typer.Option("--lang", help="Language of invented facts; repeatable.")]
Most = Annotated[int, typer.Option("--passages", min=1, max=10, help="Most passages of a question.")]
Width = Annotated[int, typer.Option("--width", min=8, help="Of a new model's hidden states.")]
Layers = Annotated[int, typer.Option("--layers", min=1, help="Of a new model.")]
CheckEvery = Annotated[int, typer.Option("--check-every", min=1, help="Steps between checkpoints with their figures.")]


@group.command()
def generator(
    out: Out,
    train: Sets = None,
    dev: Dev = None,
    base: Base = None,
    by_heart: ByHeart = False,
    resume: Resume = False,
    steps: Steps = 900,
    batch: Batch = 24,
    rate: Rate = 3e-3,
    things: Things = 6000,
    lang: Lang = None,
    passages: Most = 2,
    width: Width = 128,
    layers: Layers = 3,
    check_every: CheckEvery = 150,
    seed: Seed = 13,
    as_json: AsJson = False,
) -> None:
    """Train a small language model to quote the passage that answers, with its marker, or to say that none does.

    Without `--train` it learns from invented facts, within minutes on a CPU, and keeps others in DIR/held-out to be
    asked about. Needs `pip install 'citewell[train]'`. A killed run goes on from its last checkpoint with `--resume`.
    The best checkpoint is kept in DIR/generator, which `[generators.NAME]` with `kind = "transformers"` loads.

    Examples:

    ```
    citewell train generator --out build/tiny
    citewell train generator --train my-questions --from build/tiny/generator --by-heart --out build/tuned
    ```
    """
    from citewell.train.generating import FIGURES, GeneratorCourse, train_generator
    from citewell.train.generator import GeneratorPlan

    plan = GeneratorPlan(
        steps=steps, batch=batch, rate=rate, things=things, passages=passages, by_heart=by_heart, width=width,
        layers=layers, seed=seed, check_every=check_every, langs=tuple(lang or ("en",)),
    )  # fmt: skip
    course = GeneratorCourse(tuple(train or ()), tuple(dev or ()), base, out, plan)
    with under_way(out):
        made = train_generator(course, resume=resume, tell=Watch(as_json).tell)
    show_made("generator", made, FIGURES, as_json)
