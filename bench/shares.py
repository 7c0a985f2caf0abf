"""Where the time of a load and of a search goes, on the embedded stack.

    python bench/shares.py ../shared/corpora/squad1-en-dev --documents 600 --questions 100

Prints the share of splitting, embedding and writing in a load, and the median of each step of a search.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from citewell.config import load_settings
from citewell.engine import build
from citewell.ingest.sources import Known, Limits, open_source
from citewell.records import Document, Question


def timed(spent: dict[str, float], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - begun

    return wrapped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--questions", type=int, default=100)
    args = parser.parse_args()
    settings = load_settings(data_dir=Path(tempfile.mkdtemp()), stack="embedded")
    limits = Limits.of(settings)
    items = islice(open_source(str(args.collection), limits).items(Known(), lambda _: None), args.documents)
    documents = [item for item in items if isinstance(item, Document)]
    spent: dict[str, float] = defaultdict(float)
    with build(settings) as engine:
        index: Any = engine.library.index()
        engine.embedder.embed_passages = timed(spent, "embed", engine.embedder.embed_passages)  # type: ignore[method-assign]
        index.put = timed(spent, "write", index.put)
        index.flush = timed(spent, "flush", index.flush)
        begun = time.perf_counter()
        for _ in engine.put(documents):
            pass
        total = time.perf_counter() - begun
        print(f"load: {len(documents) / total:.1f} documents/s")
        for name, seconds in [*spent.items(), ("rest", total - sum(spent.values()))]:
            print(f"  {name:6} {seconds / total:6.1%}")
        steps: dict[str, list[float]] = defaultdict(list)
        for document in documents[: args.questions]:
            found = engine.search(Question(text=document.text[:80], k=10))
            for name, took in found.timings_ms.items():
                steps[name].append(took)
    print("search, medians in ms: " + ", ".join(f"{n} {statistics.median(t):.1f}" for n, t in steps.items()))


if __name__ == "__main__":
    main()
