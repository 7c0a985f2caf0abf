"""BLEU and chrF by `sacrebleu`: BLEU of all answers together, chrF an answer at a time. Pure.

Papineni et al. 2002 define BLEU over a corpus: counts of runs of words are summed before they are divided. They are
kept an answer at a time, so that languages, which are cut into words each in their own way (`13a`; characters in
Japanese, Korean and Chinese), add up, and so that answers can be drawn at random for an interval. chrF: Popović 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from citewell.evaluate.measures import Mean, Values
from citewell.evaluate.overlap import by_character

# Four matches, four totals, the answer's length and the nearest reference's.
COUNTS = 10
_RESAMPLES = 1_000
_SEED = 20_261_124


def counts(answer: str, references: Sequence[str], lang: str) -> Values:
    """What one answer adds to BLEU; shape (COUNTS,)."""
    found = _bleu("char" if by_character(lang) else "13a").sentence_score(answer, list(references))
    return np.array([*found.counts, *found.totals, found.sys_len, found.ref_len], dtype=np.float64)


def bleu(answers: Values) -> float:
    """BLEU of answers by their counts, shape (n, COUNTS); in [0, 100], as sacrebleu gives it."""
    from sacrebleu.metrics.bleu import BLEU

    summed = [int(value) for value in answers.sum(axis=0)]
    return float(BLEU.compute_bleu(summed[:4], summed[4:8], summed[8], summed[9], smooth_method="exp").score)


def bleu_mean(answers: Values) -> Mean:
    """BLEU with its 95 % bootstrap interval over answers."""
    draws = np.random.default_rng(_SEED).integers(0, len(answers), (_RESAMPLES, len(answers)))
    low, high = np.quantile([bleu(answers[draw]) for draw in draws], (0.025, 0.975))
    return Mean(bleu(answers), float(low), float(high))


def chrf(answer: str, references: Sequence[str]) -> float:
    """sacrebleu's sentence chrF, in [0, 100]."""
    return float(_chrf().sentence_score(answer, list(references)).score)


@cache
def _bleu(tokens: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=tokens, effective_order=True)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
