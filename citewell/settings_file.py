"""What commands write into the settings file; everything else in it, comments included, stays as it is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from citewell.config import Tuned
from citewell.errors import ConfigError


def write_tuned(path: Path, tuned: Mapping[str, Tuned]) -> None:
    """Set `[tuned.LANG]` for each language; the file is made when it is missing, and replaced in one step.

    Raises `ConfigError` when it cannot be read or written; it is then as it was.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document: Any = tomlkit.parse(path.read_text("utf-8")) if path.exists() else tomlkit.document()
        if "tuned" not in document:
            document["tuned"] = tomlkit.table(is_super_table=True)
        for lang, value in tuned.items():
            document["tuned"][lang] = value.model_dump(exclude_defaults=False)
        _replace(path, tomlkit.dumps(document))
    except (TOMLKitError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the settings file {path} cannot be written: {error}", remedy="Mend the file, or make it writable."
        ) from None


def _replace(path: Path, text: str) -> None:
    """A reader, or a machine that stops, sees the old file or the new one."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)  # noqa: PTH101 - a name is all there is
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
