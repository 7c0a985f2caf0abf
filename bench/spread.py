"""What it costs to leave a load to workers: one process, then a reader with one and two workers on the same cores.

    python bench/spread.py ../shared/corpora/squad1-en-dev --elasticsearch-url URL --redis-url URL --documents 1000

Each way loads the same documents into an index of its own, twice: first all of them, then unchanged. Rates are those
that `citewell ingest --json` reports, which leave out the start of processes and the loading of models. Workers of one
machine share its cores, so this shows the cost of the way and not the gain: that comes with other machines.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import redis
from elasticsearch import Elasticsearch

PROGRAM = (sys.executable, "-c", "from citewell.cli import main; main()")


class Stack:
    """The served stack under one index name, and the command line on it."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.name = f"spread-{uuid.uuid4().hex[:8]}"
        self._arguments = arguments
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CITEWELL_")}
        self._environment = kept | {
            "CITEWELL_STACK": "served",
            "CITEWELL_ELASTICSEARCH_URL": arguments.elasticsearch_url,
            "CITEWELL_REDIS_URL": arguments.redis_url,
            "CITEWELL_INDEX_NAME": self.name,
            "CITEWELL_CONFIG": os.devnull,
            "CITEWELL_DATA_DIR": str(folder),
        }

    def ingest(self, *words: str) -> float:
        """Documents a second."""
        command = [*PROGRAM, "ingest", *words, "--json"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout)["documents_per_second"])

    @contextmanager
    def workers(self, count: int) -> Iterator[None]:
        command = [*PROGRAM, "worker", "--ingest"]
        started = [subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL) for _ in range(count)]
        try:
            with redis.Redis.from_url(self._arguments.redis_url, decode_responses=True) as client:
                while sum(_ready(client, str(key)) for key in client.scan_iter(f"{self.name}:worker:*")) < count:
                    time.sleep(0.2)
            yield
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(120)

    def remove(self) -> None:
        with Elasticsearch(self._arguments.elasticsearch_url) as client:
            for index in client.indices.get(index=f"{self.name}*", expand_wildcards="all"):
                client.indices.delete(index=index)


def _ready(client: redis.Redis, key: str) -> bool:
    state: Any = client.get(key)
    return state is not None and json.loads(state)["state"] == "ready"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--elasticsearch-url", required=True)
    parser.add_argument("--redis-url", required=True)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--workers", default="0,1,2", help="numbers of workers, 0 for a load in one process")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "corpus.jsonl"
        with gzip.open(arguments.corpus / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            file.write_text("".join(islice(lines, arguments.documents)), "utf-8")
        for count in map(int, arguments.workers.split(",")):
            stack = Stack(arguments, Path(name))
            spread = ["--distributed"] if count else []
            with stack.workers(count):
                first, again = stack.ingest(str(file), *spread), stack.ingest(str(file), *spread)
            stack.remove()
            print(json.dumps({"workers": count, "documents/s": first, "unchanged/s": again}), flush=True)


if __name__ == "__main__":
    main()
