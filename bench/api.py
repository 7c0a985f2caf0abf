"""What the API adds to a search: its p50 against the sum of embedding the question and one bare `_msearch`.

    python bench/api.py ../shared/corpora/squad1-en-dev --elasticsearch-url http://127.0.0.1:9200

The collection is loaded into Elasticsearch and `citewell serve` started on it. Then, question by question in turn: one
`POST /v1/search` over HTTP, and in this process one question embedded and one `_msearch` with the same body as the
product sends. No question is asked twice, because the vectors of questions are cached, and the two take turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np

from citewell.config import Settings, load_settings
from citewell.engine import Engine, build
from citewell.evaluate.collection import from_folder
from citewell.index.queries import msearch
from citewell.ports import LegsQuery

WARM_UP = 20


class Clock:
    """Seconds of each part, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"api": [], "embed": [], "msearch": []}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name].append(time.perf_counter() - begun)


@contextlib.contextmanager
def served(settings: Settings) -> Iterator[httpx.Client]:
    """`citewell serve` as a process, and a client of it once it is ready."""
    names = ("stack", "index_name", "elasticsearch_url", "redis_url")
    environment = os.environ | {f"CITEWELL_{name.upper()}": str(getattr(settings, name)) for name in names}
    words = [sys.executable, "-c", "from citewell.cli import main; main()", "serve", "--port", "0"]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        address = next(found[0] for line in process.stderr if (found := re.search(r"http://[^\s/]+:\d+", line)))
        with httpx.Client(base_url=address, timeout=30) as client:
            while client.get("/readyz").status_code != 200:
                time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.communicate()


def compared(engine: Engine, asked: list[str]) -> Clock:
    settings, clock = engine.settings, Clock()
    kind = {"Content-Type": "application/x-ndjson"}
    with served(settings) as api, httpx.Client(base_url=settings.elasticsearch_url, timeout=30) as elastic:
        for theirs, mine in zip(asked[::2], asked[1::2], strict=False):
            with clock.part("api"):
                api.post("/v1/search", json={"question": theirs, "lang": "en"}).raise_for_status()
            with clock.part("embed"):
                vector = engine.embedder.embed_queries([mine])
            query = LegsQuery(mine, "en", vector, None, depth=settings.depth)
            lines = msearch(query, settings.index_name, settings.languages)
            body = "".join(json.dumps(line) + "\n" for line in lines)
            with clock.part("msearch"):
                elastic.post("/_msearch", content=body, headers=kind).raise_for_status().json()
    return clock


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", nargs="?", type=Path, default=Path("../shared/corpora/squad1-en-dev"))
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--redis-url", default="")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--cache", type=Path, default=Path("build/quality"))
    options = parser.parse_args()
    if not options.collection.is_dir():
        print(f"skipped: there is no collection in {options.collection}", file=sys.stderr)
        return 0
    given = {name: value for name in ("elasticsearch_url", "redis_url") if (value := getattr(options, name))}
    name = f"bench-{uuid.uuid4().hex[:8]}"
    settings = load_settings(stack="served", data_dir=options.cache, embed_cache=True, index_name=name, **given)
    asked = list(dict.fromkeys(question.text for question in from_folder(options.collection).questions[::7]))
    with build(settings, "ingest") as engine:
        try:
            for outcome in engine.ingest([str(options.collection)]):
                if outcome.status == "failed":
                    raise SystemExit(f"{outcome.doc_id}: {outcome.reason}")
            clock = compared(engine, asked[: 2 * (options.questions + WARM_UP)])
        finally:
            engine.library.remove()
    api, embed, search = (np.array(clock.seconds[part][WARM_UP:]) * 1e3 for part in ("api", "embed", "msearch"))
    both = float(np.median(embed + search))
    print(f"searches: {len(api)}")
    print(f"embed p50 {np.median(embed):.1f} ms, _msearch p50 {np.median(search):.1f} ms, both {both:.1f} ms")
    print(f"POST /v1/search p50 {np.median(api):.1f} ms: {np.median(api) / both:.2f} times both")
    return 0


if __name__ == "__main__":
    sys.exit(main())
