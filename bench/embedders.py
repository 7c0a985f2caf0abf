"""Speed and memory of embedders against the packaged one: passages a second at equal text, and the process's size.

    python bench/embedders.py packaged multilingual --corpus ../shared/corpora/squad1-en-dev ../shared/corpora/pyfaq-es

Each embedder has a process of its own, which tells its resident memory before it loads, once it is loaded and at its
peak. They take turns, so that what else the machine does meets them alike; medians of the rounds, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, cast

from citewell.config import load_settings
from citewell.train.judged import read_judged

_ROUNDS = 7


def resident() -> float:
    """MB of this process in memory now."""
    line = next(row for row in Path("/proc/self/status").read_text("utf-8").splitlines() if row.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def child(name: str) -> None:
    """Answers each line, a JSON list of texts, with the seconds that they took."""
    import sentence_transformers  # noqa: F401 - the library itself is no part of a model's memory

    from citewell.embed.sentence import SentenceTransformerEmbedder

    before = resident()
    embedder = SentenceTransformerEmbedder(load_settings(embedder=name))
    embedder.load()
    embedder.embed_passages(["A first text."])
    print(json.dumps({"before_mb": before, "loaded_mb": resident()}), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.perf_counter()
        embedder.embed_passages(texts)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "peak_mb": peak}), flush=True)
    embedder.close()


class Other:
    """A process with one embedder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--child", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.size = self._read()
        self.took: list[float] = []
        self.peak = 0.0

    def embed(self, texts: list[str]) -> None:
        into = cast(IO[str], self._process.stdin)
        into.write(json.dumps(texts) + "\n")
        into.flush()
        told = self._read()
        self.took.append(told["seconds"])
        self.peak = told["peak_mb"]

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        line = cast(IO[str], self._process.stdout).readline()
        if not line:
            raise SystemExit(f"the process of {self.name} ended")
        found: dict[str, Any] = json.loads(line)
        return found


def compared(names: list[str], corpora: list[Path], count: int) -> dict[str, Any]:
    others = [Other(name) for name in names]
    found: dict[str, Any] = {}
    for folder in corpora:
        texts = [text.whole for text in read_judged(folder).texts.values()][:count]
        for one in others:
            one.embed(texts[:32])
            one.took.clear()
        for number in range(_ROUNDS):
            for one in others if number % 2 else reversed(others):
                one.embed(texts)
        rates = {one.name: len(texts) / statistics.median(one.took) for one in others}
        first = rates[names[0]]
        found[folder.name] = {
            name: {"passages/s": round(rate, 1), "ratio": round(rate / first, 3)} for name, rate in rates.items()
        }
    for one in others:
        grown = one.size["loaded_mb"] - one.size["before_mb"]
        found[one.name] = {"loaded MB": round(grown), "peak MB": round(one.peak)}
        one.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embedders", nargs="*", default=["packaged", "multilingual"])
    parser.add_argument("--corpus", nargs="+", type=Path, default=[Path("../shared/corpora/squad1-en-dev")])
    parser.add_argument("--passages", type=int, default=200)
    parser.add_argument("--child", default="")
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return 0
    missing = [str(folder) for folder in options.corpus if not folder.is_dir()]
    if missing:
        print(f"skipped: there is no collection in {', '.join(missing)}", file=sys.stderr)
        return 0
    for name, row in compared(options.embedders, options.corpus, options.passages).items():
        print(json.dumps({name: row}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
