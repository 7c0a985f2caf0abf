"""The command line as tests use it: in this process for speed, as a process where signals and streams matter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from citewell.cli import app

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
PROGRAM = (sys.executable, "-c", "from citewell.cli import main; main()")


class Terminal:
    """Runs commands on one data folder, with none of the settings of whoever runs the tests."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        mine: dict[str, str | None] = {name: None for name in os.environ if name.startswith("CITEWELL_")}
        self.env = mine | {"CITEWELL_DATA_DIR": str(folder), "CITEWELL_CONFIG": os.devnull, "COLUMNS": "100"}
        self.env |= {"CITEWELL_" + name.upper(): value for name, value in settings.items()}

    def with_settings(self, **settings: str) -> Terminal:
        return Terminal(self.folder, **settings)

    def run(self, *words: str, status: int = 0) -> Result:
        """A command in this process; its exit status must be `status`, and no traceback may show."""
        result = CliRunner().invoke(app, list(words), env=self.env)
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output, result.output
        return result

    def json(self, *words: str, status: int = 0) -> Any:
        """The one JSON document on stdout; with `--json` nothing goes to stderr."""
        result = self.run(*words, "--json", status=status)
        assert result.stderr == ""
        return json.loads(result.stdout)

    def environment(self) -> dict[str, str]:
        """The environment of a process of its own."""
        merged: Mapping[str, str | None] = {**os.environ, **self.env}
        return {name: value for name, value in merged.items() if value is not None}

    def start(self, *words: str, **options: Any) -> subprocess.Popen[str]:
        """The command as a process."""
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([*PROGRAM, *words], env=self.environment(), text=True, encoding="utf-8", **streams)
