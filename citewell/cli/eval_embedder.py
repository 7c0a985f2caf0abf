"""`citewell eval embedder`: whether a candidate may take the packaged embedder's place, on collections of your own."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citewell.cli.eval import Limit, Out, group, loaded_engine
from citewell.cli.options import AsJson
from citewell.cli.output import console, emit_json, show_line, table, waiting

if TYPE_CHECKING:
    from citewell.evaluate.collection import Collection
    from citewell.evaluate.gate import Compared

Candidate = Annotated[str, typer.Argument(metavar="EMBEDDER", help="What the setting `embedder` would be.")]
Corpora = Annotated[
    list[Path], typer.Option("--corpus", metavar="DIR", help="A test collection; repeatable.", exists=True)
]


@group.command("embedder")
def embedder(candidate: Candidate, corpus: Corpora, limit: Limit = 0, out: Out = None, as_json: AsJson = False) -> None:
    """Say whether an embedder may take the packaged one's place: as good in its languages, of use in the others.

    In the packaged embedder's languages the dense leg may lose .01 nDCG@10 at most; in every other the tuned hybrid
    must be above BM25 alone. Exit status 1 where it may not.

    Examples:

    ```
    citewell eval embedder build/embedder/embedder --corpus my-english-test --corpus my-korean-test --out gate.md
    ```
    """
    from citewell.errors import Conflict
    from citewell.evaluate.collection import from_folder
    from citewell.evaluate.gate import report

    rows: list[Compared] = []
    about: dict[str, Any] = {}
    for folder in corpus:
        collection = from_folder(folder, limit=limit)
        row, about = _compared(candidate, folder, collection)
        rows.append(row)
        if not as_json:
            show_line(row.collection, ("passes" if row.passes else "does not pass") + f": {row.reason}")
    found = report(about, rows)
    for file in out or ():
        _save(found, file)
    if as_json:
        emit_json(found)
    else:
        _show(rows)
    if not found["passes"]:
        lost = [row.collection for row in rows if not row.passes] or [f"{kind} languages" for kind in found["missing"]]
        raise Conflict(
            f"{candidate} may not take the packaged embedder's place: {', '.join(lost)}",
            remedy="Train it longer, or choose it for documents in the languages where it passes.",
        )


def _compared(candidate: str, folder: Path, collection: Collection) -> tuple[Compared, dict[str, Any]]:
    from citewell.evaluate.gate import Compared
    from citewell.evaluate.retrieval import fetch
    from citewell.evaluate.tune import ndcg, tune
    from citewell.fuse import Fusion
    from citewell.retrieve import Plan

    with tempfile.TemporaryDirectory(prefix="citewell-eval-") as place:
        dense = Plan(Fusion("dense"), 100)
        with loaded_engine(folder, Path(place), embedder="packaged") as engine, waiting("measuring"):
            legs = [item.legs for item in fetch(engine, collection)]
            before = sum(ndcg(item, dense) for item in legs) / len(legs)
            speaks = engine.embedder.describe().languages
        with loaded_engine(folder, Path(place), embedder=candidate) as engine, waiting("measuring"):
            legs = [item.legs for item in fetch(engine, collection)]
            lang = Counter(item.lang for item in legs).most_common(1)[0][0]
            choice = tune(legs, engine.plan(lang))
            about = engine.embedder.info()
    alone = choice.alone
    row = Compared(
        collection.name, lang, len(legs), lang in speaks, alone["bm25"], before, alone["dense"], choice.validated
    )
    return row, about


def _save(found: dict[str, Any], file: Path) -> None:
    from citewell.evaluate import pages
    from citewell.evaluate.gate import as_markdown

    pages.save(found, file, {".json": pages.as_json, ".md": as_markdown})


def _show(rows: list[Compared]) -> None:
    screen = console()
    built = table(screen, "collection", "language", ">questions", ">bm25", ">packaged", ">dense", ">tuned", "passes")
    for row in rows:
        cells = [f"{value:.3f}" for value in (row.bm25, row.before, row.dense, row.tuned)]
        built.add_row(row.collection, row.lang, str(row.questions), *cells, "yes" if row.passes else "no")
    screen.print(built)
    screen.print("nDCG@10; `packaged` and `dense` are dense legs, `tuned` is cross-validated", style="dim")
