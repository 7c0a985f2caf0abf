"""The retrieval figures of docs/quality.md: every collection, every mode, both stacks.

    python bench/quality.py ../shared/corpora --elasticsearch-url http://127.0.0.1:9200 --cache build/quality
    CITEWELL_EMBEDDER=multilingual python bench/quality.py ../shared/corpora --stacks embedded

Each collection is loaded as the product loads it (split, embedded, indexed), then up to `--questions` judged questions,
spread evenly, are searched. The folder `--cache` keeps vectors of passages, so that a second run, and the second stack,
are quick.
Writes a Markdown table to stdout and, with `--json`, every figure with its interval, and those of each weight of the
dense leg by halves of the questions.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from citewell.config import load_settings
from citewell.engine import Engine, build
from citewell.evaluate.collection import Collection, from_folder
from citewell.evaluate.retrieval import documents, fetch, report
from citewell.evaluate.retrieval import measure as measured
from citewell.evaluate.tune import JudgedLegs, ndcg, tune
from citewell.fuse import Fusion
from citewell.retrieve import Plan

COLLECTIONS = (
    "squad1-en-dev squad2-en-dev pubmedqa-en musique-en-mini pyfaq-en squad1-es-dev squad2-es-dev pyfaq-es "
    "jaquad-ja-dev pyfaq-ja korquad1-ko parakqc-ko pyfaq-ko"
).split()
STACKS = ["embedded", "served"]
# Sets whose questions, in another language, are judged on a set's documents, too.
CROSS = {"pyfaq-en": ("pyfaq-es", "pyfaq-ja", "pyfaq-ko")}
MODES = ("bm25", "dense", "rrf", "minmax", "hybrid")


def spread(collection: Collection, most: int) -> Collection:
    step = max(1, len(collection.questions) // most)
    return replace(collection, questions=collection.questions[::step][:most])


def loaded(folder: Path, engine: Engine) -> None:
    failed = [outcome for outcome in engine.ingest([str(folder)]) if outcome.status == "failed"]
    if failed:
        raise SystemExit(f"{folder}: {failed[0].doc_id}: {failed[0].reason}")


def measure(folder: Path, stack: str, options: argparse.Namespace) -> dict[str, Any]:
    collection = spread(from_folder(folder), options.questions)
    settings = load_settings(
        stack=stack,
        data_dir=options.cache,
        embed_cache=True,
        index_name=f"bench-{uuid.uuid4().hex[:8]}",
        elasticsearch_url=options.elasticsearch_url,
    )
    with build(settings, "ingest") as engine:
        try:
            loaded(folder, engine)
            found = report(collection, [measured(engine, collection, MODES)])
            found["cross"] = {name: crossed(folder.parent / name, engine) for name in CROSS.get(folder.name, ())}
            fetched = fetch(engine, collection)
            present = engine.plan(fetched[0].legs.lang)
            legs = [replace(item.legs, lang=fetched[0].legs.lang) for item in fetched]
            choice = tune(legs, present)
            found["tuned"] = {"validated": choice.validated, "low": choice.low, "high": choice.high}
            found["alphas"] = by_alpha(legs)
            found["tuned"]["plan"] = choice.plan.fusion.describe() | {"depth": choice.plan.depth}
            found["top10"] = {
                item.question.id: documents(item.legs, engine.plan(item.legs.lang))[:10] for item in fetched
            }
        finally:
            engine.library.remove()
    return found


def crossed(folder: Path, engine: Engine) -> dict[str, float]:
    """Recall at 10 of each mode for questions of another language, on the documents that are loaded."""
    collection = from_folder(folder, "cross-en")
    figures = report(collection, [measured(engine, collection, ["bm25", "dense", "hybrid"])])["figures"]
    return {mode: round(langs["all"]["R@10"]["value"], 3) for mode, langs in figures.items()}


def by_alpha(legs: Sequence[JudgedLegs]) -> dict[str, list[float]]:
    """Mean nDCG@10 of `minmax` by the weight of the dense leg: of every other question, and of the rest."""
    plans = {f"{alpha:.2f}": Plan(Fusion("minmax", alpha), 100) for alpha in np.linspace(0, 1, 21)}
    halves = [[legs[n] for n in range(first, len(legs), 2)] for first in (0, 1)]
    return {
        name: [round(float(np.mean([ndcg(item, plan) for item in half])), 4) for half in halves]
        for name, plan in plans.items()
    }


def row(name: str, stack: str, found: dict[str, Any]) -> str:
    cells = [f"{found['figures'][mode]['all']['nDCG@10']['value']:.3f}" for mode in MODES]
    best = found["tuned"]["plan"]
    chosen = f"{best['method']} {best.get('alpha', best.get('k', ''))}".strip()
    recall = found["figures"]["hybrid"]["all"]["R@10"]["value"]
    figures = " | ".join([*cells, f"{found['tuned']['validated']:.3f}", f"{recall:.3f}"])
    return f"| {name} | {stack} | {found['questions']} | {figures} | {chosen}, {best['depth']} |"


def overlap(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Mean share of the ten first documents that both stacks have."""
    shares = [len(set(docs) & set(other["top10"][key])) / max(1, len(docs)) for key, docs in one["top10"].items()]
    return sum(shares) / len(shares)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="?", type=Path, default=Path("../shared/corpora"))
    parser.add_argument("--elasticsearch-url", default="")
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--cache", type=Path, default=Path("build/quality"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="one collection, by name")
    parser.add_argument("--stacks", nargs="+", choices=STACKS, default=STACKS)
    options = parser.parse_args()
    options.elasticsearch_url = options.elasticsearch_url or load_settings().elasticsearch_url
    if not options.corpora.is_dir():
        print(f"skipped: there are no test collections in {options.corpora}", file=sys.stderr)
        return 0
    print("| collection | stack | questions | bm25 | dense | rrf | minmax .5 | default | tuned | recall@10 | choice |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    kept: dict[str, Any] = {}
    for name in [name for name in COLLECTIONS if options.only in ("", name)]:
        for stack in options.stacks:
            kept[f"{name}/{stack}"] = found = measure(options.corpora / name, stack, options)
            print(row(name, stack, found), flush=True)
            for other, recalls in found["cross"].items():
                print(f"recall@10 of {other} on {name}: {recalls}", file=sys.stderr, flush=True)
        if len(options.stacks) == len(STACKS):
            shared = overlap(kept[f"{name}/embedded"], kept[f"{name}/served"])
            kept[f"{name}/overlap@10"] = round(shared, 3)
            print(f"overlap@10 of {name}: {shared:.3f}", file=sys.stderr, flush=True)
    if options.json:
        small = {key: value for key, value in kept.items() if not isinstance(value, dict) or value.pop("top10")}
        options.json.write_text(json.dumps(small, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
