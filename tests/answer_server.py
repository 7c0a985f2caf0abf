"""The API as a process, over either column: `python -m tests.answer_server KIND '{"folder": ..., "port": ...}'`.

On SQLite it writes the answers, too; on Redis workers do.
"""

import json
import sys
from pathlib import Path

import structlog

from citewell.service.server import serve
from tests.stacks import column


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    kind, given = sys.argv[1], json.loads(sys.argv[2])
    with column(kind, Path(given.pop("folder")), given.pop("redis_url", ""), **given) as stack:
        serve(stack.settings, stack.engine)


if __name__ == "__main__":
    main()
