"""Hard negatives: passages that look like an answer to a question and hold none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from citewell.evaluate.overlap import normalized
from citewell.ports import Embedder
from citewell.train.marked import Marked, MarkedSet

# Tokens of a text.
Rows = Sequence[int] | npt.NDArray[np.int32]
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
            answers = plain_answers(question)
            for place in sorted(row.tolist(), key=lambda at: -own[at]):
                key = ids[place]
                if key not in question.passages and not any(answer in plain[key] for answer in answers):
                    found[question.id] = key
                    break
    return found


def plain_answers(question: Marked) -> list[str]:
    """A question's answers, normalized; without those of which nothing is left, which every text would hold."""
    return [plain for answer in question.answers if (plain := normalized(answer, question.lang))]


def lexical_negatives(questions: Sequence[Rows], passages: Sequence[Rows], right: Sequence[set[int]]) -> list[int]:
    """For each question the place of the passage that BM25 ranks first among those not in `right`; -1 without one.

    Texts are tokens, so that it holds for every language of a vocabulary. Lucene's variant of BM25 (k1 1.2, b 0.75),
    with each term of a question counted once.
    """
    from scipy import sparse

    size = 1 + max((max(row, default=0) for row in (*questions, *passages)), default=0)
    counted = _counts(passages, size)
    lengths = np.array([len(row) for row in passages], dtype=np.float32)
    held = np.bincount(counted.indices, minlength=size)
    weights = np.log1p((len(passages) - held + 0.5) / (held + 0.5)).astype(np.float32)
    norm = 1.2 * (0.25 + 0.75 * lengths / max(1.0, float(lengths.mean())))
    counted.data = counted.data / (counted.data + np.repeat(norm, np.diff(counted.indptr)))
    scored = (counted @ sparse.diags(weights)).T.tocsc()
    asked = _counts(questions, size)
    asked.data[:] = 1
    found: list[int] = []
    for begin in range(0, len(questions), _AT_ONCE):
        scores = (asked[begin : begin + _AT_ONCE] @ scored).toarray()
        depth = min(_DEEP, scores.shape[1])
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        for row, own, known in zip(best, scores, right[begin:], strict=False):
            ranked = sorted(row.tolist(), key=lambda place: -own[place])
            found.append(next((place for place in ranked if place not in known and own[place] > 0), -1))
    return found


def _counts(rows: Sequence[Rows], size: int) -> Any:
    """A sparse matrix of how often each row has each token."""
    from scipy import sparse

    ends = np.cumsum([0, *(len(row) for row in rows)])
    flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]) if len(rows) else np.zeros(0, np.int64)
    made = sparse.csr_matrix((np.ones(len(flat), dtype=np.float32), flat, ends), shape=(len(rows), size))
    made.sum_duplicates()
    return made
