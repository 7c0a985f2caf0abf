"""What bfloat16 costs in quality: nDCG@10 of exact cosines with float32's vectors and with bfloat16's.

    python bench/precision.py ../shared/corpora/squad1-en-dev --questions 600 --json bench/precision.json

One relevant passage a question, so that the ideal gain is 1 and nDCG@10 is 1 / log2(1 + rank) within the first ten.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from citewell.config import load_settings
from citewell.embed.sentence import SentenceTransformerEmbedder
from citewell.evaluate.collection import from_folder
from citewell.ingest.sources import Known, Limits, open_source
from citewell.ports import Vectors
from citewell.records import Document


def embedded(dtype: str, passages: list[str], questions: list[str]) -> tuple[Vectors, Vectors, float]:
    """Vectors of both, and passages a second."""
    embedder = SentenceTransformerEmbedder(load_settings(embedder_dtype=dtype))
    embedder.load()
    embedder.embed_passages(passages[:64])
    begun = time.perf_counter()
    vectors = embedder.embed_passages(passages)
    rate = len(passages) / (time.perf_counter() - begun)
    asked = embedder.embed_queries(questions)
    embedder.close()
    return vectors, asked, rate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/corpora/squad1-en-dev"))
    parser.add_argument("--documents", type=int, default=0, help="the first ones; 0 is all")
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.folder.is_dir():
        print(f"skipped: there is no test collection in {options.folder}", file=sys.stderr)
        return 0
    collection = from_folder(options.folder)
    limits = Limits.of(load_settings())
    documents = [
        item
        for item in open_source(str(options.folder), limits).items(Known(), lambda _: None)
        if isinstance(item, Document)
    ][: options.documents or None]
    places = {document.id: number for number, document in enumerate(documents)}
    asked_of = [question for question in collection.questions if next(iter(question.relevant)) in places]
    questions = asked_of[:: max(1, len(asked_of) // options.questions)][: options.questions]
    relevant = np.array([places[next(iter(question.relevant))] for question in questions])
    found: dict[str, dict[str, float]] = {}
    first: Vectors | None = None
    for dtype in ("float32", "bfloat16"):
        passages = [f"{document.title}\n{document.text}" for document in documents]
        vectors, asked, rate = embedded(dtype, passages, [question.text for question in questions])
        scores = asked @ vectors.T
        ranks = 1 + (scores > scores[np.arange(len(questions)), relevant][:, None]).sum(axis=1)
        gains = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)
        first = vectors if first is None else first
        cosine = float((first * vectors).sum(axis=1).mean())
        found[dtype] = {
            "nDCG@10": round(float(gains.mean()), 4),
            "passages_per_second": round(rate, 1),
            "cosine": round(cosine, 6),
        }
        print(dtype, json.dumps(found[dtype]), flush=True)
    if options.json:
        kept = {"date": time.strftime("%Y-%m-%d"), "documents": len(documents), "questions": len(questions), **found}
        options.json.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
