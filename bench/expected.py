"""Measures anew what `eval/expected.yaml` holds: the figures that continuous integration holds this project to.

    python bench/expected.py --elasticsearch-url http://127.0.0.1:9200

Only after a change that is meant to change them. `tests/test_expected.py` compares; what fell by more than .01 fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "eval" / "expected.yaml"
KEPT = ("nDCG@10", "R@10")
HEAD = """\
# What retrieval reaches, by collection: python bench/expected.py makes it, tests/test_expected.py gates on it.
# Modes are STACK MODE; `all` is every question, the others are its languages.
"""


def measured(corpus: str, limit: int, url: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        words = ["eval", "retrieval", "--corpus", corpus, "--limit", str(limit), "--stack", "embedded,elasticsearch"]
        program = [sys.executable, "-c", "from citewell.cli import main; main()", *words, "--out", str(out)]
        environment = {"CITEWELL_ELASTICSEARCH_URL": url} if url else {}
        subprocess.run(program, check=True, cwd=ROOT, env=os.environ | environment)
        report: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return {
        mode: {lang: {name: figures[name]["value"] for name in KEPT} for lang, figures in langs.items()}
        for mode, langs in report["figures"].items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elasticsearch-url", default="")
    options = parser.parse_args()
    expected: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    for name, wanted in expected["collections"].items():
        if not (ROOT / wanted["corpus"]).is_dir():
            print(f"skipped: {name} is not there", file=sys.stderr)
            continue
        wanted["figures"] = measured(wanted["corpus"], wanted["limit"], options.elasticsearch_url)
    FILE.write_text(HEAD + yaml.safe_dump(expected, sort_keys=False, width=110, default_flow_style=None), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
