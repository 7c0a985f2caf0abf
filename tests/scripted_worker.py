"""A worker process with the scripted generator: `python -m tests.scripted_worker '{"redis_url": ...}'`.

The argument is the settings as JSON, with `drain_s` and the `names` of its generators beside them, `owner` for its
leases, `clock` for a file that holds how wrong its clock is, and `broken` for a worker without its model. Logs to
standard error.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path

import structlog

from citewell.answers.redis import RedisAnswers
from citewell.callbacks import Postman
from citewell.config import load_settings
from citewell.errors import ConfigError
from citewell.jobs import CeleryQueue
from citewell.run import Runner
from citewell.workers.app import Crew, run_worker
from tests.scripted import ScriptedGenerator, quote_nothing


def main() -> int:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    given = json.loads(sys.argv[1])
    drain_s, broken = given.pop("drain_s", 60.0), given.pop("broken", "")
    names = given.pop("names", ["extractive"])
    owner = given.pop("owner", f"{os.getpid()}:{threading.get_ident()}")
    if clock := given.pop("clock", ""):
        _follow_clock(Path(clock))
    settings = load_settings(**given)
    store = RedisAnswers(settings)
    generators = {name: ScriptedGenerator() for name in names}
    runner = Runner(store, generators, quote_nothing, owner=owner, lease_seconds=settings.lease_seconds)
    queue = CeleryQueue(settings, tuple(names))
    with contextlib.ExitStack() as stack:
        stack.callback(store.close)
        stack.callback(queue.close)
        post = Postman(store, settings).post_due
        crew = Crew(runner, queue, store.due, load=lambda: _load(store, broken), close=stack.close, post=post)
        return run_worker(settings, crew, drain_s=drain_s)


def _follow_clock(file: Path) -> None:
    """Let this process's wall clock be wrong by the seconds that stand in a file. libfaketime breaks `time.sleep`."""
    real = time.time
    time.time = lambda: real() + float(file.read_text() or 0)


def _load(store: RedisAnswers, broken: str) -> None:
    store.load()
    if broken == "expected":
        raise ConfigError("the model is not there")
    if broken:
        raise ValueError(broken)


if __name__ == "__main__":
    sys.exit(main())
