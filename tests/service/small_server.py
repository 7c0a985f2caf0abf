"""`serve` as a process, over the small engine: `python -m tests.service.small_server DATA_DIR HOST PORT`."""

import json
import sys
from pathlib import Path

import structlog

from citewell.config import load_settings
from citewell.errors import CitewellError
from citewell.service.server import serve
from tests.service.small import small_engine


def main() -> None:
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    data_dir, host, port, *more = sys.argv[1:]
    settings = load_settings(
        data_dir=Path(data_dir),
        host=host,
        port=int(port),
        threads=8,
        request_limit=100_000,
        **dict([m.split("=") for m in more]),
    )
    try:
        serve(settings, small_engine(settings))
    except CitewellError as error:
        print(json.dumps(error.to_json()), file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
