"""ROUGE-1, ROUGE-2 and ROUGE-L: how much of a reference's words, pairs of words and order an answer has. Pure.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries". F-measures as the package `rouge-score` has
them, equal to its figures on the same tokens (a test compares). That package's own tokens are runs of a to z and 0 to
9, which leaves nothing of Japanese or Korean; here they are the units that F1 counts, with articles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from citewell.evaluate.overlap import units

NAMES = ("ROUGE-1", "ROUGE-2", "ROUGE-L")


def rouge(answer: str, references: Iterable[str], lang: str = "en") -> dict[str, float]:
    """Each measure's greatest F with any of the references, in [0, 1]; without a reference 0."""
    own = tokens(answer, lang)
    best = dict.fromkeys(NAMES, 0.0)
    for reference in references:
        other = tokens(reference, lang)
        found = (_of_runs(own, other, 1), _of_runs(own, other, 2), _of_order(own, other))
        best = {name: max(best[name], value) for name, value in zip(NAMES, found, strict=True)}
    return best


def tokens(text: str, lang: str) -> list[str]:
    """Lower-case words without punctuation; characters in Japanese, Korean and Chinese."""
    return units(text, lang, articles=True)


def _of_runs(own: Sequence[str], other: Sequence[str], length: int) -> float:
    mine, theirs = _runs(own, length), _runs(other, length)
    return _f(sum((mine & theirs).values()), mine.total(), theirs.total())


def _runs(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + length]) for at in range(len(words) - length + 1))


def _of_order(own: Sequence[str], other: Sequence[str]) -> float:
    """By the longest common subsequence, one row of its table at a time."""
    row = [0] * (len(other) + 1)
    for word in own:
        before = row
        row = [0]
        for place, theirs in enumerate(other, start=1):
            row.append(before[place - 1] + 1 if word == theirs else max(before[place], row[-1]))
    return _f(row[-1], len(own), len(other))


def _f(common: int, own: int, other: int) -> float:
    return 2 * common / (own + other) if common else 0.0
