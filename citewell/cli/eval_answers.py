"""`citewell eval answers`: do retrieval, or fine-tuning, or both, help on your own questions?"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citewell import __version__
from citewell.cli.eval import Baseline, FailBelow, Out, Split, group, load_corpus, report_of
from citewell.cli.options import AsJson, K, Key, Url, connection
from citewell.cli.output import console, emit_json, show_line, table, waiting

if TYPE_CHECKING:
    from citewell.client import Client
    from citewell.engine import Engine
    from citewell.evaluate.asking import AnswerPlan
    from citewell.evaluate.questions import QuestionSet

__all__ = ["answers", "group"]

_SHOWN = ("EM", "F1", "holds", "ROUGE-L", "chrF", "citation precision", "supported", "refused")


Questions = Annotated[
    Path | None,
    typer.Option(
        "--questions", metavar="FILE", help="Questions with `answers`: JSON lines, or a test collection's folder."
    ),
]
Qrels = Annotated[
    Path | None, typer.Option("--qrels", metavar="FILE", help="Judgements: question, document and grade by tabs.")
]
Corpus = Annotated[
    Path | None, typer.Option("--corpus", metavar="DIR", help="A test collection, loaded into an index of its own.")
]
Generators = Annotated[
    str, typer.Option("--generators", metavar="A,B", help="Who answers. [default: the setting generator]")
]
Conditions = Annotated[
    str, typer.Option("--conditions", metavar="A,B", help="rag, closed-book, oracle, fine-tuned, fine-tuned+rag.")
]
FineTuned = Annotated[
    list[str] | None,
    typer.Option("--fine-tuned", metavar="NAME=TUNED", help="A generator's fine-tuned partner; repeatable."),
]
Limit = Annotated[int, typer.Option("--limit", min=0, metavar="N", help="N questions, evenly spread; 0: all.")]
AtOnce = Annotated[int, typer.Option("--at-once", min=1, max=256, metavar="N", help="Questions under way at a time.")]
Wait = Annotated[float, typer.Option("--wait", min=1, metavar="SECONDS", help="The longest wait for one answer.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Ask all anew, whatever a run that was stopped has left.")]


@group.command()
def answers(
    questions: Questions = None,
    qrels: Qrels = None,
    corpus: Corpus = None,
    split: Split = "test",
    generators: Generators = "",
    conditions: Conditions = "rag,closed-book",
    fine_tuned: FineTuned = None,
    k: K = None,
    limit: Limit = 0,
    at_once: AtOnce = 4,
    wait: Wait = 600.0,
    fresh: Fresh = False,
    url: Url = None,
    key: Key = None,
    out: Out = None,
    baseline: Baseline = None,
    fail_below: FailBelow = 0.01,
    as_json: AsJson = False,
) -> None:
    """Say how good answers are, for each generator under each condition, with intervals and paired tests.

    A run that was stopped, however hard, goes on when the same command is given again.

    Examples:

    ```
    citewell eval answers --corpus examples/shop --out report.html
    citewell eval answers --questions questions.jsonl --generators extractive,llama --conditions rag,closed-book,oracle
    citewell eval answers --questions questions.jsonl --url http://127.0.0.1:8080 --limit 200
    citewell eval answers --questions q.jsonl --generators small --fine-tuned small=tuned --conditions rag,fine-tuned
    citewell eval answers --corpus examples/shop --baseline last.json --fail-below 0.02
    ```
    """
    from citewell.evaluate.asking import AnswerPlan, Pace
    from citewell.evaluate.pages import check_name, save
    from citewell.evaluate.questions import read_questions

    place = questions or corpus
    if place is None:
        raise typer.BadParameter("name --questions, or --corpus")
    for file in out or ():
        check_name(file)
    asked = read_questions(place, qrels, split, limit)
    before = report_of(baseline, asked.name) if baseline else None
    plan = AnswerPlan(
        _names(generators), _names(conditions), _partners(fine_tuned or ()), k or 0, Pace(at_once, wait)
    )  # fmt: skip
    with _kept(asked, plan, corpus, url, fresh) as folder:
        found = _measured(asked, plan, folder, corpus, _Connection(url, key, as_json))
        for file in out or ():
            save(found, file)
    if as_json:
        emit_json(found)
    else:
        _show(found)
    if before is not None:
        _hold(found, before, fail_below, f"{baseline}")


@dataclass(frozen=True)
class _Connection:
    url: str | None
    key: str | None
    quiet: bool


@contextlib.contextmanager
def _kept(asked: QuestionSet, plan: AnswerPlan, corpus: Path | None, url: str | None, fresh: bool) -> Iterator[Path]:
    """The folder of this evaluation below `data_dir`; it goes when the report is written, and stays when that fails."""
    from citewell.config import load_settings

    folder = load_settings().data_dir / "evaluations" / _mark(asked, plan, corpus, url)
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _measured(
    asked: QuestionSet, plan: AnswerPlan, folder: Path, corpus: Path | None, there: _Connection
) -> dict[str, Any]:
    from citewell.config import load_settings
    from citewell.evaluate import get_answer_score
    from citewell.evaluate.conditions import cells

    settings = load_settings()
    plan = replace(plan, generators=plan.generators or [settings.generator], k=plan.k or settings.k)
    cells(plan.generators, plan.conditions, plan.fine_tuned)  # what is wrong with them is told before anything loads
    with _asked(corpus, folder, there.url, there.key) as engine, waiting("asking"):
        return get_answer_score(engine, asked, plan, folder / "answers.jsonl", _Resumed(quiet=there.quiet))


def _hold(found: dict[str, Any], before: dict[str, Any], fail_below: float, baseline: str) -> None:
    from citewell.errors import Conflict
    from citewell.evaluate.answers import GATED
    from citewell.evaluate.retrieval import fallen

    if lost := fallen(found, before, fail_below, GATED):
        raise Conflict(
            f"figures fell by more than {fail_below:g} since {baseline}: {'; '.join(lost)}",
            remedy="Look at what changed since the baseline; where the fall is meant, save a new one with --out.",
        )


class _Resumed:
    """Says once how much an earlier run has left."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, count: int) -> None:
        if count and not self._quiet:
            show_line("resumed", f"{count} answers are there from a run that was stopped; --fresh asks them anew")
        self._quiet = True


@contextlib.contextmanager
def _asked(corpus: Path | None, folder: Path, url: str | None, key: str | None) -> Iterator[Engine | Client]:
    """The service or the engine of the settings; with a corpus, an embedded one of its own below `folder`.

    That one stays when this process is killed, so that the next run finds documents and answers as they were.
    """
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings
    from citewell.engine import build

    if corpus is None:
        with connection(url, key, "api") as there:
            yield there
        return
    if url:
        raise typer.BadParameter("--corpus has an index of its own; name --questions for the service at --url")
    own = load_settings(stack="embedded", index_name="evaluation", data_dir=folder / "data")
    with for_a_person(), waiting(f"loading {corpus}"), build(own, sources=[str(corpus)]) as engine:
        load_corpus(engine, corpus)
        yield engine


def _mark(asked: QuestionSet, plan: AnswerPlan, corpus: Path | None, url: str | None) -> str:
    """What makes two runs the same evaluation: questions, cells and where they are asked."""
    files = sorted(corpus.rglob("*")) if corpus else []
    looks = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
    told: list[Any] = [
        __version__,
        asked.questions,
        plan.generators,
        plan.conditions,
        plan.fine_tuned,
        plan.k,
        url,
        looks,
    ]
    whole = json.dumps(told, default=vars, sort_keys=True)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _names(named: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in named.split(",") if name.strip()))


def _partners(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, _, tuned = pair.partition("=")
        if not name or not tuned:
            raise typer.BadParameter(f"`{pair}` is not NAME=TUNED, as in small=small-shop", param_hint="--fine-tuned")
        found[name] = tuned
    return found


def _show(found: dict[str, Any]) -> None:
    from citewell.evaluate.answer_pages import asked, figure, rows

    screen = console()
    for sentence in found["verdict"]:
        screen.print(sentence)
    built = table(screen, "generator, condition", "language", ">questions", *(f">{name}" for name in _SHOWN), ">p50 ms")
    for cell, lang, figures in rows(found):
        told = [figure(figures[name], name) for name in _SHOWN]
        ms = str(found["cells"][cell]["ms"]["p50"]) if lang == "all" else ""
        built.add_row(cell, lang, str(figures["questions"]), *told, ms)
    screen.print(built)
    screen.print(asked(found), style="dim")
