"""Measuring: figures as trec_eval's, honest intervals, and files that say what is wrong with them."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from citewell.errors import BadInput
from citewell.evaluate import measures
from citewell.evaluate.collection import from_files, from_folder
from citewell.evaluate.measures import by_question, difference, mean
from citewell.evaluate.retrieval import fallen
from tests.judged import SHOP

RELEVANT = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}, "q3": {"d": 1, "e": 1, "f": 0}}
RUN = {"q1": ["b", "x", "a"], "q2": [], "q3": ["x", "d", "y", "f", "e"]}


def test_figures_are_trec_evals_by_hand() -> None:
    found = {name: values.tolist() for name, values in by_question(RUN, RELEVANT).items()}
    q1 = (1 + 2 / math.log2(4)) / (2 + 1 / math.log2(3))
    q3 = (1 / math.log2(3) + 1 / math.log2(6)) / (1 + 1 / math.log2(3))
    assert found["nDCG@10"] == pytest.approx([q1, 0, q3])
    assert found["R@5"] == pytest.approx([1, 0, 1])
    assert found["P@1"] == pytest.approx([1, 0, 0])
    assert found["P@5"] == pytest.approx([0.4, 0, 0.4])
    assert found["RR"] == pytest.approx([1, 0, 0.5])
    assert found["AP"] == pytest.approx([(1 + 2 / 3) / 2, 0, (1 / 2 + 2 / 5) / 2])


def test_a_question_without_results_counts() -> None:
    assert mean(by_question({"q1": ["a"]}, RELEVANT)["P@1"]).value == pytest.approx(1 / 3)
    assert by_question({}, RELEVANT)["nDCG@10"].tolist() == [0, 0, 0]


def test_intervals_hold_the_mean_and_shrink_with_questions() -> None:
    rng = np.random.default_rng(1)
    few, many = mean(rng.random(20)), mean(rng.random(2000))
    assert few.low < few.value < few.high
    assert many.high - many.low < (few.high - few.low) / 4
    assert mean(np.ones(5)) == mean(np.ones(5))


@pytest.mark.parametrize("at_once", [1, 700, 10**9])
def test_however_many_are_drawn_at_a_time_the_figures_are_the_same(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = np.random.default_rng(3).random((2, 60))
    before = mean(one), difference(one, other)
    monkeypatch.setattr(measures, "_AT_ONCE", at_once)
    assert (mean(one), difference(one, other)) == before


def test_the_paired_test_tells_chance_from_difference() -> None:
    rng = np.random.default_rng(2)
    base = rng.random(100)
    assert difference(base, base).p == 1.0
    assert difference(base + 0.2, base).p < 0.001
    assert difference(base + rng.normal(0, 0.3, 100), base).p > 0.01


def test_the_shop_is_read_as_it_is() -> None:
    collection = from_folder(SHOP)
    assert (len(collection.questions), collection.unjudged, collection.unknown) == (80, 20, 0)
    assert {question.lang for question in collection.questions} == {"en", "es", "ja", "ko"}
    assert len(from_folder(SHOP, limit=7).questions) == 7


def written(folder: Path, queries: str, qrels: str) -> tuple[Path, Path]:
    files = folder / "q.jsonl", folder / "qrels.tsv"
    files[0].write_text(queries, "utf-8")
    files[1].write_text(qrels, "utf-8")
    return files


@pytest.mark.parametrize(
    ("queries", "qrels"),
    [
        ('{"_id": "1", "text": "What?"}\n', "query-id\tcorpus-id\tscore\n1\td\t1\n"),
        ('{"id": 1, "text": "What?", "answers": []}\n\n', "1\td\t1\n"),
        ("1\tWhat?\n", "1 0 d 1\n2 0 d 1\n"),
    ],
)
def test_the_usual_layouts_are_read(tmp_path: Path, queries: str, qrels: str) -> None:
    collection = from_files(*written(tmp_path, queries, qrels))
    assert [(q.id, q.text, q.relevant) for q in collection.questions] == [("1", "What?", {"d": 1})]
    assert collection.unknown == ("2 0 d" in qrels)


def test_packed_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "queries.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "1", "text": "What?"}\n'))
    (tmp_path / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(b"1\td\t1\n"))
    assert from_folder(tmp_path).questions[0].relevant == {"d": 1}


@pytest.mark.parametrize(
    ("queries", "qrels", "said"),
    [
        ("{\n", "1\td\t1\n", "line 1: no JSON"),
        ("no tab\n", "1\td\t1\n", "line 1: neither JSON"),
        ("1\ta\n1\tb\n", "1\td\t1\n", "line 2: the id `1` was there before"),
        ('{"_id": "1", "text": " "}\n', "1\td\t1\n", "line 1: a question needs"),
        ("1\ta\n", "1\td\t1\n1\td\n", "line 2: not a judgement"),
        ("1\ta\n", "1\td\t1\n1\te\tgood\n", "line 2: not a judgement"),
        ("1\ta\n", "2\td\t1\n", "no question of"),
        ("1\ta\n", "1\td\t0\n", "no question of"),
    ],
)
def test_a_bad_file_is_told_by_line(tmp_path: Path, queries: str, qrels: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        from_files(*written(tmp_path, queries, qrels))


def test_missing_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.tsv cannot be read"):
        from_files(tmp_path / "absent.jsonl", tmp_path / "absent.tsv")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"_id": "1"}\n' * 99)[:-20])
    (tmp_path / "q.tsv").write_text("1\td\t1\n", "utf-8")
    with pytest.raises(BadInput, match=r"cut\.jsonl\.gz"):
        from_files(tmp_path / "cut.jsonl.gz", tmp_path / "q.tsv")


def figures(value: float) -> dict[str, Any]:
    return {"figures": {"bm25": {"all": {"nDCG@10": {"value": value}, "R@10": {"value": 0.9}}}}}


def test_the_gate_sees_what_fell_and_what_is_gone() -> None:
    assert fallen(figures(0.80), figures(0.805), 0.01) == []
    assert fallen(figures(0.79), figures(0.805), 0.01) == ["nDCG@10 of bm25, all: 0.8050 -> 0.7900"]
    assert len(fallen({"figures": {}}, figures(0.8), 0.01)) == 2
