"""`citewell answers show`: an answer by its id; and how any answer is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from citewell.cli.options import AsJson, Key, Url
from citewell.cli.output import READABLE, clean, console, emit_json, show_line, waiting

# Documents that are named after a refusal.
_NEAREST = 3

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.text import Text

    from citewell.records import Answer, Citation, Passage


def answer(
    answer_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `citewell ask --no-wait` printed.")],
    wait: Annotated[
        float, typer.Option("--wait", min=0, metavar="SECONDS", help="Wait this long for the answer.")
    ] = 0.0,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Show an answer by its id.

    On the embedded stack, waiting for an answer also works on it, when no `citewell worker` does.

    Examples:

    ```
    citewell answers show 6f1c0e6c1e0b4b7d9c3f1f6f0d6d2f5a
    citewell answers show 6f1c0e6c1e0b4b7d9c3f1f6f0d6d2f5a --wait 60 --json
    ```
    """
    finish(_look(answer_id, wait, url, key), as_json, waited=wait > 0)


def _look(answer_id: str, wait: float, url: str | None, key: str | None) -> Answer:
    """The record. The engine is loaded only when there is something to wait for."""
    from citewell.cli.logs import for_a_person
    from citewell.cli.options import connection
    from citewell.config import load_settings, service_url

    if url or (url is None and service_url()):
        with connection(url, key, "api") as client, waiting("waiting for the answer"):
            return client.answer(answer_id, wait)
    from citewell.engine import build

    with for_a_person():
        engine = build(load_settings(), "api")
        try:
            engine.store.load()
            found = engine.store.get(answer_id)
            if not wait or found.state.final:
                return found
            with waiting("waiting for the answer"):
                if engine.settings.stack == "embedded":
                    engine.load()
                return engine.answer(answer_id, wait)
        finally:
            engine.close()


def finish(found: Answer, as_json: bool, *, waited: bool) -> None:
    """Show a record; exit status 1 when it failed, or is not there after waiting for it."""
    if as_json:
        emit_json(found.to_dict())
    else:
        show(console(), found)
    if found.state.final:
        if found.state != "done":
            raise typer.Exit(1)
    elif waited:
        if not as_json:
            show_line(
                "remedy", f"`citewell answers show {found.id} --wait 60` waits on; `citewell doctor` tells who works."
            )
        raise typer.Exit(1)


def finish_each(found: Sequence[Answer], as_json: bool) -> None:
    """Answers to one question below each other, each under its generator's name; exit status 1 unless all are done."""
    if as_json:
        emit_json({"answers": [one.to_dict() for one in found]})
    else:
        screen = console()
        for one in found:
            screen.rule(clean(one.generator), align="left")
            show(screen, one)
    if any(one.state != "done" for one in found):
        raise typer.Exit(1)


def show(screen: Console, found: Answer) -> None:
    """The answer, what proves it, and what does not."""
    width = min(screen.width, READABLE)
    if found.question.standalone != found.question.text:
        screen.print(f"asked as: {clean(found.question.standalone)}", style="dim", width=width, markup=False)
    if found.state == "done":
        _show_text(screen, found, width)
    elif found.error is not None:
        show_line(found.state.value, found.error.message, style="bold red")
        if found.error.remedy:
            show_line("remedy", found.error.remedy, style="bold")
    elif found.state.final:
        show_line(
            found.state.value, f"answer {found.id} was {found.state.value} before it was written", style="bold red"
        )
    else:
        show_line(found.state.value, f"answer {found.id} is not there yet{_place(found)}", style="bold yellow")
        return
    screen.print(_summary(found), style="dim", width=width)


def _place(found: Answer) -> str:
    if found.waiting is None:
        return ""
    soon = f", expected in {found.waiting.done_in_s:.0f} s" if found.waiting.done_in_s is not None else ""
    return f": number {found.waiting.position} in the line{soon}"


def _show_text(screen: Console, found: Answer, width: int) -> None:
    from rich.text import Text

    if found.abstained:
        screen.print(Text(clean(found.answer), "yellow"), width=width)
        screen.print("\nNot answered: no passage that was found supports an answer.", width=width)
        _show_nearest(screen, found, width)
    else:
        screen.print(_with_exact(found), width=width)
    screen.print()
    for sentence in found.sentences:
        if not sentence.supported:
            why = f" ({clean(sentence.unsupported)})" if sentence.unsupported else ""
            screen.print(Text.assemble(("unsupported: ", "bold red"), clean(sentence.text), (why, "dim")), width=width)
    grouped: dict[tuple[int, str], list[Citation]] = {}
    for citation in found.citations:
        grouped.setdefault((citation.marker, citation.doc_id), []).append(citation)
    for marker, doc_id in sorted(grouped):
        _show_source(screen, grouped[marker, doc_id], width)


def _with_exact(found: Answer) -> Text:
    """The answer; the words that the generator names as the answer itself stand out."""
    from rich.text import Text

    shown, place = Text(), 0
    for start, end in sorted(_exact_spans(found)):
        if start >= place:
            shown.append(clean(found.answer[place:start]))
            shown.append(clean(found.answer[start:end]), "bold green")
            place = end
    return shown.append(clean(found.answer[place:]))


def _exact_spans(found: Answer) -> Iterator[tuple[int, int]]:
    """Where those words stand in the answer's text: in the sentence whose citation quotes them."""
    for one in found.exact:
        for citation in found.citations:
            inside = citation.passage_start <= one.passage_start and one.passage_end <= citation.passage_end
            if citation.passage_id == one.passage_id and inside:
                sentence = found.sentences[citation.sentence]
                at = found.answer.find(one.text, sentence.start, sentence.end)
                if at >= 0:
                    yield at, at + len(one.text)
                    break


def _show_nearest(screen: Console, found: Answer, width: int) -> None:
    """Where a reader may look on after a refusal: the documents of the best passages, each once."""
    nearest: dict[str, Passage] = {}
    for hit in found.evidence.hits:
        nearest.setdefault(hit.passage.doc_id, hit.passage)
    if nearest:
        screen.print("Nearest documents:", width=width)
    for passage in list(nearest.values())[:_NEAREST]:
        screen.print(clean(f"  {passage.title or passage.doc_id}  {passage.url or passage.doc_id}"), width=width)


def _show_source(screen: Console, citations: list[Citation], width: int) -> None:
    """One marker: title, link, and each quoted span with its place and support."""
    from rich.padding import Padding
    from rich.text import Text

    first = citations[0]
    title = first.title or first.doc_id
    screen.print(Text.assemble((f"[{first.marker}] ", "bold cyan"), (clean(title), "bold")), width=width)
    screen.print(
        Padding(Text(clean(first.url or first.doc_id), "cyan", overflow="fold"), (0, 0, 0, 4), expand=False),
        width=width,
    )
    spans = {(citation.start, citation.end): citation for citation in citations}
    for citation in spans.values():
        page = f"page {citation.page}, " if citation.page else ""
        under = f"{citation.heading}\n" if citation.heading else ""
        place = f"{under}{first.doc_id} {citation.start}-{citation.end}, {page}support {citation.support:.2f}"
        quote = Text.assemble(f"“{clean(citation.quote)}”\n", (clean(place), "dim"))
        screen.print(Padding(quote, (0, 0, 0, 4), expand=False), width=width)
    screen.print()


def _summary(found: Answer) -> str:
    """State, time, generator and id in one line."""
    took = f" in {found.finished_at - found.created_at:.2f} s" if found.finished_at and found.created_at else ""
    return clean(f"{found.state.value}{took}, generator {found.generator}, answer {found.id}")
