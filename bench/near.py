"""How often a near question has the same answer: precision of the semantic cache by threshold, with and without guard.

    python bench/near.py ../shared/corpora [--questions 3000]

Every question is asked of a cache that holds all others of its collection. The nearest that passes is right when it
has the same answer at the same place (SQuAD's kind), or is another wording of the same intent (ParaKQC). The other
questions of one passage are hard negatives: they share its words and differ in what they ask.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from citewell import parts
from citewell.config import Settings
from citewell.near import agree

SETS = ("squad1-en-dev", "squad1-es-dev", "jaquad-ja-dev", "korquad1-ko", "parakqc-ko")
THRESHOLDS = (0.85, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98)
NEAREST = 20


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def questions(folder: Path, limit: int) -> tuple[str, list[tuple[str, Hashable]]]:
    """The language, and questions with what tells their answers apart."""
    if folder.name == "parakqc-ko":  # the corpus holds the other nine wordings of each query
        with gzip.open(folder / "qrels" / "test.tsv.gz", "rt", encoding="utf-8") as file:
            intent = {doc: query for query, doc, *_ in (row.rstrip("\n").split("\t") for row in list(file)[1:])}
        queries = [(row["text"], row["_id"]) for row in lines(folder / "queries.jsonl.gz")]
        wordings = [
            (row["text"], intent[row["_id"]]) for row in lines(folder / "corpus.jsonl.gz") if row["_id"] in intent
        ]
        return "ko", [*queries, *wordings][:: max(1, (len(queries) + len(wordings)) // limit)]
    with gzip.open(folder / "qrels" / "test.tsv.gz", "rt", encoding="utf-8") as file:
        place = {query: doc for query, doc, *_ in (row.rstrip("\n").split("\t") for row in list(file)[1:])}
    rows = [row for row in lines(folder / "queries.jsonl.gz") if row["_id"] in place and row.get("answers")]
    kept = rows[:limit]  # neighbours in the file are of the same passage
    return kept[0]["lang"], [(row["text"], (place[row["_id"]], row["answers"][0])) for row in kept]


def measure(name: str, folder: Path, embedder: Any, limit: int) -> None:
    lang, asked = questions(folder, limit)
    vectors = embedder.embed_queries([text for text, _ in asked])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    order = np.argsort(-cosines, axis=1)[:, :NEAREST]
    for guarded in (False, True):
        for threshold in THRESHOLDS:
            served = right = 0
            for row, nearest in enumerate(order):
                for other in nearest:
                    if cosines[row, other] < threshold:
                        break
                    if not guarded or agree(asked[row][0], asked[other][0], lang):
                        served += 1
                        right += asked[row][1] == asked[other][1]
                        break
            share = f"{right / served:.3f}" if served else "-"
            guard = "guard" if guarded else "plain"
            print(
                f"| {name} | {lang} | {len(asked)} | {guard} | {threshold} | {served} | {right} | {share} |", flush=True
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpora", type=Path)
    parser.add_argument("--questions", type=int, default=3000)
    given = parser.parse_args()
    embedder = parts.embedder(Settings())
    embedder.load()
    print("| collection | language | questions | | threshold | served | right | precision |")
    for name in SETS:
        measure(name, given.corpora / name, embedder, given.questions)


if __name__ == "__main__":
    main()
