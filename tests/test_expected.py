"""The gate on retrieval: both stacks reach the figures of `eval/expected.yaml`, within .01.

What is meant to change them measures them anew: `python bench/expected.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.terminal import Terminal

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = ROOT / "eval" / "expected.yaml"
COLLECTIONS: dict[str, Any] = yaml.safe_load(EXPECTED.read_text("utf-8"))["collections"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", COLLECTIONS)
def test_retrieval_is_as_good_as_it_was(name: str, tmp_path: Path, elasticsearch_url: str) -> None:
    wanted = COLLECTIONS[name]
    corpus = ROOT / wanted["corpus"]
    if not corpus.is_dir():
        pytest.skip(f"the collection {corpus} is not here")
    terminal = Terminal(tmp_path / "data", elasticsearch_url=elasticsearch_url)
    both = ("--limit", str(wanted["limit"]), "--stack", "embedded,elasticsearch")
    gate = ("--baseline", str(EXPECTED), "--fail-below", "0.01")
    found = terminal.json("eval", "retrieval", "--corpus", str(corpus), *both, *gate)
    for stack in ("embedded", "served"):
        for lang, figures in wanted["figures"][f"{stack} hybrid"].items():
            legs = [wanted["figures"][f"{stack} {leg}"][lang]["nDCG@10"] for leg in ("bm25", "dense")]
            assert figures["nDCG@10"] >= max(legs) - 0.02, f"{stack}, {lang}: the default is worse than one leg alone"
    assert abs(found["parity"]["served - embedded"]["hybrid"]["value"]) <= 0.02
