"""A source around another: what it adds it does to the documents, name and size stay those of the inner one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from citewell.ingest.sources import Source


class Around:
    """Whoever inherits gives `items`. It imports nothing, as the command line needs it before anything is loaded."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def size(self) -> int:
        return self._source.size
