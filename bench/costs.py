"""What a load costs, step by step: CPU milliseconds a document, of this process and of Elasticsearch, and how long the
embedder had to wait.

    python bench/costs.py ../shared/corpora/squad1-en-dev --documents 500 --elasticsearch-url URL

CPU time rather than seconds on the clock, because other work on the machine hides the latter. A step's time is that of
its own thread, less that of the steps inside it; `embed` is all the rest of the process: the model's threads. The
server's is its process's own, so nothing else may use it meanwhile. `busy` is the share of the time between the
embedder's first and last batch in which it had one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from inspect import isgeneratorfunction
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from citewell import language
from citewell.config import load_settings
from citewell.engine import build
from citewell.index import elastic, lance_rows, words
from citewell.ingest.sources import Known, Limits, open_source
from citewell.records import Document
from citewell.split import Splitter

TICKS = os.sysconf("SC_CLK_TCK")


class Costs:
    """CPU seconds by step. A step inside another of the same thread is taken off the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.embedding: list[tuple[float, float]] = []
        self._inner = threading.local()

    def step(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            outer, self._inner.spent = getattr(self._inner, "spent", 0.0), 0.0
            begun, started = time.thread_time(), time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                took = time.thread_time() - begun
                self.seconds[name] += took - self._inner.spent
                self._inner.spent = outer + took
                if name == "embed":
                    self.embedding.append((started, time.perf_counter()))

        return wrapped

    def busy(self) -> float:
        spans = self.embedding
        return sum(end - start for start, end in spans) / (spans[-1][1] - spans[0][0]) if spans else 0.0


def watched(costs: Costs, owner: Any, name: str, step: str) -> None:
    """Count what a function costs until the process ends; of a generator, what all that it yields costs."""
    call = getattr(owner, name)
    whole = (lambda *args, **kwargs: list(call(*args, **kwargs))) if isgeneratorfunction(call) else call
    setattr(owner, name, costs.step(step, whole))


def server_seconds(url: str) -> float:
    """CPU seconds of Elasticsearch's process on this machine; 0 where it runs elsewhere."""
    nodes = httpx.get(f"{url}/_nodes/process", timeout=60).json()["nodes"]
    stat = Path(f"/proc/{next(iter(nodes.values()))['process']['id']}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def counted(costs: Costs, items: Iterator[Any]) -> Iterator[Any]:
    step = costs.step("read, parse", lambda: next(items, None))
    while (item := step()) is not None:
        yield item


def load(stack: str, options: argparse.Namespace) -> dict[str, Any]:
    url = options.elasticsearch_url
    with tempfile.TemporaryDirectory() as folder:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        settings = load_settings(data_dir=folder, stack=stack, elasticsearch_url=url, index_name=name)
        source = open_source(str(options.collection), Limits.of(settings))
        with build(settings, "ingest") as engine:
            index: Any = engine.library.index()
            engine.embedder.embed_passages(["A few words to begin with."] * 64)
            costs = Costs()
            watched(costs, engine.embedder, "embed_passages", "embed")
            watched(costs, index, "ledger", "ledger")
            watched(costs, index, "put", "write")
            watched(costs, index, "flush", "flush")
            for owner, name, step in (
                (language, "detect", "language"),
                (Splitter, "split", "split"),
                (Document, "content_hash", "hash"),
                (elastic, "source", "bodies"),
                (elastic, "words", "words"),
                (elastic, "stems", "stems"),
                (lance_rows, "passage_rows", "bodies"),
                (words, "words", "words"),
                (words, "stems", "stems"),
            ):
                watched(costs, owner, name, step)
            items = counted(costs, islice(source.items(Known(), lambda _: None), options.documents))
            server, cpu = server_seconds(url) if stack == "served" else 0.0, time.process_time()
            begun = time.perf_counter()
            outcomes = list(engine.put(items))
            wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
            time.sleep(2)  # the server merges
            server = server_seconds(url) - server if stack == "served" else 0.0
            engine.library.remove()
    assert all(outcome.status == "added" for outcome in outcomes), outcomes
    per = 1000 / len(outcomes)
    own = {step: spent for step, spent in costs.seconds.items() if step != "embed"}
    found = {step: round(spent * per, 2) for step, spent in sorted(own.items(), key=lambda item: -item[1])}
    found |= {"embed": round((cpu - sum(own.values())) * per, 2), "this process": round(cpu * per, 2)}
    found |= {"Elasticsearch": round(server * per, 2)} if stack == "served" else {}
    passages = sum(outcome.passages for outcome in outcomes)
    return {
        "documents": len(outcomes),
        "passages": passages,
        "documents_per_second": round(len(outcomes) / wall, 1),
        "busy": round(costs.busy(), 3),
        "cpu_ms_per_document": found,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", nargs="?", type=Path, default=Path("../shared/corpora/squad1-en-dev"))
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--stack", choices=("embedded", "served"), action="append")
    parser.add_argument("--json", type=Path, help="a file that the figures are kept in")
    options = parser.parse_args()
    if not options.collection.is_dir():
        print(f"skipped: there is no test collection in {options.collection}", file=sys.stderr)
        return 0
    options.elasticsearch_url = options.elasticsearch_url or load_settings().elasticsearch_url
    figures: dict[str, Any] = {}
    for stack in options.stack or ("served", "embedded"):
        figures[stack] = load(stack, options)
        print(stack, json.dumps(figures[stack]), flush=True)
    if options.json:
        kept = json.loads(options.json.read_text("utf-8")) if options.json.exists() else {}
        kept[options.collection.name] = {"date": time.strftime("%Y-%m-%d"), **figures}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
