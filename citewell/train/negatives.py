"""Hard negatives: passages that look like an answer to a question and hold none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from citewell.evaluate.overlap import normalized
from citewell.ports import Embedder
from citewell.train.marked import Marked, MarkedSet

# Passages looked at for each question, and questions compared at once.
_DEEP = 20
_AT_ONCE = 2048


def hard_negatives(marked: MarkedSet, questions: Sequence[Marked], embedder: Embedder) -> dict[str, str]:
    """For each question the passage nearest to it that has none of its answers; nothing for a question without one.

    Nearness is the cosine under `embedder`.
    """
    ids = list(marked.texts)
    plain = {key: normalized(text.text) for key, text in marked.texts.items()}
    passages = embedder.embed_passages([f"{marked.texts[key].title} {marked.texts[key].text}".strip() for key in ids])
    found: dict[str, str] = {}
    depth = min(_DEEP, len(ids))
    for begin in range(0, len(questions), _AT_ONCE):
        some = questions[begin : begin + _AT_ONCE]
        scores = embedder.embed_queries([question.text for question in some]) @ passages.T
        nearest = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for question, row, own in zip(some, nearest, scores, strict=True):
            answers = [normalized(answer, question.lang) for answer in question.answers]
            for place in sorted(row.tolist(), key=lambda at: -own[at]):
                key = ids[place]
                if key not in question.passages and not any(answer and answer in plain[key] for answer in answers):
                    found[question.id] = key
                    break
    return found
