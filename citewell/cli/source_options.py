"""Options of `citewell ingest` that say more about a source than its address, and the record they become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from citewell.ingest.sources import SourceOptions

Query = Annotated[
    str,
    typer.Option("--query", metavar="TEXT", help="A database's SELECT, or the JSON body of an Elasticsearch search."),
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="FIELD=COLUMN", help="Take id, title, text, url, lang, groups or metadata from this column."
    ),
]
Since = Annotated[
    str,
    typer.Option("--since", metavar="COLUMN", help="Ask only for rows at or above this column's greatest known value."),
]
MaxPages = Annotated[int, typer.Option("--max-pages", min=1, help="Most pages that a sitemap may list.")]
Pause = Annotated[float, typer.Option("--pause", min=0, help="Seconds between two requests to a web server.")]


def source_options(
    query: str = "",
    pairs: Sequence[str] | None = None,
    since: str = "",
    *,
    sync: bool = False,
    pages: int = 10_000,
    pause: float = 0.5,
) -> SourceOptions:
    """What these options say; raises `BadInput` for a mapping that is none, and for `since` with `sync`."""
    from citewell.config import load_settings
    from citewell.ingest.sources import SourceOptions
    from citewell.ingest.sources.options import column_pairs

    return SourceOptions(
        query=query,
        columns=column_pairs(pairs or ()),
        since=since,
        sync=sync,
        api_key=load_settings().source_api_key.get_secret_value(),
        pages=pages,
        pause=pause,
    )
