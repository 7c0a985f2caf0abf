"""Text to vectors: the embedders, one module a kind, and the caches in front of them."""

from __future__ import annotations

from citewell.records import Passage


def passage_input(passage: Passage) -> str:
    """What is embedded of a passage: its title gives the context that a cut-out span lacks."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text
