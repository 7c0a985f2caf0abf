"""What it costs on Elasticsearch that readers see each document before or after a change.

    python bench/atomic.py ../shared/corpora --elasticsearch-url http://127.0.0.1:9200

Searches: both legs, depth 100, bare (no veils asked for, as many hits as are wanted) and as the product does, beside
no load and beside the veils of one and of four. Loads: documents a second of `put`, with every passage written in its
place, and as the product does. Both ways in turns, one search or batch each; read the ratios.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from citewell.config import load_settings
from citewell.index import elastic
from citewell.index import queries as queries_module
from citewell.index.elastic import ElasticIndex
from citewell.index.elastic_change import Change
from citewell.index.elastic_veils import Hidden, Veil
from citewell.index.queries import bm25_body, dense_body
from citewell.ingest.pipeline import BATCH_DOCUMENTS
from citewell.ports import DocumentWrite, LegsQuery, Vectors
from citewell.records import Document, Fingerprint, LedgerEntry, Passage

DIMENSION = 384
COLLECTION = "squad1-en-dev"


def unit(vectors: Any) -> Vectors:
    scaled: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return scaled


class Material:
    """Documents of real paragraphs in another order each time, with random vectors."""

    def __init__(self, corpora: Path) -> None:
        with gzip.open(corpora / COLLECTION / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
            self._texts = [json.loads(line)["text"] for line in lines]
        self._chance, self._numbers = random.Random(1), np.random.default_rng(1)

    def write(self, doc_id: str, passages: int) -> DocumentWrite:
        texts = self._chance.sample(self._texts, passages)
        document = Document(id=doc_id, text="\n".join(texts), lang="en")
        cut, start = [], 0
        for ordinal, text in enumerate(texts):
            place: dict[str, Any] = {"ordinal": ordinal, "start": start, "end": start + len(text), "text": text}
            cut.append(Passage(id=Passage.make_id(doc_id, ordinal), doc_id=doc_id, lang="en", **place))
            start += len(text) + 1
        entry = LedgerEntry(
            doc_id=doc_id,
            content_hash=document.content_hash(),
            passages=passages,
            lang="en",
            indexed_at=1.0,
            document=document,
        )
        return DocumentWrite(entry, tuple(cut), unit(self._numbers.standard_normal((passages, DIMENSION))))

    def queries(self, count: int) -> list[LegsQuery]:
        words = [" ".join(self._chance.sample(text.split(), 8)) for text in self._chance.sample(self._texts, count)]
        return [LegsQuery(text, "en", unit(self._numbers.standard_normal((1, DIMENSION))), ()) for text in words]


@contextmanager
def opened(url: str) -> Iterator[ElasticIndex]:
    settings = load_settings(stack="served", elasticsearch_url=url, index_name=f"bench-{uuid.uuid4().hex[:8]}")
    fingerprint = Fingerprint(embedder="bench", weights="0" * 64, dimension=DIMENSION, languages=("en",))
    index = ElasticIndex(settings, fingerprint)
    index.load()
    try:
        yield index
    finally:
        index.remove()


def put(index: ElasticIndex, writes: Sequence[DocumentWrite]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    assert not any(result.error for result in index.put(writes))
    return time.perf_counter() - begun


def bare(query: LegsQuery, searched: str, languages: Sequence[str], spare: int) -> list[dict[str, Any]]:
    """The bodies as they were without veils; `version` stays, because the hits are read as always."""
    header = {"index": searched, "allow_partial_search_results": False}
    bodies = (bm25_body(query, languages), dense_body(query))
    return [line for body in bodies for line in (header, body | {"version": True})]


def searches(material: Material, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with opened(options.elasticsearch_url) as index:
        for start in range(0, options.passages // 10, BATCH_DOCUMENTS):
            put(index, [material.write(f"d{start + n}", 10) for n in range(BATCH_DOCUMENTS)])
        client, layout = index._open()
        client.options(request_timeout=600).indices.forcemerge(index=layout.passages, max_num_segments=1)
        queries, bulk = material.queries(options.questions), index._target().bulk()
        as_they_are = queries_module.msearch
        for veils in (0, 1, 4):
            drawn = [Veil(bulk, layout.write_passages) for _ in range(veils)]
            for veil in drawn:
                assert not veil.draw(Hidden(f"other{n}", 1, 10**9) for n in range(BATCH_DOCUMENTS))
            index.flush()
            times: dict[str, list[float]] = {"bare": [], "product": []}
            for number in range(options.rounds * len(queries)):
                for name, way in (("bare", bare), ("product", as_they_are))[:: 1 if number % 2 else -1]:
                    with mock.patch.object(elastic, "msearch", way):
                        begun = time.perf_counter()
                        index.legs(queries[number % len(queries)])
                        times[name].append((time.perf_counter() - begun) * 1e3)
            for veil in drawn:
                assert not veil.draw([])
            medians = {name: statistics.median(found) for name, found in times.items()}
            told = {f"{name}_p50_ms": round(value, 2) for name, value in medians.items()}
            yield {"searches beside loads": veils} | told | {"ratio": round(medians["product"] / medians["bare"], 3)}


def loads(material: Material, passages: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Batch by batch, in turns, into two indices; what is told of are medians over batches."""
    ways: dict[str, Any] = {
        "in_place": mock.patch.object(Change, "simple", property(lambda _: True)),
        "product": mock.patch.object(Change, "simple", Change.simple),
    }
    with opened(options.elasticsearch_url) as one, opened(options.elasticsearch_url) as two:
        indices = {"in_place": one, "product": two}
        for kind in ("new", "replaced"):
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for batch in range(options.batches):
                writes = [material.write(f"d{batch}-{n}", passages) for n in range(BATCH_DOCUMENTS)]
                for name in list(ways)[:: 1 if batch % 2 else -1]:
                    with ways[name]:
                        seconds[name].append(put(indices[name], writes))
            rates = {name: round(BATCH_DOCUMENTS / statistics.median(found)) for name, found in seconds.items()}
            ratio = statistics.median(np.divide(seconds["in_place"], seconds["product"]).tolist())
            yield {"load": kind, "passages_each": passages, "documents_per_second": rates, "ratio": round(ratio, 3)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="?", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--passages", type=int, default=20_000, help="that are searched")
    parser.add_argument("--batches", type=int, default=20, help="of each load")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("searches", "loads"))
    options = parser.parse_args()
    if not options.corpora.is_dir():
        print(f"skipped: there are no test collections in {options.corpora}", file=sys.stderr)
        return 0
    options.elasticsearch_url = options.elasticsearch_url or load_settings().elasticsearch_url
    material = Material(options.corpora)
    told = [] if options.only == "loads" else [searches(material, options)]
    told += [] if options.only == "searches" else [loads(material, passages, options) for passages in (1, 2, 10)]
    for figures in chain.from_iterable(told):
        print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
