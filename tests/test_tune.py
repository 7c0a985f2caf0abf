"""Tuning: honest figures on legs made by hand, and what is written of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from citewell.config import Tuned, load_settings
from citewell.errors import BadInput, ConfigError
from citewell.evaluate.tune import JudgedLegs, candidates, interval, ndcg, tune
from citewell.fuse import Fusion, Ranked, fuse
from citewell.retrieve import Plan
from citewell.settings_file import write_tuned

PRESENT = Plan(Fusion("minmax", 0.5), 100)


def leg(rng: random.Random, relevant: str, good: float) -> Ranked:
    """Forty documents with random scores; the relevant one is lifted to the top with probability `good`."""
    scores = {f"d{n}#0": rng.random() for n in range(40)}
    if rng.random() < good:
        scores[f"{relevant}#0"] = 1.5
    return sorted(scores.items(), key=lambda item: -item[1])


def judged(count: int, bm25: float, dense: float, seed: int = 7) -> list[JudgedLegs]:
    rng = random.Random(seed)
    return [
        JudgedLegs(f"q{n}", "en", {"bm25": leg(rng, f"d{n % 40}", bm25), "dense": leg(rng, f"d{n % 40}", dense)},
                   {f"d{n % 40}": 1})
        for n in range(count)
    ]  # fmt: skip


def test_a_blind_leg_is_left_out() -> None:
    choice = tune(judged(120, bm25=1.0, dense=0.0), PRESENT)
    assert choice.plan.fusion.method == "bm25"
    assert choice.validated == pytest.approx(choice.alone["bm25"])


def test_two_good_legs_beat_each_alone_and_the_present_way_stays_when_it_is_as_good() -> None:
    choice = tune(judged(200, bm25=0.6, dense=0.6), PRESENT)
    assert choice.plan.fusion.method in ("minmax", "rrf")
    assert choice.validated > max(choice.alone.values())
    assert not choice.sure


def test_noise_gains_nothing() -> None:
    """On legs without any signal the best of all candidates looks better than it is; cross-validation is not fooled."""
    questions = judged(60, bm25=0.0, dense=0.0, seed=3)
    choice = tune(questions, PRESENT)
    flattering = max(float(np.mean([ndcg(question, plan) for question in questions])) for plan in candidates())
    assert choice.validated < flattering
    assert choice.plan == PRESENT
    assert (choice.gain, choice.sure) == (0.0, False)


def test_the_choice_is_the_same_in_every_run() -> None:
    questions = judged(50, 0.7, 0.5)
    assert tune(questions, PRESENT) == tune(list(questions), PRESENT)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_questions_are_refused(count: int) -> None:
    with pytest.raises(BadInput, match=f"{count} judged questions"):
        tune(judged(count, 1, 1), PRESENT)


@pytest.mark.parametrize("plan", candidates()[::9], ids=lambda plan: str(plan.fusion.describe()))
def test_the_inner_measure_is_trec_evals(plan: Plan) -> None:
    rng = random.Random(11)
    for question in judged(5, 0.5, 0.5):
        graded = JudgedLegs(
            question.question_id, "en", question.legs, {f"d{n}": rng.randint(0, 3) for n in range(20)} | {"d0": 1}
        )
        cut = {name: ranked[: plan.depth] for name, ranked in graded.legs.items()}
        run = {graded.question_id: {i.key.removesuffix("#0"): i.score for i in fuse(cut, plan.fusion)}}
        expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], {graded.question_id: dict(graded.relevant)}, run)
        assert ndcg(graded, plan) == pytest.approx(expected[ir_measures.nDCG @ 10])


def test_a_document_counts_once_by_its_best_passage() -> None:
    ranked = [("a#0", 3.0), ("a#1", 2.9), ("b#0", 2.0)]
    question = JudgedLegs("q", "en", {"bm25": ranked, "dense": []}, {"b": 1})
    assert ndcg(question, Plan(Fusion("bm25"), 100)) == pytest.approx(1 / np.log2(3))


def test_the_interval_holds_the_mean() -> None:
    values = np.array([0.1, -0.2, 0.3, 0.4, 0.0] * 8)
    low, high = interval(values)
    assert low < values.mean() < high
    assert interval(np.zeros(12)) == (0.0, 0.0)


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, Tuned]]:
    def read(path: Path) -> dict[str, Tuned]:
        monkeypatch.setenv("CITEWELL_CONFIG", str(path))
        return load_settings().tuned

    return read


def test_what_is_written_is_in_force(tmp_path: Path, settings_of: Callable[[Path], dict[str, Tuned]]) -> None:
    file = tmp_path / "citewell.toml"
    file.write_text('# ours\nk = 7  # seven\n\n[tuned.es]\nfusion = "bm25"\n', "utf-8")
    write_tuned(file, {"en": Tuned(fusion="minmax", alpha=0.35, depth=50)})
    write_tuned(file, {"ko": Tuned(fusion="bm25"), "en": Tuned(fusion="rrf", rrf_k=10)})
    text = file.read_text("utf-8")
    assert "# ours" in text
    assert "# seven" in text
    assert settings_of(file) == {
        "es": Tuned(fusion="bm25"),
        "en": Tuned(fusion="rrf", rrf_k=10),
        "ko": Tuned(fusion="bm25"),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["citewell.toml"]


def test_a_new_file_is_made(tmp_path: Path, settings_of: Callable[[Path], dict[str, Tuned]]) -> None:
    write_tuned(tmp_path / "new.toml", {"ja": Tuned(fusion="bm25")})
    assert settings_of(tmp_path / "new.toml") == {"ja": Tuned(fusion="bm25")}


def test_a_broken_file_is_left_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "citewell.toml"
    file.write_text("k = = 7\n", "utf-8")
    with pytest.raises(ConfigError, match=r"citewell\.toml"):
        write_tuned(file, {"en": Tuned(fusion="bm25")})
    assert file.read_text("utf-8") == "k = = 7\n"
