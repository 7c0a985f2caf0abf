"""A look at the first documents of a source before it is loaded; they come again when it is."""

from __future__ import annotations

from collections.abc import Iterator

from citewell.errors import CitewellError
from citewell.ingest.around import Around
from citewell.ingest.items import Item, Tell
from citewell.ingest.sources import Known, Source
from citewell.records import Document


class Peeked(Around):
    """A source that is read once, though it was looked at: standard input has no second time.

    The look is taken as if the index were empty, so it is for an index that is.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._head: list[Item] = []
        self._rest: Iterator[Item] | None = None
        self._read = 0
        self._tell: Tell | None = None
        self.looked = False

    def look(self, most: int, characters: int) -> list[Document]:
        """The first documents: so many, or as many as have so many characters in all.

        What the source cannot do it says when it is loaded, not here.
        """
        if self._rest is not None:
            return [item for item in self._head if isinstance(item, Document)]
        self.looked = True
        found: list[Document] = []
        self._rest = self._source.items(Known(), self._hear)
        try:
            for item in self._rest:
                self._head.append(item)
                if isinstance(item, Document):
                    found.append(item)
                    characters -= len(item.text)
                if len(found) >= most or characters <= 0 or len(self._head) >= 2 * most:
                    break
        except CitewellError:
            self._head, self._rest, self._read = [], None, 0
        return found

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        head, rest = self._head, self._rest
        if rest is None:
            yield from self._source.items(known, tell)
            return
        self._head, self._rest, self._tell = [], None, tell
        tell(self._read)
        yield from head
        yield from rest

    def _hear(self, count: int) -> None:
        if self._tell is None:
            self._read += count
        else:
            self._tell(count)
