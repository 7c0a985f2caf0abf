"""`citewell answers`: show an answer, ask its question again, and say why two answers differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from citewell.cli.answer import answer, finish
from citewell.cli.options import AsJson, Key, Url, connection
from citewell.cli.output import READABLE, clean, console, emit_json, table, waiting

if TYPE_CHECKING:
    from citewell.client import Client
    from citewell.compare import Comparison
    from citewell.engine import Engine
    from citewell.records import Answer

group = typer.Typer(
    name="answers", help="Answers by their ids; `citewell answers diff` says why one changed.", no_args_is_help=True
)
group.command("show")(answer)

Id = Annotated[str, typer.Argument(metavar="ID", help="The id of an answer.")]
Wait = Annotated[float, typer.Option("--wait", min=0, metavar="SECONDS", help="Wait this long for the new answer.")]


@group.command("replay")
def replay(
    answer_id: Id,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="On the evidence of then, instead of searching the index again.")
    ] = False,
    wait: Wait = 120.0,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask the question of an answer again, and show what is different and why.

    With `--recorded` only generator and prompt can make a difference; without it the index can, too.

    Examples:

    ```
    citewell answers replay 6f1c0e6c1e0b4b7d9c3f1f6f0d6d2f5a
    citewell answers replay 6f1c0e6c1e0b4b7d9c3f1f6f0d6d2f5a --recorded --json
    ```
    """
    with connection(url, key, "api") as engine:
        before = engine.answer(answer_id)
        with waiting("answering"):
            after = engine.answer(engine.replay(answer_id, recorded=recorded).id, wait)
    if after.state != "done" or before.state != "done":
        finish(after, as_json, waited=True)
        return
    _tell(before, after, as_json)


@group.command("rate")
def rate(
    answer_id: Id,
    rating: Annotated[int, typer.Argument(metavar="RATING", min=1, max=5, help="1 is wrong, 5 right and complete.")],
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What is wrong with it, or right.")] = "",
    passage: Annotated[
        list[str] | None,
        typer.Option(
            "--passage", metavar="DOC#N", help="A passage that answers the question, found or not; repeatable."
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Judge an answer. What you said of it before is replaced; `citewell eval export` makes judged questions of it.

    Examples:

    ```
    citewell answers rate 6f1c0e6c1e0b4b7d9c3f1f6f0d6d2f5a 5
    citewell answers rate 6f1c0e6c1e0b4b7d9c3f1f6f0d6d2f5a 2 --comment "This is the old price." --passage prices.md#3
    ```
    """
    from citewell.records import Opinion

    with connection(url, key, "api") as engine:
        opinion = Opinion(rating=rating, comment=comment, correct_passages=tuple(passage or ()))
        told = engine.rate(answer_id, opinion)
    if as_json:
        emit_json(told)
    else:
        console().print(f"{told['answer_id']} rated {told['rating']} of 5", markup=False)


@group.command("diff")
def diff(
    answer_id: Id,
    other: Annotated[
        str, typer.Argument(metavar="[ID2]", help="The later answer. [default: ID is a replay, and the later one]")
    ] = "",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Say why an answer changed: its evidence, the index, the prompt or the generator.

    Examples:

    ```
    citewell answers diff 6f1c0e6c1e0b4b7d9c3f1f6f0d6d2f5a 0b7d9c3f1f6f0d6d2f5a6f1c0e6c1e0b
    citewell answers diff 0b7d9c3f1f6f0d6d2f5a6f1c0e6c1e0b
    ```
    """
    with connection(url, key, "api") as engine:
        before, after = _pair(engine, answer_id, other)
    _tell(before, after, as_json)


def _pair(engine: Engine | Client, answer_id: str, other: str) -> tuple[Answer, Answer]:
    from citewell.errors import BadInput

    found = engine.answer(answer_id)
    if other:
        return found, engine.answer(other)
    if not found.replay_of:
        raise BadInput(
            f"answer {answer_id} is no replay of another",
            remedy=f"Name the answer to compare it with, or ask again: `citewell answers replay {answer_id}`.",
        )
    return engine.answer(found.replay_of), found


def _tell(before: Answer, after: Answer, as_json: bool) -> None:
    from citewell.compare import compare

    found = compare(before, after)
    if as_json:
        texts = {"before_answer": before.answer, "after_answer": after.answer}
        emit_json(found.to_dict() | texts)
    else:
        _show(found, before, after)


def _show(found: Comparison, before: Answer, after: Answer) -> None:
    screen = console()
    width = min(screen.width, READABLE)
    screen.print(f"{found.before} → {found.after}: {found.verdict}", width=width, markup=False)
    if found.changes:
        shown = table(screen, "what", "before", "after")
        for change in found.changes:
            shown.add_row(change.what, clean(change.before), clean(change.after))
        screen.print(shown)
    for passage in found.passages:
        screen.print(clean(f"  {passage.status}: {passage.id}"), width=width, markup=False)
    if not found.same:
        for label, one in (("before", before), ("after", after)):
            screen.print(f"\n{label}:\n{clean(one.answer)}", width=width, markup=False)
