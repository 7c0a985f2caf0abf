"""What a smaller vector index costs: recall of the dense leg against exact search, its time, and its bytes.

    python bench/vectors.py ../shared/corpora --elasticsearch-url http://127.0.0.1:9200 --cache build/quality

All documents of the collections go into one index for each kind and stack, with the vectors of the packaged embedder;
up to `--questions` of each collection are searched by the dense leg, as the product asks for it. Recall is the share of
the truly nearest passages, by an exact comparison in NumPy, that are found. LanceDB compares exactly below 50,000
passages, whatever is set, so its index is forced here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from citewell.config import Settings, load_settings
from citewell.engine import Engine, build
from citewell.evaluate.collection import from_folder
from citewell.index import lance
from citewell.ingest.sources import Item, Known, Limits, open_source
from citewell.ports import LegsQuery, Vectors
from citewell.records import Document

KINDS = ("flat", "int8_hnsw", "bbq_hnsw")
COLLECTIONS = (
    "squad1-en-dev squad2-en-dev pubmedqa-en musique-en-mini pyfaq-en squad1-es-dev pyfaq-es jaquad-ja-dev pyfaq-ja "
    "parakqc-ko pyfaq-ko"
).split()
DEPTHS = (10, 100)


def items(corpora: Path, limits: Limits) -> Iterator[Item]:
    """Every document under an id of its collection's own."""
    for name in COLLECTIONS:
        for item in open_source(str(corpora / name), limits).items(Known(), lambda _: None):
            yield item.model_copy(update={"id": f"{name}:{item.id}"}) if isinstance(item, Document) else item


def stored(engine: Engine) -> tuple[list[str], Vectors]:
    """Every passage's id and vector, read from the embedded exact index."""
    table: Any = engine.library.index()._passages  # type: ignore[attr-defined]
    columns = table.search().select(["id", "vector"]).limit(table.count_rows()).to_arrow()
    return columns["id"].to_pylist(), np.stack(columns["vector"].to_numpy(zero_copy_only=False))


def nearest(ids: list[str], vectors: Vectors, questions: Vectors) -> list[list[str]]:
    """Ids of the truly nearest passages of each question."""
    scores = questions @ vectors.T
    best = np.argsort(-scores, axis=1)[:, : max(DEPTHS)]
    return [[ids[column] for column in row] for row in best]


def measured(engine: Engine, questions: Vectors, truth: list[list[str]]) -> dict[str, float]:
    index, times = engine.library.index(), []
    shares: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    for vector, best in zip(questions, truth, strict=True):
        begun = time.perf_counter()
        found = index.legs(LegsQuery("", "en", vector[None], None, ("dense",), max(DEPTHS))).ranked["dense"]
        times.append(time.perf_counter() - begun)
        for depth in DEPTHS:
            shares[depth].append(len({key for key, _ in found[:depth]} & set(best[:depth])) / depth)
    means = {f"recall@{depth}": statistics.mean(shares[depth]) for depth in DEPTHS}
    return means | {"p50_ms": statistics.median(times) * 1e3}


def size_mb(settings: Settings, name: str) -> float:
    if settings.stack == "embedded":
        folder = settings.data_dir / f"{settings.index_name}.lancedb" / "passages.lance"
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    httpx.post(f"{settings.elasticsearch_url}/{name}/_forcemerge?max_num_segments=1", timeout=600).raise_for_status()
    stats = httpx.get(f"{settings.elasticsearch_url}/{name}/_stats/store").json()
    return float(stats["_all"]["primaries"]["store"]["size_in_bytes"]) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="?", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--cache", type=Path, default=Path("build/quality"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.corpora.is_dir():
        print(f"skipped: there are no test collections in {options.corpora}", file=sys.stderr)
        return 0
    url = options.elasticsearch_url or load_settings().elasticsearch_url
    limits = Limits.of(load_settings())
    asked = [
        q.text for name in COLLECTIONS for q in from_folder(options.corpora / name, limit=options.questions).questions
    ]
    lance.VECTOR_INDEX_ROWS = 1000
    truth: list[list[str]] = []
    kept: dict[str, Any] = {}
    print("| stack | kind | passages | recall@10 | recall@100 | dense leg p50 | passages on disk |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for stack in ("embedded", "served"):
        for kind in KINDS:
            settings = load_settings(
                stack=stack,
                data_dir=options.cache,
                embed_cache=True,
                index_name=f"bench-{uuid.uuid4().hex[:8]}",
                elasticsearch_url=url,
                vector_index=kind,
            )
            with build(settings, "ingest") as engine:
                try:
                    for outcome in engine.put(items(options.corpora, limits)):
                        if outcome.status == "failed":
                            raise SystemExit(f"{outcome.doc_id}: {outcome.reason}")
                    questions = engine.embedder.embed_queries(asked)
                    if not truth:
                        truth = nearest(*stored(engine), questions)
                    megabytes = size_mb(settings, engine.library.index().version)
                    found = measured(engine, questions, truth)
                    found |= {"passages": engine.check()["index"]["passages"], "mb": megabytes}
                finally:
                    engine.library.remove()
            kept[f"{stack} {kind}"] = found
            recalls = " | ".join(f"{found[f'recall@{depth}']:.4f}" for depth in DEPTHS)
            cells = f"{found['passages']:,} | {recalls} | {found['p50_ms']:.1f} ms | {megabytes:.0f} MB"
            print(f"| {stack} | {kind} | {cells} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
