"""How a search's time grows with the index, on both stacks.

    python bench/scale.py ../shared/corpora --elasticsearch-url http://127.0.0.1:9200 --sizes 2000,20000,200000

Passages are sentences of the collections, shuffled and numbered anew until there are enough, with random unit vectors:
what is timed are both legs of a search (depth 100, real questions, random question vectors), not how well they rank.
The sizes are built up in one index and timed in one run; read the ratios. A size is timed when its segments have been
merged and every question was asked once: what an index in use is like, not one in the minute after its load.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from citewell.config import load_settings
from citewell.engine import build
from citewell.evaluate.collection import from_folder
from citewell.ports import DocumentWrite, Index, LegsQuery, Vectors
from citewell.records import LedgerEntry, Passage
from citewell.text import sentences

COLLECTIONS = {"squad1-en-dev": "en", "squad1-es-dev": "es", "jaquad-ja-dev": "ja", "pyfaq-ko": "ko"}
BATCH = 2000
PASSAGES_EACH = 10
MERGED_WITHIN_S = 300


def sentences_of(corpora: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, lang in COLLECTIONS.items():
        with gzip.open(corpora / name / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
        cut = (text[start:end] for text in texts for start, end in sentences(text, lang))
        found[lang] = [sentence for sentence in cut if 20 < len(sentence) < 400]
    return found


def documents(corpora: Path, dimension: int) -> Iterator[DocumentWrite]:
    """Endless documents of ten passages of three sentences each, with a number of their own."""
    rng, numbers = random.Random(1), np.random.default_rng(1)
    pools = sentences_of(corpora)
    for number in count():
        doc_id, lang = f"doc-{number:07d}", rng.choice(list(pools))
        texts = [f"{' '.join(rng.sample(pools[lang], 3))} {number}-{n}" for n in range(PASSAGES_EACH)]
        passages = tuple(
            Passage(
                id=Passage.make_id(doc_id, n), doc_id=doc_id, ordinal=n, start=0, end=len(text), text=text, lang=lang
            )
            for n, text in enumerate(texts)
        )
        vectors = unit(numbers.standard_normal((PASSAGES_EACH, dimension)))
        entry = LedgerEntry(doc_id=doc_id, content_hash=str(number), passages=PASSAGES_EACH, lang=lang, indexed_at=1.0)
        yield DocumentWrite(entry, passages, vectors)


def unit(vectors: Any) -> Vectors:
    scaled: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def timed(index: Index, queries: list[LegsQuery]) -> list[float]:
    for query in queries:
        index.legs(query)
    times = []
    for query in queries:
        begun = time.perf_counter()
        index.legs(query)
        times.append((time.perf_counter() - begun) * 1e3)
    return times


def grow(index: Index, source: Iterator[DocumentWrite], passages: int) -> None:
    for _ in range(0, passages, BATCH):
        failed = [one for one in index.put(list(islice(source, BATCH // PASSAGES_EACH))) if one.error]
        if failed:
            raise SystemExit(f"{failed[0].doc_id}: {failed[0].error}")
    index.flush()


def settle(url: str, name: str) -> None:
    """Wait until Elasticsearch has merged the segments of the load."""
    deadline = time.monotonic() + MERGED_WITHIN_S
    while time.monotonic() < deadline:
        stats = httpx.get(f"{url}/{name}-*/_stats/merge").json()
        if not stats["_all"]["primaries"]["merges"]["current"]:
            return
        time.sleep(1)
    raise SystemExit(f"{name} was still merging after {MERGED_WITHIN_S} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="?", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--stack", default="embedded,served")
    parser.add_argument("--sizes", default="2000,20000,200000")
    parser.add_argument("--questions", type=int, default=50, help="of each collection")
    options = parser.parse_args()
    if not options.corpora.is_dir():
        print(f"skipped: there are no test collections in {options.corpora}", file=sys.stderr)
        return 0
    url = options.elasticsearch_url or load_settings().elasticsearch_url
    print("| stack | passages | loaded in | p50 | p95 | p50 to the smallest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for stack in options.stack.split(","):
        with tempfile.TemporaryDirectory() as folder:
            name = f"bench-{uuid.uuid4().hex[:8]}"
            settings = load_settings(stack=stack, data_dir=Path(folder), index_name=name, elasticsearch_url=url)
            with build(settings, "ingest") as engine:
                index, dimension = engine.library.index(), engine.embedder.describe().dimension
                asked = [
                    (question.text, lang)
                    for collection, lang in COLLECTIONS.items()
                    for question in from_folder(options.corpora / collection, limit=options.questions).questions
                ]
                vectors = unit(np.random.default_rng(2).standard_normal((len(asked), dimension)))
                queries = [
                    LegsQuery(text, lang, vector[None], ()) for (text, lang), vector in zip(asked, vectors, strict=True)
                ]
                source, there, first = documents(options.corpora, dimension), 0, 0.0
                try:
                    for size in [int(size) for size in options.sizes.split(",")]:
                        begun = time.perf_counter()
                        grow(index, source, size - there)
                        seconds, there = time.perf_counter() - begun, size
                        if stack == "served":
                            settle(url, name)
                        times = timed(index, queries)
                        p50, p95 = statistics.median(times), float(np.quantile(times, 0.95))
                        first = first or p50
                        cells = f"{seconds:.0f} s | {p50:.1f} ms | {p95:.1f} ms | {p50 / first:.2f}"
                        print(f"| {stack} | {size:,} | {cells} |", flush=True)
                finally:
                    engine.library.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main())
