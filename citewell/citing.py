"""Citations as an engine checks them: by words, by its embedder, and by the entailment model where one is set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from citewell.bars import Bar, bar_for
from citewell.cite import cite
from citewell.config import Settings
from citewell.ports import Embedder, Entailment
from citewell.records import Draft, Evidence


class Citing:
    """Text and evidence to a draft; also what `support.judge` compares by."""

    def __init__(self, embedder: Embedder, entailment: Entailment | None, settings: Settings) -> None:
        self._embedder = embedder
        self._entailment = entailment
        self._own = settings.citation_bars
        self._least = settings.entailment_least

    def __call__(self, text: str, evidence: Evidence, lang: str) -> Draft:
        return cite(text, evidence, lang, self)

    def load(self) -> None:
        """Load the entailment model; the embedder belongs to the engine, which loads and closes it."""
        if self._entailment is not None:
            self._entailment.load()

    def close(self) -> None:
        if self._entailment is not None:
            self._entailment.close()

    def bar(self, lang: str) -> Bar:
        return bar_for(lang, self._embedder.describe().name, self._own.get(lang))

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """All texts of all pairs in one batch, each once."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        if not texts:
            return []
        vectors = self._embedder.embed_passages(texts)
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        place = {text: row for row, text in enumerate(texts)}
        return [float(unit[place[one]] @ unit[place[other]]) for one, other in pairs]

    def entailed(self, pairs: Sequence[tuple[str, str]]) -> list[float] | None:
        if self._entailment is None:
            return None
        return list(self._entailment.entail([(span, sentence) for sentence, span in pairs]))

    def least_entailed(self) -> float:
        return self._least
