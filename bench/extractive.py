"""How the extractive generator's weights and thresholds were chosen.

    python bench/extractive.py ../shared/corpora/squad1-en-train --weights 0,0.3,0.5,0.6,0.7
    python bench/extractive.py ../shared/corpora/jaquad-ja-train ../shared/corpora/korquad1-ko … --weights 0

Each question is given the six passages that share most of its words among the set's first ones. It is scored twice:
with them, and with the relevant passages taken out (then any answer is wrong). Printed are, for each weight of the
cosine, how often the best sentence holds the gold answer, and, for each threshold, the share of answerable questions
answered rightly / the share of unanswerable ones refused. Use training sets, not those that a report is made on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from citewell.config import load_settings
from citewell.embed.sentence import SentenceTransformerEmbedder
from citewell.generate import extractive
from citewell.records import Hit, Passage
from citewell.text import terms


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def relevant(folder: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in (folder / "qrels").glob("*.tsv.gz"):
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in list(lines)[1:]:
                query, doc, _ = line.rstrip("\n").split("\t")
                found.setdefault(query, set()).add(doc)
    return found


Views = tuple[list[extractive.Candidate], Any, Any]


def views(
    generator: extractive.ExtractiveGenerator, question: dict[str, Any], hits: Sequence[Hit], dense: bool
) -> Views:
    """Candidates with both views of them, computed once for all weights."""
    text, lang = question["text"], question["lang"]
    group = extractive.candidates(hits, lang)
    lexical = extractive.overlap(text, group, lang)
    return group, lexical, generator.cosine(text, group, lexical) if dense else np.zeros(len(group))


def best(view: Views, weight: float) -> tuple[str, float]:
    ranked = extractive.join(*view, weight)
    return (ranked[0].text, ranked[0].score) if ranked else ("", 0.0)


def measure(folder: Path, documents: int, questions: int, weights: list[float]) -> None:
    gold = relevant(folder)
    corpus = [row for row, _ in zip(rows(folder / "corpus.jsonl.gz"), range(documents), strict=False)]
    held = {row["_id"] for row in corpus}
    asked = [q for q in rows(folder / "queries.jsonl.gz") if q.get("answers") and gold.get(q["_id"], set()) & held]
    asked = asked[:: max(1, len(asked) // questions)][:questions]
    passages = [passage_of(row) for row in corpus]
    words = [set(terms(f"{p.title} {p.text}", p.lang)) for p in passages]
    generator = extractive.ExtractiveGenerator(SentenceTransformerEmbedder(load_settings()))
    print(f"\n{folder.name}: {len(corpus)} passages, {len(asked)} questions")
    scored = []
    for q in asked:
        shares = _share(q["text"], words, q["lang"])
        order = np.argsort(-shares, kind="stable")[:6]
        hits = [Hit(passage=passages[i], rank=n, score=float(shares[i])) for n, i in enumerate(order, start=1)]
        rest = [h for h in hits if h.passage.doc_id not in gold[q["_id"]]][:5]
        dense = any(weights)
        scored.append((q["answers"], views(generator, q, hits[:5], dense), views(generator, q, rest, dense)))
    for weight in weights:
        report(scored, weight)


def _share(question: str, words: list[set[str]], lang: str) -> Any:
    """How much of the question each passage holds, rare words counting more."""
    wanted = set(terms(question, lang))
    seen = {w: sum(w in bag for bag in words) for w in wanted}
    return np.array([sum(math.log(1 + len(words) / (0.5 + seen[w])) for w in bag & wanted) for bag in words])


def passage_of(row: dict[str, Any]) -> Passage:
    fields = {"title": row["title"], "text": row["text"], "lang": row["lang"]}
    return Passage(id=row["_id"], doc_id=row["_id"], ordinal=0, start=0, end=len(row["text"]), **fields)


def report(scored: list[tuple[list[str], Views, Views]], weight: float) -> None:
    right: list[tuple[bool, float]] = []
    wrong: list[float] = []
    for answers, with_gold, without in scored:
        text, score = best(with_gold, weight)
        right.append((any(a in text for a in answers), score))
        wrong.append(best(without, weight)[1])
    line = f"  dense {weight:.1f}: best sentence holds the answer {sum(r for r, _ in right) / len(right):.3f};"
    for cut in [x / 100 for x in range(26, 72, 4)]:
        kept = sum(r and s >= cut for r, s in right) / len(right)
        refused = sum(s < cut for s in wrong) / len(wrong)
        line += f"  {cut:.2f}: {kept:.2f}/{refused:.2f}"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--documents", type=int, default=800)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--weights", default="0.0,0.3,0.5,0.6,0.7")
    args = parser.parse_args()
    for folder in args.sets:
        measure(folder, args.documents, args.questions, [float(w) for w in args.weights.split(",")])


if __name__ == "__main__":
    main()
