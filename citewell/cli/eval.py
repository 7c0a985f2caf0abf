"""`citewell eval` and `citewell tune`: how well your own judged questions are answered, and with which fusion best."""

from __future__ import annotations

import contextlib
import json
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citewell.cli.options import AsJson
from citewell.cli.output import console, emit_json, show_line, table, waiting

if TYPE_CHECKING:
    from citewell.config import Settings
    from citewell.engine import Engine
    from citewell.evaluate.collection import Collection
    from citewell.evaluate.tune import Choice

_STACKS = {"embedded": "embedded", "elasticsearch": "served", "served": "served"}
_MODES = "Modes: bm25, dense, hybrid, minmax, rrf, minmax:0.3, hybrid+rerank."
_SHOWN = ("nDCG@10", "R@10", "R@100", "P@1", "RR", "AP")
Queries = Annotated[
    Path | None, typer.Option("--queries", metavar="FILE", help="Questions: JSON lines, or id and text by tabs.")
]
Qrels = Annotated[
    Path | None,
    typer.Option("--qrels", metavar="FILE", help="Judgements: question, document and grade by tabs, or TREC's."),
]
Corpus = Annotated[
    Path | None,
    typer.Option(
        "--corpus", metavar="DIR", help="A test collection (corpus, queries, qrels), loaded into an index of its own."
    ),
]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="Judgements of the collection: qrels/NAME.tsv.")]
Stacks = Annotated[str, typer.Option("--stack", metavar="A,B", help="Stacks to compare: embedded, elasticsearch.")]
IndexName = Annotated[str, typer.Option("--index", metavar="NAME", help="Search this index instead of the set one.")]
Out = Annotated[
    list[Path] | None,
    typer.Option("--out", metavar="FILE", help="Write the report there, as .json, .md or .html; repeatable."),
]
Limit = Annotated[int, typer.Option("--limit", min=0, metavar="N", help="Only the first N judged questions; 0: all.")]
Baseline = Annotated[Path | None, typer.Option("--baseline", metavar="FILE", help="An earlier report to compare with.")]
FailBelow = Annotated[
    float, typer.Option("--fail-below", min=0, max=1, metavar="DELTA", help="Most that a figure may fall; then exit 1.")
]

group = typer.Typer(
    name="eval",
    help="Measure with your own judged questions: `citewell eval retrieval`, `citewell eval answers`.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@group.command()
def retrieval(
    corpus: Corpus = None,
    queries: Queries = None,
    qrels: Qrels = None,
    split: Split = "test",
    mode: Annotated[str, typer.Option("--mode", metavar="A,B", help=_MODES)] = "bm25,dense,hybrid",
    limit: Limit = 0,
    stack: Stacks = "",
    index: IndexName = "",
    out: Out = None,
    baseline: Baseline = None,
    fail_below: FailBelow = 0.01,
    as_json: AsJson = False,
) -> None:
    """Say how well the right documents are found: figures as trec_eval's, with intervals and paired tests.

    Examples:

    ```
    citewell eval retrieval --corpus examples/shop
    citewell eval retrieval --queries questions.jsonl --qrels judgements.tsv --mode bm25,hybrid,rrf
    citewell eval retrieval --corpus examples/shop --stack embedded,elasticsearch --out report.html
    citewell eval retrieval --corpus examples/shop --baseline last.json --fail-below 0.01
    ```
    """
    from citewell.errors import Conflict
    from citewell.evaluate.pages import save
    from citewell.evaluate.retrieval import fallen, measure, report

    collection = _collection(corpus, queries, qrels, split, limit)
    before = report_of(baseline, collection.name) if baseline else None
    modes = list(dict.fromkeys(name.strip() for name in mode.split(",") if name.strip()))
    measured = []
    with tempfile.TemporaryDirectory(prefix="citewell-eval-") as folder:
        for name in _stacks(stack):
            with loaded_engine(corpus, Path(folder), name, index) as engine, waiting("measuring"):
                measured.append(measure(engine, collection, modes))
    found = report(collection, measured)
    for file in out or ():
        save(found, file)
    if as_json:
        emit_json(found)
    else:
        _show(found)
    if before is not None and (lost := fallen(found, before, fail_below)):
        raise Conflict(
            f"figures fell by more than {fail_below:g} since {baseline}: {'; '.join(lost)}",
            remedy="Look at what changed since the baseline; where the fall is meant, save a new one with --out.",
        )


def tune(
    corpus: Corpus = None,
    queries: Queries = None,
    qrels: Qrels = None,
    split: Split = "test",
    limit: Limit = 0,
    write: Annotated[
        bool, typer.Option("--write/--no-write", help="Write sure gains to the settings file. [default: write]")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Find each language's fusion, weight and depth on judged questions, by cross-validation.

    A choice is written to `citewell.toml` only where its gain is above zero throughout the 95 % interval.

    Examples:

    ```
    citewell tune --queries questions.jsonl --qrels judgements.tsv
    citewell tune --corpus examples/shop --no-write
    ```
    """
    from citewell.config import Tuned, config_file
    from citewell.evaluate.retrieval import fetch
    from citewell.evaluate.tune import tune as choose
    from citewell.settings_file import write_tuned

    collection = _collection(corpus, queries, qrels, split, limit)
    with (
        tempfile.TemporaryDirectory(prefix="citewell-eval-") as folder,
        loaded_engine(corpus, Path(folder)) as engine,
        waiting("tuning"),
    ):
        legs = [item.legs for item in fetch(engine, collection)]
        langs = sorted({item.lang for item in legs})
        choices = [choose([item for item in legs if item.lang == lang], engine.plan(lang)) for lang in langs]
    sure = {
        c.lang: Tuned(
            fusion=c.plan.fusion.method, alpha=c.plan.fusion.alpha, rrf_k=c.plan.fusion.rrf_k, depth=c.plan.depth
        )
        for c in choices
        if c.sure
    }
    path = config_file() or Path("citewell.toml")
    if write and sure:
        write_tuned(path, sure)
    if as_json:
        emit_json({"choices": [_choice(c) for c in choices], "written": sorted(sure) if write else []})
        return
    _show_choices(choices)
    if write and sure:
        show_line("written", f"{', '.join(sorted(sure))} to {path}; restart the service to use it")
    elif not sure:
        show_line("kept", "no choice is surely better than the present settings")


def _collection(corpus: Path | None, queries: Path | None, qrels: Path | None, split: str, limit: int) -> Collection:
    from citewell.evaluate.collection import from_files, from_folder

    if queries is not None and qrels is not None:
        return from_files(queries, qrels, limit=limit)
    if corpus is None:
        raise typer.BadParameter("name --corpus, or both --queries and --qrels")
    return from_folder(corpus, split, limit)


@contextlib.contextmanager
def loaded_engine(
    corpus: Path | None, folder: Path, stack: str = "", index: str = "", embedder: str = ""
) -> Iterator[Engine]:
    """A loaded engine on the settings' index; with a corpus, on an index of its own, which goes again.

    `folder` keeps the vectors of a corpus from one stack to the next.
    """
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings
    from citewell.engine import build

    chosen: dict[str, Any] = {"stack": stack} if stack else {}
    if index:
        chosen["index_name"] = index
    if embedder:
        chosen["embedder"] = embedder
    with contextlib.ExitStack() as life:
        life.enter_context(for_a_person())
        if corpus is not None:
            chosen |= {"stack": stack or "embedded", "index_name": f"eval-{uuid.uuid4().hex[:8]}"}
            chosen |= {"data_dir": folder, "embed_cache": True}
        with waiting("loading"):
            engine = life.enter_context(build(_for_corpus(load_settings(**chosen), corpus), "ingest"))
        if corpus is not None:
            life.callback(engine.library.remove)
            with waiting(f"loading the documents of {corpus}"):
                load_corpus(engine, corpus)
        yield engine


def _for_corpus(settings: Settings, corpus: Path | None) -> Settings:
    """Each stack measures a corpus under the same embedder: the one that its documents choose."""
    from citewell.choosing import settled_for
    from citewell.ingest.load import opened

    return settings if corpus is None else settled_for(settings, opened([str(corpus)], settings))


def _stacks(named: str) -> list[str]:
    """The settings' names of the stacks; an empty one is whatever is set."""
    names = [name.strip() for name in named.split(",") if name.strip()]
    if unknown := [name for name in names if name not in _STACKS]:
        raise typer.BadParameter(f"there is no stack `{unknown[0]}`; known: {', '.join(_STACKS)}")
    return list(dict.fromkeys(_STACKS[name] for name in names)) or [""]


def load_corpus(engine: Engine, corpus: Path) -> None:
    from citewell.errors import InvalidDocument

    for outcome in engine.ingest([str(corpus)]):
        if outcome.status == "failed":
            raise InvalidDocument(f"{corpus}, {outcome.doc_id}: {outcome.reason}", remedy=outcome.remedy)


def report_of(file: Path, collection: str) -> dict[str, Any]:
    """A saved report, or a collection's figures in a file for several (`collections: {NAME: {figures: …}}`)."""
    import yaml

    from citewell.errors import BadInput

    try:
        text = file.read_text("utf-8")
        found: dict[str, Any] = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
        if "collections" in found:
            found = found["collections"][collection]
        for langs in found["figures"].values():
            for figures in langs.values():
                figures.items()
    except KeyError as error:
        raise BadInput(f"{file} has no {error}", remedy="Save a report with --out.") from None
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise BadInput(f"{file} is no report: {error}", remedy="Save one with --out.") from None
    return found


def _show(found: dict[str, Any]) -> None:
    screen = console()
    built = table(screen, "mode", "language", ">questions", *(f">{name}" for name in _SHOWN), ">nDCG@10, 95 %")
    for mode, langs in found["figures"].items():
        for lang, figures in langs.items():
            sure = figures["nDCG@10"]
            cells = [f"{figures[name]['value']:.3f}" for name in _SHOWN]
            built.add_row(mode, lang, str(figures["questions"]), *cells, f"{sure['low']:.3f} to {sure['high']:.3f}")
    screen.print(built)
    for name, gap in found["differences"].items():
        screen.print(
            f"{name}: {gap['value']:+.3f} nDCG@10 ({gap['low']:+.3f} to {gap['high']:+.3f}, p = {gap['p']:.4f})",
            style="dim",
        )
    for pair, modes in found["parity"].items():
        for mode, gap in modes.items():
            screen.print(
                f"{pair}, {mode}: {gap['value']:+.3f} nDCG@10 ({gap['low']:+.3f} to {gap['high']:+.3f}), "
                f"overlap@10 {gap['overlap@10']:.3f}",
                style="dim",
            )
    if found["unjudged"]:
        screen.print(f"{found['unjudged']} questions without a relevant document were left out", style="dim")


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "lang": choice.lang,
        "questions": choice.questions,
        "plan": choice.plan.fusion.describe() | {"depth": choice.plan.depth},
        "present": round(choice.present, 4),
        "validated": round(choice.validated, 4),
        "gain": round(choice.gain, 4),
        "low": round(choice.low, 4),
        "high": round(choice.high, 4),
        "sure": choice.sure,
        "alone": {leg: round(value, 4) for leg, value in choice.alone.items()},
    }


def _show_choices(choices: list[Choice]) -> None:
    screen = console()
    built = table(screen, "language", ">questions", ">bm25", ">dense", ">now", ">tuned", ">gain, 95 %", "choice")
    for c in choices:
        words = " ".join(f"{name} {value}" for name, value in c.plan.fusion.describe().items())
        built.add_row(
            c.lang,
            str(c.questions),
            *(f"{value:.3f}" for value in (c.alone["bm25"], c.alone["dense"], c.present, c.validated)),
            f"{c.low:+.3f} to {c.high:+.3f}",
            f"{words} depth {c.plan.depth}",
        )
    screen.print(built)
    screen.print("nDCG@10; `tuned` is cross-validated: no question judged a choice that it helped to make", style="dim")
