"""A training's folder: what is trained on and how is in it, and a run that goes on must want the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from citewell.errors import BadInput

_PLAN = "plan.json"


def opened(folder: Path, plan: Mapping[str, Any], *, resume: bool, free: tuple[str, ...] = ()) -> list[Path]:
    """The folder made ready; its whole checkpoints in order. Settings in `free` may be others when a run goes on."""
    file = folder / _PLAN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(file.read_text("utf-8")) if file.is_file() else None
        if before is None:
            file.write_text(json.dumps(plan, indent=2) + "\n", "utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} cannot be used: {error}", remedy="Name another folder with --out.") from None
    if before is None:
        return []
    if not resume:
        raise BadInput(f"{folder} has a run in it", remedy="Go on with --resume, or name another folder with --out.")
    changed = sorted(key for key in {*before, *plan} - {*free} if before.get(key) != plan.get(key))
    if changed:
        raise BadInput(
            f"the run in {folder} was begun with other settings: {', '.join(changed)}",
            remedy="Give the same sets and options, or name another folder with --out.",
        )
    return _checkpoints(folder)


def _checkpoints(folder: Path) -> list[Path]:
    """Those that were written whole: the trainer's state is the last file of one. A half one is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for half in [path for path in found if not (path / "trainer_state.json").is_file()]:
        shutil.rmtree(half)
        found.remove(half)
    return found
