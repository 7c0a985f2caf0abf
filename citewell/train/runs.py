"""A training's folder: what is trained on and how is in it, and a run that goes on must want the same.

What a disk or a checkpoint does to a run is told in plain words.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from citewell.errors import BadInput, TrainingFailed
from citewell.index.lock import locked

_PLAN, _LOCK = "plan.json", "lock"
# A full disk comes as an OSError, or as an error of PyTorch's writer or reader that has no kind of its own: these are
# in its text. The file of the last stands for the writer that could not finish what it had begun.
_DISK = ("No space left", "PytorchStreamWriter", "inline_container.cc")
_CHECKPOINT = ("PytorchStreamReader", "state_dict")


def opened(folder: Path, plan: Mapping[str, Any], *, resume: bool, free: tuple[str, ...] = ()) -> list[Path]:
    """The folder made ready; its whole checkpoints in order. Settings in `free` may be others when a run goes on."""
    file = folder / _PLAN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(file.read_text("utf-8")) if file.is_file() else None
        if before is None:
            file.write_text(json.dumps(plan, indent=2) + "\n", "utf-8")
    except (OSError, ValueError) as error:
        raise _cannot_be_used(folder, error) from None
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


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other processes from running in it; raises `BadInput` where one does."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            mine = held.enter_context(locked(folder / _LOCK, 0.0))
        except FileExistsError:
            raise BadInput(f"{folder} is a file", remedy="Name a folder with --out.") from None
        except OSError as error:
            raise _cannot_be_used(folder, error) from None
        if not mine:
            raise BadInput(
                f"another run is under way in {folder}",
                remedy="Wait until it has ended, or name another folder with --out.",
            )
        yield


def _cannot_be_used(folder: Path, error: Exception) -> BadInput:
    return BadInput(f"{folder} cannot be used: {error}", remedy="Name another folder with --out.")


@contextmanager
def failures_told(folder: Path) -> Iterator[None]:
    """Raises `TrainingFailed` for errors of disk or checkpoint inside; any other goes on its way."""
    try:
        yield
    except Exception as error:
        said, kind = str(error), type(error).__name__
        # The reader of a broken checkpoint names the same file as the writer.
        writing = isinstance(error, OSError) or any(words in said for words in _DISK)
        if writing and "PytorchStreamReader" not in said:
            raise TrainingFailed(
                f"the run in {folder} could not be written or read: {said}",
                remedy="Free space on that disk, then run the same command with --resume.",
            ) from error
        if kind in ("SafetensorError", "UnpicklingError") or any(words in said for words in _CHECKPOINT):
            raise TrainingFailed(
                f"the last checkpoint in {folder} cannot be used: {said}",
                remedy="Remove that checkpoint-N folder, then run the same command with --resume.",
            ) from error
        raise


def _checkpoints(folder: Path) -> list[Path]:
    """Those that were written whole. A half one, of a run that was killed over it, is removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for half in [path for path in found if not _whole(path)]:
        shutil.rmtree(half)
        found.remove(half)
    return found


def _whole(checkpoint: Path) -> bool:
    """The trainer's state is the last file of a checkpoint, and a half-written one is no JSON."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True
