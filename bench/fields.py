"""Which weights of the BM25 fields rank best, and how much of the dense leg fusion wants: the figures of docs/LOG.md.

    python bench/fields.py ../shared/corpora --elasticsearch-url http://127.0.0.1:9200

Each test collection is a folder with `corpus.jsonl.gz` ({"_id", "title", "text"}), `queries.jsonl.gz` ({"_id", "text"})
and `qrels/SPLIT.tsv.gz`. Every document is one passage. Without `--elasticsearch-url` only LanceDB is measured.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch

from citewell.config import load_settings
from citewell.embed.sentence import SentenceTransformerEmbedder
from citewell.fuse import Ranked, minmax
from citewell.index import queries
from citewell.index.elastic import ElasticIndex
from citewell.index.lance import LanceIndex
from citewell.language import detect
from citewell.ports import DocumentWrite, Index, LegsQuery
from citewell.records import Fingerprint, LedgerEntry, Leg, Passage

# Collection, language, split, documents taken.
COLLECTIONS = (
    ("squad1-en-train", "en", "train", 3000),
    ("pyfaq-es", "es", "test", 100_000),
    ("jaquad-ja-train", "ja", "train", 3000),
    ("pyfaq-ko", "ko", "test", 100_000),
)
STANDARD = (0.0, 0.3, 0.5, 1.0, 2.0)
TITLE = (1.0, 1.5, 2.0)
ALPHAS = [step / 10 for step in range(11)]
FINGERPRINT = Fingerprint(embedder="none", weights="none", dimension=2, languages=("en", "es", "ja", "ko"))
# By question: (document id, score), best first.
Legs = dict[str, list[tuple[str, float]]]


@dataclass(frozen=True)
class Collection:
    name: str
    lang: str
    passages: list[Passage]
    questions: list[tuple[str, str]]
    relevant: dict[str, set[str]]


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def read(folder: Path, lang: str, split: str, limit: int, questions: int) -> Collection:
    """The first `limit` documents, and `questions` judged questions spread evenly over those that they answer."""
    passages = [
        Passage(
            id=f"{row['_id']}#0",
            doc_id=row["_id"],
            ordinal=0,
            start=0,
            end=len(row["text"]),
            text=row["text"],
            title=row.get("title", ""),
            lang=lang,
        )
        for row in itertools.islice(rows(folder / "corpus.jsonl.gz"), limit)
    ]
    known = {passage.doc_id for passage in passages}
    relevant: dict[str, set[str]] = {}
    with gzip.open(folder / "qrels" / f"{split}.tsv.gz", "rt", encoding="utf-8") as lines:
        for question, document, grade in (line.split("\t") for line in itertools.islice(lines, 1, None)):
            if float(grade) > 0:
                relevant.setdefault(question, set()).add(document)
    judged = {question: found for question, found in relevant.items() if found <= known}
    asked = [(row["_id"], row["text"]) for row in rows(folder / "queries.jsonl.gz") if row["_id"] in judged]
    step = max(1, len(asked) // questions)
    return Collection(folder.name, lang, passages, asked[::step][:questions], judged)


def measures(collection: Collection, rank: Callable[[str], Sequence[str]]) -> tuple[float, float]:
    """Mean nDCG@10 and recall@10 of a function from question to ranked document ids; judgements are binary."""
    gains, recalls = [], []
    for key, text in collection.questions:
        wanted = collection.relevant[key]
        ranks = [rank_ for rank_, doc_id in enumerate(rank(text)[:10]) if doc_id in wanted]
        ideal = sum(1 / math.log2(rank_ + 2) for rank_ in range(min(10, len(wanted))))
        gains.append(sum(1 / math.log2(rank_ + 2) for rank_ in ranks) / ideal)
        recalls.append(len(ranks) / len(wanted))
    return sum(gains) / len(gains), sum(recalls) / len(recalls)


def fill(index: Index, passages: Sequence[Passage]) -> None:
    vector = np.array([[1.0, 0.0]], dtype=np.float32)
    for start in range(0, len(passages), 500):
        writes = [
            DocumentWrite(LedgerEntry(doc_id=p.doc_id, content_hash="x", passages=1), (p,), vector)
            for p in passages[start : start + 500]
        ]
        failed = [result.error for result in index.put(writes) if result.error]
        if failed:
            raise SystemExit(failed[0])
    index.flush()


def bm25(index: Index, text: str, lang: str, depth: int = 10) -> list[tuple[str, float]]:
    """(document id, score) of the BM25 leg."""
    ranked = index.legs(LegsQuery(text, lang, None, None, ("bm25",), depth)).ranked["bm25"]
    return [(passage_id.rpartition("#")[0], score) for passage_id, score in ranked]


def report(what: str, collection: Collection, rank: Callable[[str], Sequence[str]]) -> None:
    ndcg, recall = measures(collection, rank)
    print(f"| {collection.name} | {what} | {ndcg:.4f} | {recall:.4f} |", flush=True)


def weigh(index: Index, collection: Collection, backend: str, titles: Sequence[float]) -> None:
    """The grid of weights; both live in `citewell.index.queries`, and are put back."""
    kept = queries.STANDARD_WEIGHT, queries.TITLE_WEIGHT

    def rank(text: str, lang: str = collection.lang) -> list[str]:
        return [doc_id for doc_id, _ in bm25(index, text, lang)]

    for title, standard in itertools.product(titles, STANDARD):
        queries.TITLE_WEIGHT, queries.STANDARD_WEIGHT = title, standard
        report(f"{backend} title {title:g} standard {standard:g}", collection, rank)
    queries.STANDARD_WEIGHT, queries.TITLE_WEIGHT = kept
    report(f"{backend} words as they stand alone", collection, lambda text: rank(text, ""))
    detected = {text: detect(text, collection.lang) for _, text in collection.questions}
    wrong = sum(lang != collection.lang for lang in detected.values())
    report(f"{backend} detected language ({wrong} wrong)", collection, lambda text: rank(text, detected[text]))


def title_times(passages: Iterable[Passage], times: int) -> list[Passage]:
    """LanceDB has title and text in one column, so a title weighs by how often it is there."""
    return [p.model_copy(update={"title": "\n".join([p.title] * times) if p.title else ""}) for p in passages]


def fuse_legs(words: dict[str, Legs], collection: Collection) -> None:
    """Alpha in steps of a tenth, both depths, with the title embedded or not. `words`: BM25 legs by backend."""
    embedder = SentenceTransformerEmbedder(load_settings())
    embedder.load()
    ids = [passage.doc_id for passage in collection.passages]
    asked = embedder.embed_queries([text for _, text in collection.questions])
    texts = {"title+text": [f"{p.title}\n{p.text}" for p in collection.passages]}
    texts["text"] = [p.text for p in collection.passages]
    for name, inputs in texts.items():
        cosines = asked @ embedder.embed_passages(inputs).T
        dense = {
            text: [(ids[place], float(row[place])) for place in np.argsort(-row)[:100]]
            for (_, text), row in zip(collection.questions, cosines, strict=True)
        }
        for backend, depth, alpha in itertools.product(words, (50, 100), ALPHAS):
            sparse = words[backend]

            def rank(
                text: str, sparse: Legs = sparse, dense: Legs = dense, depth: int = depth, alpha: float = alpha
            ) -> list[str]:
                legs: dict[Leg, Ranked] = {"bm25": sparse[text][:depth], "dense": dense[text][:depth]}
                return [item.key for item in minmax(legs, alpha)]

            report(f"{backend}, dense of {name}, depth {depth}, alpha {alpha:g}", collection, rank)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="?", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--only", default="", help="one collection, by name")
    parser.add_argument("--fusion", action="store_true", help="the dense leg and alpha, instead of the field weights")
    options = parser.parse_args()
    if not options.corpora.is_dir():
        print(f"skipped: there are no test collections in {options.corpora}", file=sys.stderr)
        return 0
    print("| collection | setting | nDCG@10 | recall@10 |\n| --- | --- | ---: | ---: |")
    for name, lang, split, limit in COLLECTIONS:
        if options.only in ("", name):
            measure(read(options.corpora / name, lang, split, limit, options.questions), options)
    return 0


def measure(collection: Collection, options: argparse.Namespace) -> None:
    words: dict[str, Legs] = {}

    def use(index: Index, backend: str, titles: Sequence[float]) -> None:
        if options.fusion:
            words[backend] = {text: bm25(index, text, collection.lang, 100) for _, text in collection.questions}
        else:
            weigh(index, collection, backend, titles)

    with tempfile.TemporaryDirectory() as folder:
        for times in (1,) if options.fusion else (0, 1, 2):
            index = LanceIndex(load_settings(data_dir=Path(folder) / str(times)), FINGERPRINT)
            index.load()
            fill(index, title_times(collection.passages, times))
            use(index, "lancedb", [float(times)])
            index.close()
    if options.elasticsearch_url:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        served = ElasticIndex(load_settings(elasticsearch_url=options.elasticsearch_url, index_name=name), FINGERPRINT)
        served.load()
        try:
            fill(served, collection.passages)
            use(served, "elasticsearch", TITLE)
        finally:
            served.close()
            with Elasticsearch(options.elasticsearch_url) as client:
                client.indices.delete(index=[f"{name}-000001", f"{name}-000001-documents"])
    if options.fusion:
        fuse_legs(words, collection)


if __name__ == "__main__":
    sys.exit(main())
