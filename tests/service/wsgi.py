"""What httpx's in-process transport leaves to a server."""

from collections.abc import Iterable
from typing import Any

from flask import Flask


def exact_path(app: Flask) -> Any:
    """The app, given paths as PEP 3333 wants them: bytes spelt as Latin-1. The transport hands over text."""

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode().decode("latin-1")
        return app({**environ, "PATH_INFO": path}, start_response)

    return wrapped
