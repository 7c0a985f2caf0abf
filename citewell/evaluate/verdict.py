"""The figures in words: does retrieval, or fine-tuning, or both, help on these questions? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from citewell.evaluate.conditions import BOTH, CLOSED_BOOK, FINE_TUNED, ORACLE, RAG, Cell

Figures = Mapping[str, Mapping[str, Mapping[str, Any]]]
Gaps = Mapping[str, Mapping[str, float]]

# A difference is told as one when as large a one is less likely than this by chance, and its interval leaves out 0.
SURE = 0.05
# What is asked, the condition with it and the one without.
_ASKED = (
    ("Retrieval", RAG, CLOSED_BOOK),
    ("Fine-tuning", FINE_TUNED, CLOSED_BOOK),
    ("Fine-tuning on top of retrieval", BOTH, RAG),
    ("Retrieval on top of fine-tuning", BOTH, FINE_TUNED),
)


def verdict(cells: Sequence[Cell], figures: Figures, gaps: Gaps) -> list[str]:
    """Sentences, generator by generator; `gaps` are paired differences in F1."""
    said: list[str] = []
    for generator in dict.fromkeys(cell.generator for cell in cells):
        own = {cell.condition: str(cell) for cell in cells if cell.generator == generator}
        for what, having, lacking in _ASKED:
            if having in own and lacking in own:
                said += _compared(what, generator, own[having], own[lacking], figures, gaps)
        if RAG in own and ORACLE in own:
            said += _left(generator, own[ORACLE], own[RAG], figures, gaps)
    measured = {cell.condition for cell in cells}
    if not {RAG, CLOSED_BOOK} <= measured:
        said.append("Whether retrieval helps was not measured: that takes the conditions rag and closed-book.")
    if not measured & {FINE_TUNED, BOTH}:
        said.append("Whether fine-tuning helps was not measured: that takes --fine-tuned and the condition fine-tuned.")
    return said + _best(figures)


def _compared(what: str, generator: str, having: str, lacking: str, figures: Figures, gaps: Gaps) -> list[str]:
    gap = _gap(gaps, having, lacking)
    if gap is None:
        return []
    verb = "does not surely change"
    if gap["p"] < SURE and gap["low"] > 0:
        verb = "helps"
    elif gap["p"] < SURE and gap["high"] < 0:
        verb = "harms"
    refused = figures[lacking]["all"]["refused"]
    silent = refused is not None and refused["value"] == 1
    without = f"{_told(figures, lacking)} without" + (", where it refuses every question" if silent else "")
    return [f"{what} {verb} `{generator}`: F1 {_told(figures, having)} with it, {without} ({_interval(gap)})."]


def _left(generator: str, oracle: str, rag: str, figures: Figures, gaps: Gaps) -> list[str]:
    gap = _gap(gaps, oracle, rag)
    if gap is None:
        return []
    if gap["p"] < SURE and gap["low"] > 0:
        told = f"Better retrieval could bring `{generator}` at most"
    else:
        told = f"Better retrieval would not surely bring `{generator}` more:"
    return [f"{told} {gap['value']:+.3f} F1, to {_told(figures, oracle)} ({_interval(gap)})."]


def _best(figures: Figures) -> list[str]:
    known = {cell: langs["all"] for cell, langs in figures.items() if langs.get("all", {}).get("F1")}
    if not known:
        return []
    cell = max(known, key=lambda name: known[name]["F1"]["value"])
    holds = known[cell]["holds"]["value"]
    return [
        f"Best by F1: {cell}, {known[cell]['F1']['value']:.3f}; to {holds:.0%} of the questions its answer holds a "
        "reference whole."
    ]


def _gap(gaps: Gaps, one: str, other: str) -> dict[str, float] | None:
    """`one` less `other`, whichever way it was computed."""
    if found := gaps.get(f"{one} - {other}"):
        return dict(found)
    if found := gaps.get(f"{other} - {one}"):
        return {**found, "value": -found["value"], "low": -found["high"], "high": -found["low"]}
    return None


def _told(figures: Figures, cell: str) -> str:
    return f"{figures[cell]['all']['F1']['value']:.3f}"


def _interval(gap: Mapping[str, float]) -> str:
    chance = "p < .001" if gap["p"] < 0.001 else f"p = {gap['p']:.3f}"
    return f"{gap['value']:+.3f}, 95 % {gap['low']:+.3f} to {gap['high']:+.3f}, {chance}, {gap['of']:g} questions"
