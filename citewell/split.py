"""Document to passages, by tokens of the embedder, along headings, paragraphs and sentences. Pure.

The cut itself is semantic-text-splitter's (Markdown rules); what is added here are exact offsets and the promise
`document.text[p.start:p.end] == p.text` for every passage.

An embedder counts a language that it does not speak in pieces of letters: an English one makes 3 tokens of a Korean
syllable, and passages of one sentence. There, characters are counted instead (docs/LOG.md, "Passages by characters").
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator

from citewell.language import CJK
from citewell.records import Document, Passage

# Characters of a token of ordinary length, in a vocabulary that knows the language.
_CHARACTERS, _CJK_CHARACTERS = 5.0, 2.5

_HEADINGS = re.compile(r"(?:#{1,6} [^\n]*\s*)+")


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

        self.name = f"markdown2-{capacity}-{overlap}"
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
        spans = list(self._spans(document))
        for ordinal, (start, end) in enumerate(spans):
            following = spans[ordinal + 1][0] if ordinal + 1 < len(spans) else end
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
            )

    def _spans(self, document: Document) -> Iterator[tuple[int, int]]:
        """Spans of the library's chunks; one of headings alone joins the next, whose words it introduces."""
        waiting: int | None = None
        splitter = self._by_tokens if self._speaks(document.lang) else None
        splitter = splitter or self._by_characters[document.lang in CJK]
        chunks = splitter.chunk_indices(document.text)
        for number, (start, chunk) in enumerate(chunks, start=1):
            begin = start if waiting is None else waiting
            if number < len(chunks) and _HEADINGS.fullmatch(chunk):
                waiting = begin
                continue
            waiting = None
            yield begin, start + len(chunk)
