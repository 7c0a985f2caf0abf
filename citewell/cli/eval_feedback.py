"""`citewell eval feedback` and `citewell eval export`: what people said, in figures and as judged questions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from citewell.cli.eval import group
from citewell.cli.options import AsJson, own_engine
from citewell.cli.output import console, emit_json, table

__all__ = ["export", "feedback", "group"]

_DAY_S = 86_400
Days = Annotated[
    float, typer.Option("--days", min=0, metavar="N", help="What was given in the last N days; 0: all that is kept.")
]
# Said again here, so that help loads neither numpy nor pydantic.
By = Annotated[
    Literal["day", "week", "month", "all"], typer.Option("--by", help="Periods of when the question was asked.")
]


@group.command()
def feedback(
    by: By = "day",
    days: Days = 0.0,
    as_json: AsJson = False,
) -> None:
    """Ratings, times and tokens of judged answers, by generator and time.

    Examples:

    ```
    citewell eval feedback
    citewell eval feedback --by month --days 90 --json
    ```
    """
    from citewell.feedback import figures

    with own_engine("api") as engine:
        found = figures(engine.feedback.given(_since(days)), by)
    if as_json:
        emit_json({"by": by, "figures": [row.to_dict() for row in found]})
        return
    screen = console()
    if not found:
        screen.print("No answer has been judged: `citewell answers rate ID RATING`.")
        return
    shown = table(
        screen, "generator", by, ">judged", ">rating", ">good", ">refused", ">p50 ms", ">p95 ms", ">read", ">written"
    )
    for row in found:
        shares = (f"{row.rating:.2f}", f"{row.good:.0%}", f"{row.abstained:.0%}")
        sizes = (row.p50_ms, row.p95_ms, row.tokens_read, row.tokens_written)
        shown.add_row(row.generator, row.start, str(row.judged), *shares, *(f"{size:,.0f}" for size in sizes))
    screen.print(shown)


@group.command()
def export(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder, or that of an earlier export.")],
    days: Days = 0.0,
    as_json: AsJson = False,
) -> None:
    """Make judged questions of feedback, for `citewell eval`, `citewell tune` and `citewell train reader`.

    Passages that were named are relevant; where none was, what well-rated answers (4 and 5) cited. A refusal that was
    rated well is a question that the documents do not answer.

    Examples:

    ```
    citewell eval export --out judged
    citewell eval retrieval --queries judged/queries.jsonl --qrels judged/qrels/test.tsv
    ```
    """
    from citewell.evaluate.exported import export as write

    with own_engine("api") as engine:
        found = write(engine.feedback.given(_since(days)), engine.document, out)
    if as_json:
        emit_json(found.to_dict() | {"folder": str(out)})
        return
    screen = console()
    screen.print(
        f"{out}: {found.judged} judged questions, {found.unanswerable} unanswerable, {found.documents} documents"
    )
    for reason, count in found.left_out.items():
        screen.print(f"  left out: {count} x {reason}")


def _since(days: float) -> float:
    return time.time() - days * _DAY_S if days else 0.0
