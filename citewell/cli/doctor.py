"""`citewell doctor`: every part that the settings name, tried out, with a remedy for each that does not work.

Then the parts are compared with each other (`citewell.checkup`), and `--fix` repairs what does not belong together.
"""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from citewell.cli.findings import Findings
from citewell.cli.options import AsJson
from citewell.cli.output import clean, console, emit_json, table, waiting
from citewell.errors import CitewellError, ConfigError, IndexUnavailable, QueueUnavailable, UnknownGenerator

if TYPE_CHECKING:
    from citewell.config import Settings
    from citewell.engine import Engine
    from citewell.ports import Backend

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


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired; without it nothing is changed.")] = (
        False
    ),
    as_json: AsJson = False,
) -> None:
    """Try out every part that the settings name and compare them; exit status 1 when something is wrong.

    Looks at the settings, Python, the data folder and its disk, the embedder, the index, the answers, the queue and,
    on the served stack, the workers. Then it compares ledger, passages, answers, keys and messages with each other, and
    names what does not belong together; with --fix it repairs that. Each problem comes with its reason and remedy.

    Examples:

    ```
    citewell doctor
    citewell doctor --fix
    CITEWELL_STACK=served citewell doctor --json
    ```
    """
    from citewell.cli.logs import for_a_person
    from citewell.config import load_settings

    findings = Findings(fix)
    try:
        settings = load_settings()
        with for_a_person(), waiting("looking"):
            checks = [Check("settings", True, _settings(settings)), *_checks(settings, findings)]
    except ConfigError as error:
        checks = [Check("settings", False, reason=error.message, remedy=error.remedy), _try("python", _python)]
    fine = all(check.ok for check in checks) and not findings.wrong
    if as_json:
        emit_json({"ok": fine, "checks": [asdict(check) for check in checks], **findings.to_dict()})
    else:
        _show(checks)
        findings.show()
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


def _checks(settings: Settings, findings: Findings) -> Iterator[Check]:
    from citewell.engine import build

    yield _try("python", _python)
    folder = _try("data_dir", lambda: _folder(settings.data_dir)) if settings.stack == "embedded" else None
    if folder is not None:
        yield folder
    engine = build(settings, "api")
    try:
        yield _try("embedder", lambda: _embedder(engine))
        yield _try("generator", lambda: _generator(engine))
        # Before the index is opened, which would make anew what is missing of it.
        findings.of_versions(engine)
        parts = _Parts(engine, findings.half_made, usable=folder is None or folder.ok)
        yield _try("index", lambda: _index(parts["index"]))
        yield _try("answers", lambda: _answers(parts["answers"]))
        if settings.stack == "served":
            yield _try("queue", lambda: _queue(parts["queue"]))
            yield _try("workers", lambda: _workers(parts["queue"], settings.generator))
        if parts.works("index"):
            findings.of_documents(engine)
        if parts.works("answers"):
            findings.of_answers(engine)
        if settings.stack == "served" and parts.works("queue"):
            findings.of_loads(engine)
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
            remedy=f"Choose one of {known}, or add a table [generators.{name}].",
        )
    return f"{name}, of {', '.join(sorted(engine.generators))}"


class _Parts:
    """What each part tells of itself, asked once. The embedded queue stays closed: a doctor does not answer questions.

    An index of which half is missing stays closed, too: opening it would make that half anew.
    """

    def __init__(self, engine: Engine, half_made: str, *, usable: bool) -> None:
        looks: dict[str, Callable[[], dict[str, Any]]] = {
            # The first version is not made by looking for it; where it could not be made, opening tells why.
            "index": lambda: {} if usable and not engine.library.versions().all() else engine.library.index().info(),
            "answers": lambda: _loaded(engine.store),
        }
        if engine.settings.stack == "served":
            looks["queue"] = lambda: _loaded(engine.queue)
        self._found: dict[str, dict[str, Any] | CitewellError] = {}
        if half_made:
            self._found["index"] = IndexUnavailable(
                f"half of {half_made} is missing", remedy="See the findings below; `citewell doctor --fix` may mend it."
            )
            del looks["index"]
        for name, look in looks.items():
            try:
                self._found[name] = look()
            except CitewellError as error:
                self._found[name] = error

    def works(self, name: str) -> bool:
        return not isinstance(self._found[name], CitewellError)

    def __getitem__(self, name: str) -> dict[str, Any]:
        """What a part tells of itself; raises what it complains of."""
        found = self._found[name]
        if isinstance(found, CitewellError):
            raise found
        return found


def _loaded(part: Backend) -> dict[str, Any]:
    part.load()
    return part.info()


def _index(found: dict[str, Any]) -> str:
    if not found:
        return "there is none yet; the first `citewell ingest FOLDER` makes it"
    documents = found.get("documents")
    text = (
        f"{found.get('backend')} {found.get('index_version')}: {documents} documents, {found.get('passages')} passages"
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
