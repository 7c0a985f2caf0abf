"""`citewell doctor`: every part that the settings name, tried out, with a remedy for each that does not work."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from citewell.cli.options import AsJson
from citewell.cli.output import clean, console, emit_json, table, waiting
from citewell.errors import CitewellError, ConfigError, IndexUnavailable, QueueUnavailable, UnknownGenerator

if TYPE_CHECKING:
    from citewell.config import Settings
    from citewell.engine import Engine

# Below this an index of some size cannot be tidied up.
_LEAST_FREE_BYTES = 500_000_000
_PYTHON = (3, 11)


@dataclass(frozen=True)
class Check:
    """What was looked at and how it is; `reason` and `remedy` are filled when it is not ok."""

    name: str
    ok: bool
    detail: str = ""
    reason: str = ""
    remedy: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Try out every part that the settings name; exit status 1 when one does not work.

    Looks at the settings, Python, the data folder and its disk, the embedder, the index, the answers, the queue and,
    on the served stack, the workers. Each problem comes with its reason and remedy.

    Examples:

    ```
    citewell doctor
    CITEWELL_STACK=served citewell doctor --json
    ```
    """
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings

    try:
        settings = load_settings()
        with for_a_person(), waiting("looking"):
            checks = [Check("settings", True, _settings(settings)), *_checks(settings)]
    except ConfigError as error:
        checks = [Check("settings", False, reason=error.message, remedy=error.remedy), _try("python", _python)]
    fine = all(check.ok for check in checks)
    if as_json:
        emit_json({"ok": fine, "checks": [asdict(check) for check in checks]})
    else:
        _show(checks)
    if not fine:
        raise typer.Exit(1)


def _show(checks: list[Check]) -> None:
    from rich.text import Text

    screen = console()
    built = table(screen, "check", "state", "detail")
    for check in checks:
        if check.ok:
            built.add_row(check.name, Text("ok", "green"), clean(check.detail))
        else:
            told = Text.assemble(clean(check.reason), "\n", ("remedy: ", "bold"), clean(check.remedy))
            built.add_row(check.name, Text("problem", "bold red"), told)
    screen.print(built)
    bad = sum(not check.ok for check in checks)
    screen.print(f"{bad} of {len(checks)} checks found a problem" if bad else f"all {len(checks)} checks are ok")


def _checks(settings: Settings) -> Iterator[Check]:
    from citewell.engine import build

    yield _try("python", _python)
    if settings.stack == "embedded":
        yield _try("data_dir", lambda: _folder(settings.data_dir))
    engine = build(settings, "api")
    try:
        yield _try("embedder", lambda: _embedder(engine))
        yield _try("generator", lambda: _generator(engine))
        parts = _Parts(engine)
        yield _try("index", lambda: _index(parts["index"]))
        yield _try("answers", lambda: _answers(parts["answers"]))
        if settings.stack == "served":
            yield _try("queue", lambda: _queue(parts["queue"]))
            yield _try("workers", lambda: _workers(parts["queue"], settings.generator))
    finally:
        engine.close()


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except CitewellError as error:
        return Check(name, False, reason=error.message, remedy=error.remedy)


def _settings(settings: Settings) -> str:
    from citewell.config import config_file, origin

    changed = sum(origin(name) != "default" for name in type(settings).model_fields)
    return f"stack {settings.stack}, file {config_file() or 'none'}, {changed} changed"


def _python() -> str:
    if sys.version_info[:2] < _PYTHON:
        wanted = ".".join(map(str, _PYTHON))
        raise ConfigError(f"Python is {platform.python_version()}", remedy=f"Install Python {wanted} or newer.")
    return f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"


def _folder(folder: Path) -> str:
    """Writable, with room left; nothing is left behind, and a folder that is missing is not made."""
    there = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/"))
    remedy = "Make it writable, or set `data_dir` to a folder of yours."
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free
    except OSError as error:
        raise ConfigError(f"{there} cannot be written to: {error.strerror}", remedy=remedy) from None
    if free < _LEAST_FREE_BYTES:
        raise ConfigError(f"{there} has {free / 1e6:.0f} MB left", remedy="Free some space, or move `data_dir`.")
    return f"{folder} is writable, {free / 1e9:.1f} GB free"


def _embedder(engine: Engine) -> str:
    import numpy as np

    card = engine.embedder.describe()
    engine.embedder.embed_queries(["the first one also warms up"])
    started = time.perf_counter()
    vectors = engine.embedder.embed_queries(["a probe"])
    took = (time.perf_counter() - started) * 1e3
    if vectors.shape != (1, card.dimension) or not np.isfinite(vectors).all() or not vectors.any():
        raise ConfigError(
            f"the embedder {card.name} gave an unusable vector of shape {vectors.shape}",
            remedy="Its files may be damaged: install it again, or set another `embedder`.",
        )
    return f"{card.name}, weights {card.weights[:12]}, {card.dimension} dimensions, {took:.0f} ms a question"


def _generator(engine: Engine) -> str:
    name = engine.settings.generator
    if name not in engine.generators:
        known = ", ".join(sorted(engine.generators))
        raise UnknownGenerator(
            f"the setting `generator` is `{name}`, which is not set up",
            remedy=f"Choose one of {known}; `transformers` wants the setting `transformers_model`.",
        )
    return f"{name}, of {', '.join(sorted(engine.generators))}"


class _Parts:
    """The engine's own checks, made once; a part that does not load is told by what it complained of then.

    The embedded queue stays closed: a doctor does not answer questions.
    """

    def __init__(self, engine: Engine) -> None:
        self._complaints: dict[str, CitewellError] = {}
        queue = [("queue", engine.queue)] if engine.settings.stack == "served" else []
        for name, part in (("answers", engine.store), *queue):
            try:
                part.load()
            except CitewellError as error:
                self._complaints[name] = error
        self._found = engine.check()

    def __getitem__(self, name: str) -> dict[str, Any]:
        """What a part tells of itself; raises what it complains of."""
        if name in self._complaints:
            raise self._complaints[name]
        found = self._found[name]
        if not found["ok"]:
            raise CitewellError(str(found.get("message")), remedy=str(found.get("remedy")))
        return found


def _index(found: dict[str, Any]) -> str:
    documents, unfinished = found.get("documents"), found.get("unfinished")
    text = (
        f"{found.get('backend')} {found.get('index_version')}: {documents} documents, {found.get('passages')} passages"
    )
    if unfinished:
        raise IndexUnavailable(
            f"{text}; {unfinished} were being written when their load ended",
            remedy="Run the same `citewell ingest` again: it goes on where it stopped.",
        )
    return text if documents else f"{text}; load some with `citewell ingest FOLDER`"


def _answers(found: dict[str, Any]) -> str:
    kept = found.get("answers")
    if isinstance(kept, dict):
        counts = ", ".join(f"{count} {state}" for state, count in sorted(kept.items()))
        return f"{found.get('store')}: {counts or 'none kept'}"
    return (
        f"{found.get('store')} {found.get('version', '')} at {found.get('address')}, eviction {found.get('eviction')}"
    )


def _queue(found: dict[str, Any]) -> str:
    return f"{found.get('queue')}: {found.get('depth')} waiting"


def _workers(found: dict[str, Any], wanted: str) -> str:
    """The workers that have given a sign of life, one of them for the generator of the settings."""
    workers = found.get("workers", [])
    start = "Start one with the same settings: `citewell worker`."
    if not workers:
        raise QueueUnavailable("no worker has given a sign of life", remedy=start)
    ready = [w for w in workers if w.get("state") == "ready" and wanted in w.get("generators", ())]
    if not ready:
        states = ", ".join(f"{w.get('name')} {w.get('state')}" for w in workers)
        raise QueueUnavailable(f"no worker is ready for the generator `{wanted}` ({states})", remedy=start)
    return f"{len(ready)} ready for {wanted}: {', '.join(str(w.get('name')) for w in ready)}"
