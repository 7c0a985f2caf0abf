"""What a sitemap lists, read piece by piece with bounded memory (sitemaps.org, protocol 0.9)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from citewell.errors import BadInput

# The protocol's own bound on one sitemap, unpacked; and on one address.
_MOST_BYTES = 50 * 1024 * 1024
_MOST_CHARACTERS = 2048
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 16


@dataclass
class _Listing:
    """Expat's handlers: collects `loc` inside of `url` (pages) or `sitemap` (further sitemaps)."""

    root: str = ""
    found: list[tuple[str, bool]] = field(default_factory=list)
    _path: list[str] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)

    def start(self, name: str, _: object) -> None:
        local = name.rpartition(":")[2]
        self.root = self.root or local
        self._path.append(local)
        self._text = []

    def data(self, text: str) -> None:
        if sum(map(len, self._text)) <= _MOST_CHARACTERS:
            self._text.append(text)

    def end(self, _: str) -> None:
        # Images and videos have a `loc` of their own, deeper or of another parent.
        if self._path[1:] in (["url", "loc"], ["sitemap", "loc"]):
            self.found.append(("".join(self._text).strip(), self._path[1] == "sitemap"))
        self._path.pop()
        self._text = []

    def doctype(self, *_: object) -> None:
        # Entities could make a small file large, and sitemaps have none.
        raise BadInput("the sitemap has a document type", remedy="Remove its DOCTYPE.")


def is_sitemap(head: bytes) -> bool:
    """Whether a body that begins so is a sitemap or an index of sitemaps, packed or not."""
    if head.startswith(_GZIP):
        try:
            head = zlib.decompressobj(31).decompress(head, 4096)
        except zlib.error:
            return False
    head = head[:4096]
    return b"<urlset" in head or b"<sitemapindex" in head


def locations(pieces: Iterable[bytes]) -> Iterator[tuple[str, bool]]:
    """(address, whether it is a sitemap itself) as they come; raises `BadInput` for what is no sitemap."""
    listing = _Listing()
    parser = expat.ParserCreate()
    parser.StartElementHandler = listing.start
    parser.EndElementHandler = listing.end
    parser.CharacterDataHandler = listing.data
    parser.StartDoctypeDeclHandler = listing.doctype
    try:
        for piece in _unpacked(pieces):
            parser.Parse(piece, False)
            yield from listing.found
            listing.found.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise BadInput(f"the sitemap is no whole XML: {error}", remedy="Mend the sitemap.") from error
    except zlib.error as error:
        raise BadInput(f"the sitemap is no whole gzip file: {error}", remedy="Pack it again.") from error
    yield from listing.found


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, unpacked where they are gzip, up to the protocol's bound."""
    unpacker = None
    size, first = 0, True
    for piece in pieces:
        if first:
            unpacker = zlib.decompressobj(31) if piece.startswith(_GZIP) else None
            first = False
        rest = piece
        while rest:
            plain = unpacker.decompress(rest, _PIECE) if unpacker else rest
            rest = unpacker.unconsumed_tail if unpacker else b""
            size += len(plain)
            if size > _MOST_BYTES:
                raise BadInput(
                    f"the sitemap has more than {_MOST_BYTES} bytes", remedy="Split it, and list the parts in an index."
                )
            yield plain
    if unpacker is not None and not unpacker.eof:
        raise zlib.error("it ends in the middle")
