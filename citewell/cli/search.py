"""`citewell search`: the passages that fit a question, and what each leg thought of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from citewell.cli.options import (
    After,
    AsJson,
    Filter,
    K,
    Key,
    Lang,
    ModeOption,
    Url,
    after,
    connection,
    question_of,
    refuse_when_empty,
    role_for,
)
from citewell.cli.output import clean, console, emit_json, one_line, table, waiting

if TYPE_CHECKING:
    from rich.text import Text

    from citewell.records import Evidence, Hit

_SNIPPET = 160


def search(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="What to look for, in any language.")],
    k: K = None,
    mode: ModeOption = "hybrid",
    filters: Filter = None,
    lang: Lang = "",
    earlier: After = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each leg added to each passage's rank.")
    ] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show the passages that fit a question best, with both legs' ranks and scores.

    Examples:

    ```
    citewell search 'how long do I have to return something' --k 10
    citewell search 'garantía' --mode bm25 --filter lang=es
    citewell search 'delivery' --filter metadata.section=delivery --json
    citewell search 'how long is the warranty' --explain
    citewell search 'and who pays for the label?' --after 'How long do I have to return something?'
    ```
    """
    asked = question_of(question, k, mode, filters, lang)
    with connection(url, key, role_for(earlier)) as engine:
        asked = after(engine, asked, earlier)
        with waiting("searching"):
            evidence = engine.search(asked)
        refuse_when_empty(engine, evidence)
    if as_json:
        emit_json(evidence.to_dict())
    else:
        if evidence.asked not in ("", asked.text):
            console().print(f"asked as: {clean(evidence.asked)}", style="dim", markup=False, soft_wrap=True)
        _show(evidence)
        if explain:
            _explain(evidence)


def _show(evidence: Evidence) -> None:
    screen = console()
    if not evidence.hits:
        screen.print("No passage fits the question.")
        return
    built = table(screen, ">#", ">score", ">bm25", ">dense", "passage")
    for hit in evidence.hits:
        built.add_row(str(hit.rank), f"{hit.score:.3f}", _leg(hit, "bm25"), _leg(hit, "dense"), _passage(hit))
    screen.print(built)
    method = evidence.fusion.get("method", evidence.mode)
    total = evidence.timings_ms.get("retrieve", 0.0)
    screen.print(
        f"legs: rank and score; fusion: {method}; language: {evidence.lang or '-'}; {total:.0f} ms", style="dim"
    )


def _explain(evidence: Evidence) -> None:
    """How each fused score came about, and everything that was in force."""
    screen = console()
    for hit in evidence.hits:
        parts = " + ".join(
            f"{leg} {rank.part:.4f} (rank {rank.rank}, score {rank.score:.3f})" for leg, rank in hit.legs.items()
        )
        screen.print(f"{hit.rank}. {clean(hit.passage.id)}: {hit.fused:.4f} = {parts}{_reranked(hit)}", soft_wrap=True)
    fusion = ", ".join(f"{name} {value}" for name, value in evidence.fusion.items())
    screen.print(f"fusion: {fusion}; each leg ranked {evidence.depth}", soft_wrap=True)
    if evidence.rerank:
        told = ", ".join(f"{name} {value}" for name, value in evidence.rerank.items() if value != "")
        screen.print(f"reranker: {clean(told)}", soft_wrap=True)
    if evidence.filters:
        asked = evidence.filters.model_dump_json(exclude_defaults=True, exclude_none=True)
        screen.print(f"filters, in both legs: {clean(asked)}", soft_wrap=True)
    screen.print(f"index {evidence.index_version}, embedder {evidence.embedder}", soft_wrap=True)


def _reranked(hit: Hit) -> str:
    return "" if hit.rerank is None else f"; reranker {hit.rerank:.4f}"


def _leg(hit: Hit, name: str) -> str:
    """Rank above score; a leg that did not find the passage has a dash."""
    leg = hit.legs.get(name)
    return f"{leg.rank}\n{leg.score:.3f}" if leg else "-"


def _passage(hit: Hit) -> Text:
    """Title, passage id and the start of the text, below each other."""
    from rich.text import Text

    passage = hit.passage
    return Text.assemble(
        (one_line(passage.title, _SNIPPET) or "(no title)", "bold"),
        "\n",
        (clean(passage.id), "cyan"),
        "\n",
        one_line(passage.text, _SNIPPET),
    )
