"""How well an embedder finds by its vectors alone, on sets small enough to be measured again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from citewell.evaluate.measures import by_question
from citewell.train.alignment import Floats
from citewell.train.judged import JudgedSet

_CUT = 10
Encode = Callable[[list[str]], Floats]


def dense(encode: Encode, sets: Sequence[JudgedSet]) -> dict[str, float]:
    """nDCG@10 by set; `encode` gives unit vectors."""
    return {one.name: _of(encode, one) for one in sets}


def _of(encode: Encode, one: JudgedSet) -> float:
    keys = list(one.texts)
    passages = encode([one.texts[key].whole for key in keys])
    asked = encode([question.text for question in one.questions])
    depth = min(_CUT, len(keys))
    scores = asked @ passages.T
    best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    run = {q.id: [keys[n] for n in row.tolist()] for q, row in zip(one.questions, best, strict=True)}
    return float(by_question(run, {q.id: q.grades for q in one.questions})["nDCG@10"].mean())
