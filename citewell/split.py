"""Document to passages, by tokens of the embedder, along headings, paragraphs and sentences. Pure.

The cut itself is semantic-text-splitter's (Markdown rules). Added here are exact offsets, with the promise
`document.text[p.start:p.end] == p.text` for every passage; tables and code that stay whole where they fit; a cut where
a page ends, so that the page of a citation is right; and the headings above a passage.

An embedder counts a language that it does not speak in pieces of letters: an English one makes 3 tokens of a Korean
syllable, and passages of one sentence. There, characters are counted instead (docs/LOG.md, "Passages by characters").
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from citewell.language import CJK
from citewell.outline import HEADINGS, Outline, outline
from citewell.records import Document, Passage
from citewell.text import sentences

if TYPE_CHECKING:
    from semantic_text_splitter import MarkdownSplitter

Span = tuple[int, int]

# Characters of a token of ordinary length, in a vocabulary that knows the language.
_CHARACTERS, _CJK_CHARACTERS = 5.0, 2.5

# A sentence that goes on behind a page's end is looked for in so many characters.
_SENTENCE = 2000


def estimated_tokens(text: str, lang: str) -> int:
    """About how many tokens a text has in a vocabulary that knows its language."""
    return math.ceil(len(text) / (_CJK_CHARACTERS if lang in CJK else _CHARACTERS))


class Splitter:
    """Cuts documents into passages of at most `capacity` tokens, `overlap` of them shared between neighbours.

    `tokenizer` is the JSON of a `tokenizers` tokenizer; its truncation and padding are taken off, because both would
    hide the true length of a text from the splitter. Without one, characters are counted.
    """

    def __init__(
        self, tokenizer: str, capacity: int, overlap: int = 0, *, speaks: Callable[[str], bool] = lambda lang: True
    ) -> None:
        from semantic_text_splitter import MarkdownSplitter

        self.name = f"markdown3-{capacity}-{overlap}"
        self._speaks = speaks
        self._by_tokens = None
        if tokenizer:
            rules = json.loads(tokenizer)
            rules["truncation"] = rules["padding"] = None
            self._by_tokens = MarkdownSplitter.from_huggingface_tokenizer_str(json.dumps(rules), capacity, overlap)
        self._by_characters = {
            cjk: MarkdownSplitter(int(capacity * length), int(overlap * length))
            for cjk, length in ((False, _CHARACTERS), (True, _CJK_CHARACTERS))
        }

    def split(self, document: Document) -> Iterator[Passage]:
        """Passages in order; a document of white space alone has none."""
        structure = outline(document.text)
        spans = list(self._spans(document, structure))
        for ordinal, (start, end) in enumerate(spans):
            following = spans[ordinal + 1][0] if ordinal + 1 < len(spans) else end
            leading = HEADINGS.match(document.text, start, end)
            yield Passage(
                id=Passage.make_id(document.id, ordinal),
                doc_id=document.id,
                ordinal=ordinal,
                start=start,
                end=end,
                text=document.text[start:end],
                gap=document.text[end:following],
                title=document.title,
                url=document.url,
                lang=document.lang,
                metadata=document.metadata,
                groups=document.groups,
                heading=structure.path(leading.end() - 1 if leading else start),
                page=bisect_right(document.pages, start),
            )

    def _spans(self, document: Document, structure: Outline) -> Iterator[Span]:
        """Spans of the chunks; one of headings alone joins the next, whose words it introduces."""
        waiting: int | None = None
        splitter = self._by_tokens if self._speaks(document.lang) else None
        splitter = splitter or self._by_characters[document.lang in CJK]
        chunks = [
            (start + first, start + last)
            for start, end in _parts(document)
            for first, last in _chunks(splitter, document.text[start:end], structure.blocks_within(start, end))
        ]
        for number, (start, end) in enumerate(chunks, start=1):
            begin = start if waiting is None else waiting
            if number < len(chunks) and HEADINGS.fullmatch(document.text, start, end):
                waiting = begin
                continue
            waiting = None
            yield begin, end


def _parts(document: Document) -> list[Span]:
    """The text, cut where a page begins; a sentence that goes on there stays whole, on the page where it begins."""
    text, cuts = document.text, [0]
    for page in document.pages[1:]:
        cut = max(page, cuts[-1])
        if page and "\n" not in text[page - 1 : page + 1] and page < len(text):
            rest = sentences(text[cut : cut + _SENTENCE], document.lang)
            cut += rest[0][1] if rest else 0
        cuts.append(cut)
    return [(start, end) for start, end in pairwise([*cuts, len(text)]) if start < end]


def _chunks(splitter: MarkdownSplitter, text: str, blocks: Sequence[Span]) -> list[Span]:
    """Spans of the library's chunks, mended where they cut a table or code that fits into one.

    It fills a chunk up with a table's first rows rather than begin the next one with the table.
    """
    spans = [(start, start + len(chunk)) for start, chunk in splitter.chunk_indices(text)]
    at = 0
    for start, end in blocks:
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        last = at
        while last < len(spans) and spans[last][1] < end:
            last += 1
        if last == len(spans) or spans[last][0] <= start or len(splitter.chunks(text[start:end])) != 1:
            continue
        first = spans[at][0]
        before = first + len(text[first:start].rstrip())
        kept = [(first, before)] if before > max(first, spans[at - 1][1] if at else 0) else []
        anew = splitter.chunk_indices(text[start : spans[last][1]])
        spans[at : last + 1] = kept + [(start + at, start + at + len(chunk)) for at, chunk in anew]
    return spans
