"""`citewell serve`: the HTTP service."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from citewell.cli.options import LogJson


def serve(
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Address to listen on. [default: the setting host]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, metavar="N", help="Port to listen on. [default: the setting port]"),
    ] = None,
    as_json: LogJson = False,
) -> None:
    """Serve the HTTP API and the web page until stopped.

    On a loopback address the API is open; on any other it wants keys (`citewell keys new`). The log goes to stderr.

    Examples:

    ```
    citewell serve
    CITEWELL_API_KEY=secret citewell serve --host 0.0.0.0 --port 8000 --json
    ```
    """
    from citewell.cli import logs
    from citewell.config import load_settings

    given: dict[str, Any] = {"host": host, "port": port}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    from citewell.service.server import serve as run

    with logs.for_an_operator(settings.log_level, as_json):
        run(settings)
