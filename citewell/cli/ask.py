"""`citewell ask`: a question, its answer, and the proof."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from citewell.cli.answer import finish, finish_each
from citewell.cli.options import (
    After,
    AsJson,
    CacheOption,
    ExpiresIn,
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
)
from citewell.cli.output import console, emit_json, show_line, waiting

if TYPE_CHECKING:
    from citewell.client import Client
    from citewell.engine import Engine
    from citewell.records import Answer


def ask(
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in any language.")],
    k: K = None,
    mode: ModeOption = "hybrid",
    filters: Filter = None,
    lang: Lang = "",
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator",
            metavar="NAME",
            help="Who writes; repeat it to compare several. [default: the setting generator]",
        ),
    ] = None,
    earlier: After = None,
    cache: CacheOption = None,
    expires_in: ExpiresIn = 0.0,
    batch: Annotated[bool, typer.Option("--batch", help="Let interactive questions go first.")] = False,
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="Wait this long for the answer.")
    ] = 120.0,
    no_wait: Annotated[
        bool,
        typer.Option("--no-wait", help="Print the answer's id and leave; `citewell answers show ID` shows it later."),
    ] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask a question and print its answer with numbered citations.

    Every citation quotes the span that proves its sentence; sentences without proof are flagged. Ctrl-C cancels.

    Examples:

    ```
    citewell ask 'How long do I have to return something?'
    citewell ask '返品は何日以内ですか' --filter metadata.section=returns
    citewell ask 'And who pays for the label?' --after 'How long do I have to return something?'
    citewell ask 'Who pays for the return label?' --no-wait
    citewell ask 'Who pays for the return label?' --generator extractive --generator llama
    ```
    """
    from citewell.records import Terms

    terms = Terms(expires_in=expires_in, priority="batch" if batch else "interactive", cache=cache)
    asked = question_of(question, k, mode, filters, lang)
    with connection(url, key, "api") as engine:
        asked = after(engine, asked, earlier)
        with waiting("searching"):
            found = engine.submit_each(asked, generator or [""], terms)
        if no_wait:
            _refuse(engine, found)
            _hand_over(found, as_json)
            return
        found = _await(engine, found, wait)
    if len(found) > 1:
        finish_each(found, as_json)
    else:
        finish(found[0], as_json, waited=True)


def _await(engine: Engine | Client, found: list[Answer], wait: float) -> list[Answer]:
    """The final records, or the records as they are after `wait` seconds; an interrupt cancels the answers."""
    deadline = time.monotonic() + wait
    try:
        _refuse(engine, found)
        with waiting("answering"):
            return [engine.answer(one.id, max(0.0, deadline - time.monotonic())) for one in found]
    except KeyboardInterrupt:
        for one in found:
            stopped = engine.cancel(one.id)
            show_line("cancelled" if stopped.state == "cancelled" else stopped.state.value, f"answer {one.id}")
        raise typer.Exit(130) from None


def _refuse(engine: Engine | Client, found: list[Answer]) -> None:
    """An empty index is worth more than an abstention: say so, and leave no answer behind."""
    from citewell.errors import NotFound

    try:
        refuse_when_empty(engine, found[0].evidence)
    except NotFound:
        for one in found:
            engine.cancel(one.id)
        raise


def _hand_over(found: list[Answer], as_json: bool) -> None:
    if as_json:
        emit_json({"answers": [one.to_dict() for one in found]} if len(found) > 1 else found[0].to_dict())
        return
    for one in found:
        console().print(one.id, soft_wrap=True)
        if console(stderr=True).is_terminal:
            show_line("next", f"citewell answers show {one.id} --wait 60")
