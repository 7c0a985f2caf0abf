"""Options of `citewell ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[list[str] | None, typer.Argument(metavar="SOURCE", help="Files, folders and addresses to load.")]
EveryOne = Annotated[bool, typer.Option("--all", help="Load all `sources` of the settings.")]
Named = Annotated[
    list[str] | None, typer.Option("--named", metavar="NAME", help="Load this one of the settings. Repeat it.")
]
Sync = Annotated[bool, typer.Option("--sync", help="Delete what the source no longer has.")]
MostDeletes = Annotated[
    str | None,
    typer.Option("--max-delete", metavar="BOUND", help="Most that --sync may delete: 20% of a source, or 500."),
]
IgnoreErrors = Annotated[
    bool, typer.Option("--ignore-errors", help="Delete although a part of the source could not be read.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Every = Annotated[
    str, typer.Option("--every", metavar="TIME", help="Load again so often, until stopped: 90s, 10m, 2h, 1d.")
]
FailuresFile = Annotated[
    Path | None,
    typer.Option("--failures", metavar="FILE", help="Keep what could not be loaded as JSON lines to load again."),
]
Distributed = Annotated[
    bool, typer.Option("--distributed", help="Leave splitting, embedding and writing to `citewell worker --ingest`.")
]
