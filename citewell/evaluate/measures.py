"""Figures of ranked documents, by `ir_measures`, and how sure they are.

Every measure is computed a question at a time, so that modes can be compared in pairs. A judged question without
results scores 0, as in trec_eval with `-c`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MEASURES = ("nDCG@10", "R@5", "R@10", "R@100", "P@1", "P@5", "P@10", "RR", "AP")
# Document ids, best first, by question id.
Run = Mapping[str, Sequence[str]]
Values = npt.NDArray[np.float64]
_RESAMPLES = 10_000
_SEED = 20_261_124
# Numbers that are drawn at a time.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Mean:
    """A mean over questions with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its interval, and how likely one as large is by chance (two-sided)."""

    value: float
    low: float
    high: float
    p: float


def by_question(run: Run, relevant: Mapping[str, Mapping[str, int]]) -> dict[str, Values]:
    """Each measure's values, in the order of `relevant`."""
    import ir_measures

    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    order = {key: place for place, key in enumerate(relevant)}
    found = {name: np.zeros(len(order)) for name in MEASURES}
    scored = {key: {doc: -float(rank) for rank, doc in enumerate(docs)} for key, docs in run.items() if docs}
    if scored:
        for metric in ir_measures.iter_calc(measures, {key: dict(relevant[key]) for key in relevant}, scored):
            found[str(metric.measure)][order[metric.query_id]] = metric.value
    return found


def mean(values: Values) -> Mean:
    """Percentile bootstrap over questions (Efron and Tibshirani, 1993); the same for the same values."""
    draw = np.random.default_rng(_SEED)
    means = [values[draw.integers(0, len(values), (rows, len(values)))].mean(axis=1) for rows in _parts(len(values))]
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return Mean(float(values.mean()), float(low), float(high))


def difference(one: Values, other: Values) -> Difference:
    """`one` less `other`, paired by question.

    The randomisation test flips the sign of each question's difference at random: Smucker, Allan and Carterette, "A
    Comparison of Statistical Significance Tests for Information Retrieval Evaluation" (CIKM 2007).
    """
    gaps = one - other
    spread = mean(gaps)
    signs = np.random.default_rng(_SEED).integers(0, 2, (_RESAMPLES, len(gaps)), dtype=np.int8) * 2 - 1
    ends = np.cumsum(list(_parts(len(gaps))))[:-1]
    means = np.concatenate([(part * gaps).mean(axis=1) for part in np.split(signs, ends)])
    chance = np.abs(means) >= abs(spread.value) - 1e-12
    return Difference(spread.value, spread.low, spread.high, float((chance.sum() + 1) / (_RESAMPLES + 1)))


def _parts(count: int) -> Iterator[int]:
    """How many resamples are drawn at a time: all at once would take 850 MB for 10,000 questions."""
    most = max(1, _AT_ONCE // max(1, count))
    for begin in range(0, _RESAMPLES, most):
        yield min(most, _RESAMPLES - begin)
