"""`citewell keys`: keys of the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from citewell.cli.options import AsJson
from citewell.cli.output import clean, emit_json

group = typer.Typer(name="keys", help="Keys of the HTTP API: `citewell keys new` makes one.", no_args_is_help=True)


@group.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What logs call the key: letters, digits, - and _.")],
    scopes: Annotated[
        str,
        typer.Option("--scopes", metavar="SCOPE,…", help="What it may do: query, ingest, admin."),
    ] = "query",
    groups: Annotated[
        str,
        typer.Option(
            "--groups", metavar="GROUP,…", help="Whose documents it sees, beside those of everyone; '*' is all."
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key: shown this once, with the lines for the settings file, which keep its hash alone.

    Nothing is written anywhere. The key goes to stdout, everything else to stderr.

    Examples:

    ```
    citewell keys new shop
    citewell keys new loader --scopes ingest,query --groups staff,hr
    citewell keys new shop --json
    ```
    """
    from citewell.keys import new_key

    key = new_key()
    written = _table(name, key, scopes, groups)
    if as_json:
        emit_json({"name": name, "key": key, **written})
        return
    lines = [f"[keys.{name}]", *(f"{field} = {_toml(value)}" for field, value in written.items())]
    typer.echo("The key, which is not kept anywhere:", err=True)
    typer.echo(key)
    typer.echo("\nFor citewell.toml:\n" + clean("\n".join(lines)), err=True)


def _table(name: str, key: str, scopes: str, groups: str) -> dict[str, Any]:
    """The table of a key; raises `ConfigError` for what the settings would refuse."""
    import re

    from pydantic import ValidationError

    from citewell.errors import ConfigError
    from citewell.keys import SCOPES, KeyTable, hash_of

    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ConfigError(f"`{name}` is no name of a key", remedy="Use letters, digits, - and _, at most 64.")
    given = {"hash": hash_of(key.encode()), "scopes": _listed(scopes), "groups": _listed(groups)}
    try:
        table = KeyTable.model_validate(given)
    except ValidationError:
        raise ConfigError(f"`{scopes}` are no scopes", remedy=f"Choose among {', '.join(SCOPES)}.") from None
    return {"hash": table.hash, "scopes": list(table.scopes), "groups": list(table.groups)}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _toml(value: Any) -> str:
    """A string or a list of them; JSON spells both as TOML does."""
    import json

    return json.dumps(value, ensure_ascii=False)
