"""What commands print: JSON documents, tables and messages, safe for any terminal and any document."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Lines longer than this are hard to read, however wide the terminal is.
READABLE = 100
# Width of tables that go into a file or a pipe, unless COLUMNS says otherwise.
PIPED = 120
# What a document could use to move the cursor, colour the terminal or turn the text around.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: no markup, no emoji codes, no guessed highlights."""
    from rich.console import Console

    screen = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not screen.is_terminal:
        screen.width = shutil.get_terminal_size((PIPED, 24)).columns
    return screen


def clean(text: str) -> str:
    """The text without terminal controls; lone surrogates of undecodable file names are spelled out."""
    return _CONTROLS.sub("\ufffd", text).encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: str, cells: int) -> str:
    """The start of a text on one line, at most `cells` terminal columns wide; wide characters count two."""
    from rich.cells import cell_len, set_cell_size

    line = " ".join(clean(text).split())
    return line if cell_len(line) <= cells else set_cell_size(line, cells - 1).rstrip() + "…"


def table(screen: Console, *columns: str) -> Table:
    """A light table; columns whose name starts with `>` are numbers, aligned to the right."""
    from rich import box
    from rich.table import Table

    built = Table(box=box.SIMPLE_HEAD if screen.is_terminal else None, pad_edge=False, header_style="bold")
    for column in columns:
        right = column.startswith(">")
        built.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return built


def emit_json(value: Any) -> None:
    """The one JSON document of a command."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    typer.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def show_error(error: dict[str, Any], as_json: bool) -> None:
    """An error with its remedy: on stderr for people, the one error shape on stdout for programs."""
    if as_json:
        emit_json({"error": error})
        return
    show_line("error", str(error["message"]), style="bold red")
    if error.get("remedy"):
        show_line("remedy", str(error["remedy"]), style="bold")


def show_line(label: str, text: str, *, style: str = "") -> None:
    """`label: text` on stderr, unwrapped, so that it can be searched for and copied."""
    from rich.text import Text

    console(stderr=True).print(Text.assemble((f"{label}: ", style), clean(text)), soft_wrap=True)


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """A sign of life on stderr while something takes time; nothing where stderr is no terminal."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield
        return
    with screen.status(text):
        yield
