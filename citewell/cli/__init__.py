"""The command line: one file a command, and what they share in `options`, `output` and `logs`.

Importing this package loads neither the engine nor a model, so that `citewell --help` answers at once. Whatever goes
wrong ends as `error: …` and `remedy: …` on stderr, or as the one error shape on stdout with `--json`; exit status 1
is a failure, 2 a command line that cannot be understood, 130 an interrupt.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from citewell import __version__
from citewell.cli import eval_abstention as _eval_abstention  # noqa: F401 - a command of `citewell eval`
from citewell.cli import eval_citations as _eval_citations  # noqa: F401 - a command of `citewell eval`
from citewell.cli import eval_embedder as _eval_embedder  # noqa: F401 - a command of `citewell eval`
from citewell.cli import train_generator as _train_generator  # noqa: F401 - a command of `citewell train`
from citewell.cli.answers import group as _answers
from citewell.cli.ask import ask as _ask
from citewell.cli.config import config as _config
from citewell.cli.doctor import doctor as _doctor
from citewell.cli.eval import tune as _tune
from citewell.cli.eval_answers import group as _eval
from citewell.cli.eval_feedback import group as _eval_feedback  # noqa: F401 - adds its commands to that group
from citewell.cli.index import group as _index
from citewell.cli.info import info as _info
from citewell.cli.ingest import ingest as _ingest
from citewell.cli.keys import group as _keys
from citewell.cli.output import show_error
from citewell.cli.search import search as _search
from citewell.cli.serve import serve as _serve
from citewell.cli.train import group as _train
from citewell.cli.worker import worker as _worker
from citewell.errors import CitewellError

# The class of all complaints about a command line; Typer exports its children alone.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class _Commands(TyperGroup):
    """Turns whatever a command raises into a message and an exit status; the only place that does."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
        try:
            result = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            sys.stdout.flush()
            status = result if isinstance(result, int) else 0
        except BrokenPipeError:  # the reader had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        except (KeyboardInterrupt, typer.Abort):
            status = 130
        except Exception as error:  # noqa: BLE001 - the last line: a person gets a message, never a traceback
            status = _explain(error, as_json)
        if standalone_mode:
            sys.exit(status)
        return status


def _explain(error: Exception, as_json: bool) -> int:
    """Show an error and give the exit status."""
    if isinstance(error, CitewellError):
        show_error(error.to_json()["error"], as_json)
        return 1
    if isinstance(error, _UsageError):
        context: Any = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "citewell"
        message: str = getattr(error, "format_message", error.__str__)()
        remedy = f"`{command} --help` shows how it is used."
        show_error({"code": "usage", "message": message, "remedy": remedy}, as_json)
        return 2
    from citewell.cli.logs import show_traceback

    show_traceback(error)
    unforeseen = CitewellError(f"unexpected {type(error).__name__}: {error}")
    show_error(unforeseen.to_json()["error"], as_json)
    return 1


app = typer.Typer(
    name="citewell",
    cls=_Commands,
    help="Answers from your own documents, with every sentence proved by a checked citation.",
    epilog="Start with `citewell ingest FOLDER`, then `citewell ask 'QUESTION'`.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"citewell {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _citewell(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


for _command in (_ingest, _search, _ask, _serve, _worker, _info, _doctor, _config, _tune):
    app.command()(_command)
app.add_typer(_answers)
app.add_typer(_eval)
app.add_typer(_index)
app.add_typer(_keys)
app.add_typer(_train)


def main() -> None:
    """Entry point of the `citewell` command."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # libraries warn their callers, who is not the person at the terminal
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold what the terminal cannot write
    app()
