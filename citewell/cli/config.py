"""`citewell config`: every setting, its value, and where that comes from."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any

import typer

from citewell.cli.options import AsJson
from citewell.cli.output import clean, console, emit_json, table

_MASK = "********"


def config(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Settings to show. [default: all]")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every setting with its value and where that comes from.

    A setting comes from CITEWELL_NAME in the environment, else from citewell.toml here (or the file that
    CITEWELL_CONFIG names), else it has its default. Secrets are masked.

    Examples:

    ```
    citewell config
    citewell config embedder data_dir
    CITEWELL_STACK=served citewell config --json
    ```
    """
    from citewell.config import config_file

    rows = _rows(names or [])
    if as_json:
        emit_json({"settings": rows, "file": str(config_file() or "")})
        return
    screen = console()
    built = table(screen, "setting", "value", "from", "what it is")
    for row in rows:
        value = "" if row["value"] is None else str(row["value"])
        built.add_row(row["name"], clean(value), clean(row["origin"]), row["description"])
    screen.print(built)


def _rows(names: list[str]) -> list[dict[str, Any]]:
    from citewell.config import Settings, load_settings, origin
    from citewell.errors import ConfigError

    settings = load_settings()
    for name in names:
        if name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, 1)
            hint = f"Did you mean `{near[0]}`? " if near else ""
            raise ConfigError(f"`{name}` is no setting", remedy=hint + "`citewell config` lists them all.")
    return [
        {
            "name": name,
            "value": _shown(getattr(settings, name)),
            "origin": origin(name),
            "description": field.description or "",
        }
        for name, field in Settings.model_fields.items()
        if not names or name in names
    ]


def _shown(value: Any) -> Any:
    """A value as JSON, secrets and passwords in addresses masked."""
    if hasattr(value, "get_secret_value"):
        return _MASK if value.get_secret_value() else ""
    if isinstance(value, int | float | bool) or value is None:
        return value
    if isinstance(value, dict):
        value = {name: item.model_dump(exclude_defaults=True) for name, item in value.items()} or ""
    return re.sub(r"(?<=://)[^/\s'\"]*@", f"{_MASK}@", str(value))
