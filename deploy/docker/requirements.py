"""Print what pyproject.toml requires, one requirement a line: `requirements.py PYPROJECT [EXTRA...]`.

The image installs these before the code arrives, so that a change of code does not install torch again. The build
backend is among them because the code is then installed without build isolation, that is without the network.
"""

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    tables = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    project = tables["project"]
    optional = project.get("optional-dependencies", {})
    unknown = sorted(set(extras) - set(optional))
    if unknown:
        raise SystemExit(f"{pyproject}: no extra named {', '.join(unknown)}; it has: {', '.join(sorted(optional))}")
    found = [*tables["build-system"]["requires"], *project.get("dependencies", [])]
    for extra in extras:
        found += optional[extra]
    return found


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in requirements(Path(sys.argv[1]), sys.argv[2:])))
