"""`citewell eval citations`: how much support a citation needs in your languages, and what its verdict is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from citewell.cli.eval import group
from citewell.cli.options import AsJson
from citewell.cli.output import console, emit_json, table, waiting

MarkedSets = Annotated[
    list[Path], typer.Argument(metavar="SET...", help="Folders of questions with marked answers.", exists=True)
]
Most = Annotated[int, typer.Option("--questions", min=0, metavar="N", help="Of each set, evenly spread; 0: all.")]

OutJson = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the report there, as .json.")]


_COLUMNS = (">bar", ">precision", ">recall", ">F1", ">by distractor")


@group.command()
def citations(sets: MarkedSets, questions: Most = 600, out: OutJson = None, as_json: AsJson = False) -> None:
    """Choose each language's bar for citations on one half of the questions, and measure the verdict on the other.

    A claim is a question with the answer in its question word's place; it is held against its passage and against the
    passage most like it that lacks the answer.

    Examples:

    ```
    citewell eval citations my-questions
    citewell eval citations squad1-en-train jaquad-ja-train --questions 600 --out bars.json
    ```
    """
    from citewell import parts
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings
    from citewell.evaluate.citations import measure

    settings = load_settings()
    check_out(out)
    embedder = parts.embedder(settings)
    citing = parts.citing(settings, embedder)
    try:
        with for_a_person(), waiting("measuring"):
            embedder.load()
            citing.load()
            card = embedder.describe()
            found = measure(sets, questions, citing, card.languages, card.name)
    finally:
        citing.close()
        embedder.close()
    show_report(found, out, as_json, _show)


def check_out(out: Path | None) -> None:
    """Before anything is measured."""
    from citewell.evaluate.pages import check_name

    if out is not None:
        check_name(out, (".json",))


def show_report(found: dict[str, Any], out: Path | None, as_json: bool, show: Any) -> None:
    from citewell.evaluate.pages import as_json as written
    from citewell.evaluate.pages import save

    if out is not None:
        save(found, out, {".json": written})
    if as_json:
        emit_json(found)
    else:
        show(found)


def _show(found: dict[str, Any]) -> None:
    screen = console()
    built = table(screen, "language", ">claims", ">cosine", *_COLUMNS, ">by the rest")
    for lang, row in found["languages"].items():
        for one in row["weights"]:
            built.add_row(lang, str(one["claims"]), f"{one['cosine']:g}", f"{one['least']:.2f}", *_cells(one))
        built.add_row(lang, str(row["claims"]), "", "present", *_cells(row["present"]))
    screen.print(built)
    built = table(screen, "language", *_COLUMNS)
    for lang, row in found["languages"].items():
        for one in row["thresholds"]:
            built.add_row(lang, f"{one['least']:.2f}", *_cells(one)[:4])
    screen.print(built)
    screen.print(f"Chosen on the other half: {found['rule']}.", style="dim")
    screen.print("\nFor citewell.toml:")
    for lang, bar in found["citation_bars"].items():
        lines = [f"{name} = {_toml(value)}" for name, value in bar.items() if value != ""]
        screen.print("\n".join([f"[citation_bars.{lang}]", *lines]))


def _cells(row: dict[str, Any]) -> list[str]:
    precision = "-" if row["precision"] is None else f"{row['precision']:.3f}"
    rest = f"{row['supported_by_rest']} of {row['rests']}" if "rests" in row else ""
    return [precision, f"{row['recall']:.3f}", f"{row['f1']:.3f}", str(row["supported_by_distractor"]), rest]


def _toml(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
