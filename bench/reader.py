"""The reader's figures of docs/quality.md, and how the weight of a passage's rank was chosen.

    python bench/reader.py gold ../shared/corpora/squad1-en-dev ../shared/corpora/squad2-en-dev …
    python bench/reader.py retrieved ../shared/corpora/squad1-en-dev --questions 1500
    python bench/reader.py weights ../shared/corpora/squad1-en-train --questions 600
    python bench/reader.py cost ../shared/corpora/squad1-en-dev

`gold` gives each question its own passage; `retrieved` loads the set into an embedded stack and asks as the product
does, `k` passages as evidence. Both measure the reader's words, and the whole answers that are given with a reader and
by ranking sentences: `holds` is the share with a right answer in them. `weights` uses what the reader's training held
back of its set, among a part of the other passages, and tells for each weight the F1, and for each threshold what is
answered rightly and what is rightly refused once the passages that answer are taken out. `cost` times a reading in each
precision. `--reader` is a folder; else the packaged one.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from citewell import parts
from citewell.cli.logs import for_a_person
from citewell.config import Settings, load_settings
from citewell.embed.sentence import packaged_folder
from citewell.engine import Engine, build
from citewell.evaluate.overlap import exact_match, f1, holds
from citewell.generate import extractive
from citewell.generate.reader import PACKAGED_READER, Reader
from citewell.records import Document, Evidence, Hit, Job, Passage, Question
from citewell.train.marked import Marked, MarkedSet, Text, read_set
from citewell.train.reader import Plan, best_threshold, parts_of

_OTHERS = 8


@dataclass
class Tally:
    """What was said to each question, by one way of answering."""

    questions: list[Marked]
    said: list[str]
    scores: list[float]

    def row(self, threshold: float) -> dict[str, float]:
        """Means in percent, over the answerable questions without a refusal, and over all with refusals."""
        has = np.array([bool(q.answers) for q in self.questions])
        em, shared, held = (
            np.array([measure(said, q.answers, q.lang) for q, said in zip(self.questions, self.said, strict=True)])
            for measure in (exact_match, f1, holds)
        )
        scores = np.array(self.scores)
        answered = scores >= threshold
        cut, best = best_threshold(scores, np.where(has, shared, 0.0), has)
        return {
            "questions": len(has),
            "EM": _percent(em[has]),
            "F1": _percent(shared[has]),
            "holds": _percent(held[has]),
            "holds, refusals counted": _percent(np.where(answered, held, 0.0)[has]),
            "F1, refusals counted": _percent(np.where(answered, shared, 0.0)[has]),
            "rightly refused": _percent(~answered[~has]),
            "F1 of both": _percent(np.where(has, np.where(answered, shared, 0.0), ~answered)),
            "best F1 of both": round(100 * best, 2),
            "at": round(cut, 3),
        }


def _percent(values: Any) -> float:
    return round(100 * float(np.mean(values)), 2) if len(values) else math.nan


def spread(questions: Sequence[Marked], most: int) -> list[Marked]:
    return list(questions[:: max(1, len(questions) // most)][:most]) if most else list(questions)


def hit_of(text: Text, lang: str, rank: int = 1) -> Hit:
    fields = {"title": text.title, "text": text.text, "lang": lang}
    passage = Passage(id=text.id, doc_id=text.id, ordinal=0, start=0, end=len(text.text), **fields)
    return Hit(passage=passage, rank=rank, score=1.0)


def by_reader(reader: Reader, question: Marked, hits: Sequence[Hit]) -> tuple[str, float]:
    found = extractive.spotted(reader, question.text, hits)
    return (found[0].text, found[0].sure) if found else ("", -math.inf)


def as_answered(generator: extractive.ExtractiveGenerator, question: Marked, hits: Sequence[Hit]) -> tuple[str, float]:
    """The whole answer that would be given, and how far its score is above the threshold."""
    asked = Question(text=question.text, lang=question.lang)
    found = generator.attempt(Job(answer_id="bench", question=asked, evidence=Evidence(hits=tuple(hits))))
    return found.text, found.score - found.threshold


Ways = dict[str, tuple[Callable[[Marked, Sequence[Hit]], tuple[str, float]], float]]


def ways(settings: Settings, folder: Path) -> Ways:
    """Each way of answering, and the score from which on it answers."""
    reader = Reader(folder, packaged_folder(), settings.device)
    embedder = parts.embedder(settings)
    reading, ranking = extractive.ExtractiveGenerator(embedder, reader), extractive.ExtractiveGenerator(embedder)
    return {
        "reader, its words": (lambda q, hits: by_reader(reader, q, hits), reader.threshold),
        "reader, as answered": (lambda q, hits: as_answered(reading, q, hits), 0.0),
        "ranking, as answered": (lambda q, hits: as_answered(ranking, q, hits), 0.0),
    }


def gold(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder in options.sets:
        given = read_set(folder)
        questions = spread(given.questions, options.questions)
        for name, (way, threshold) in ways(load_settings(), options.reader).items():
            tally = Tally(questions, [], [])
            for question in questions:
                passage = question.spans[0].passage if question.spans else question.passages[0]
                said, score = way(question, [hit_of(given.texts[passage], question.lang)])
                tally.said.append(said)
                tally.scores.append(score)
            found[f"{folder.name} gold {name}"] = tally.row(threshold)
    return found


@contextmanager
def asked(documents: Sequence[Document], reader: Path) -> Iterator[Engine]:
    """An embedded stack of its own with these documents."""
    with tempfile.TemporaryDirectory() as name:
        index = f"bench-{uuid.uuid4().hex[:8]}"
        settings = load_settings(data_dir=Path(name), index_name=index, cache="none", reader=str(reader))
        with build(settings, "all") as engine:
            failed = [outcome for outcome in engine.put(documents) if outcome.status == "failed"]
            if failed:
                raise SystemExit(f"{failed[0].doc_id}: {failed[0].reason}")
            yield engine


def documents_of(given: MarkedSet, keep: Callable[[int, Text], bool] = lambda _n, _text: True) -> list[Document]:
    lang = given.questions[0].lang
    kept = [text for n, text in enumerate(given.texts.values()) if keep(n, text)]
    return [Document(id=text.id, title=text.title, text=text.text, lang=lang) for text in kept]


def retrieved(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for folder in options.sets:
        given = read_set(folder)
        questions = spread([q for q in given.questions if q.answers], options.questions)
        with asked(documents_of(given), options.reader) as engine:
            evidence = [engine.search(Question(text=q.text, lang=q.lang)) for q in questions]
            for name, (way, threshold) in ways(engine.settings, options.reader).items():
                tally = Tally(questions, [], [])
                for question, one in zip(questions, evidence, strict=True):
                    said, score = way(question, one.hits)
                    tally.said.append(said)
                    tally.scores.append(score)
                found[f"{folder.name} retrieved {name}"] = tally.row(threshold)
            right = [_right(q, one.hits) for q, one in zip(questions, evidence, strict=True)]
            found[f"{folder.name} evidence"] = {"holds the passage": _percent(np.array(right))}
            found[f"{folder.name} ask to answer"] = _asked_in(engine, questions[:200])
    return found


def _right(question: Marked, hits: Sequence[Hit]) -> bool:
    return any(hit.passage.doc_id in question.passages for hit in hits)


def _asked_in(engine: Engine, questions: Sequence[Marked]) -> dict[str, float]:
    """Milliseconds from the question to its final record, one after another; the first loads what is loaded lazily."""
    took = []
    for question in questions:
        started = time.perf_counter()
        answer = engine.ask(Question(text=question.text, lang=question.lang))
        took.append((time.perf_counter() - started) * 1000)
        assert answer.state == "done", answer.error
    rest = took[1:]
    return {
        "first ms": round(took[0], 1),
        "p50 ms": round(statistics.median(rest), 1),
        "p95 ms": round(float(np.quantile(rest, 0.95)), 1),
    }


def weights(options: argparse.Namespace) -> dict[str, Any]:
    (folder,) = options.sets
    given = read_set(folder)
    _, held = parts_of([given], [], Plan(dev_most=100_000))
    questions = spread(held, options.questions)
    own = {given.texts[p].title for q in held for p in q.passages}
    reader = Reader(options.reader, packaged_folder(), load_settings().device)
    rows: list[tuple[Marked, list[extractive.Spotted], list[extractive.Spotted]]] = []
    with asked(documents_of(given, lambda n, text: text.title in own or n % _OTHERS == 0), options.reader) as engine:
        for question in questions:
            hits = engine.search(Question(text=question.text, lang=question.lang, k=6)).hits
            without = [hit for hit in hits if hit.passage.doc_id not in question.passages][:5]
            rows.append(
                (question, extractive.spotted(reader, question.text, hits[:5], 0.0),
                 extractive.spotted(reader, question.text, without, 0.0))
            )  # fmt: skip
    found: dict[str, Any] = {}
    for weight in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0):
        best = [(q, _best(spans, weight), _best(others, weight)) for q, spans, others in rows]
        shared = np.array([f1(one.text if one else "", q.answers, q.lang) for q, one, _ in best])
        sure = np.array([one.sure if one else -1e4 for _, one, _ in best])
        wrong = np.array([one.sure if one else -1e4 for *_, one in best])
        found[f"weight {weight}"] = {"F1": _percent(shared)} | {
            f"{cut}": f"{_percent(np.where(sure >= cut, shared, 0)):.1f}/{_percent(wrong < cut):.1f}"
            for cut in (-6, -5, -4, -3, -2.5, -2, -1.5, -1, -0.7, -0.5)
        }
    return {"threshold of the training": round(reader.threshold, 3), "questions": len(rows), **found}


def _best(spans: Sequence[extractive.Spotted], weight: float) -> extractive.Spotted | None:
    return max(spans, key=lambda one: one.sure - weight * math.log(one.hit.rank), default=None)


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a reading of five passages, in each precision; interleaved rounds, medians."""
    import torch

    given = read_set(options.sets[0])
    questions = spread(given.questions, 60)
    texts = [(text.title, text.text) for text in list(given.texts.values())[:5]]
    made: dict[str, Reader] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("int8", torch.float32)):
        made[name] = reader = Reader(options.reader, packaged_folder(), "cpu")
        reader.load()
        assert reader._network is not None
        network: Any = reader._network.to(dtype)
        if name == "int8":
            quantize: Any = torch.ao.quantization.quantize_dynamic
            network = quantize(network, {torch.nn.Linear}, dtype=torch.qint8)
        reader._network = network
    took: dict[str, list[float]] = {name: [] for name in made}
    same: dict[str, list[bool]] = {name: [] for name in made}
    for question in questions:
        words = {}
        for name, reader in made.items():
            started = time.perf_counter()
            readings = reader.read(question.text, texts)
            took[name].append((time.perf_counter() - started) * 1000)
            words[name] = [(r.spans[0].start, r.spans[0].end) if r.spans else None for r in readings]
        for name in made:
            same[name].append(words[name] == words["float32"])
    return {
        name: {"ms": round(statistics.median(took[name]), 1), "same spans": _percent(np.array(same[name]))}
        for name in made
    } | {"bytes": sum(file.stat().st_size for file in options.reader.iterdir())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gold", "retrieved", "weights", "cost"))
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--questions", type=int, default=0, help="spread evenly over the set; 0 is all")
    parser.add_argument("--reader", type=Path, default=PACKAGED_READER)
    options = parser.parse_args()
    doing = {"gold": gold, "retrieved": retrieved, "weights": weights, "cost": cost}[options.what]
    with for_a_person():
        for name, row in doing(options).items():
            print(json.dumps({name: row}, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
