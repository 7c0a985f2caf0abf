"""Which old tokens a new token stands for, from texts and their translations: IBM model 1, one sentence pair at a time.

Brown et al., "The Mathematics of Statistical Machine Translation" (Computational Linguistics 19, 1993). Each pair of
texts counts every token once, as a bag, which is all that an embedding's start needs. numpy alone, minutes for 30,000
pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_ROUNDS = 5
# A token in more than this share of the texts is a function word: it would be aligned with everything.
_COMMON = 0.3
_LEAST = 0.02


@dataclass(frozen=True)
class Table:
    """Sparse probabilities: of `old[n]` for `new[n]` with `weight[n]`; the weights of one new token sum to 1."""

    new: Ints
    old: Ints
    weight: Floats
    seen: Ints


def align(pairs: Iterable[tuple[Sequence[int], Sequence[int]]], sizes: tuple[int, int], keep: int = 5) -> Table:
    """From (new tokens of a text, old tokens of its translation); `sizes` are of both vocabularies.

    `seen` counts the texts with each new token. The `keep` likeliest old tokens of each are given.
    """
    bags = [(np.unique(a), np.unique(b)) for a, b in pairs if len(a) and len(b)]
    seen = np.bincount(np.concatenate([a for a, _ in bags]), minlength=sizes[0])
    held = np.bincount(np.concatenate([b for _, b in bags]), minlength=sizes[1])
    common = held > max(_COMMON * len(bags), 20)
    bags = [(a, b[~common[b]]) for a, b in bags]
    bags = [(a, b) for a, b in bags if len(b)]
    keys = np.concatenate([(a[:, None] * sizes[1] + b[None, :]).ravel() for a, b in bags])
    # Each old token of a text is explained by the new ones there: a group of the expectation step.
    groups = np.concatenate([np.tile(np.arange(len(b)), len(a)) for a, b in bags])
    starts = np.concatenate([[0], np.cumsum([len(b) for _, b in bags])[:-1]])
    groups += np.repeat(starts, [len(a) * len(b) for a, b in bags])
    cells, place = np.unique(keys, return_inverse=True)
    new, old = cells // sizes[1], cells % sizes[1]
    weight = np.ones(len(cells), dtype=np.float32)
    for _ in range(_ROUNDS):
        share = weight[place]
        whole = np.bincount(groups, weights=share)
        share = share / whole[groups].astype(np.float32)
        counts = np.bincount(place, weights=share, minlength=len(cells))
        weight = (counts / np.bincount(new, weights=counts, minlength=sizes[0])[new]).astype(np.float32)
    return _best(new, old, weight, seen, keep)


def _best(new: Ints, old: Ints, weight: Floats, seen: Ints, keep: int) -> Table:
    order = np.lexsort((-weight, new))
    new, old, weight = new[order], old[order], weight[order]
    first = np.searchsorted(new, new)
    kept = (np.arange(len(new)) - first < keep) & (weight > _LEAST)
    new, old, weight = new[kept], old[kept], weight[kept]
    total = np.bincount(new, weights=weight, minlength=len(seen))[new]
    return Table(new, old, (weight / total).astype(np.float32), seen)
