"""Document to passages, by tokens of the embedder, along headings, paragraphs and sentences. Pure.

The cut itself is semantic-text-splitter's (Markdown rules); what is added here are exact offsets and the promise
`document.text[p.start:p.end] == p.text` for every passage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from citewell.records import Document, Passage

_HEADINGS = re.compile(r"(?:#{1,6} [^\n]*\s*)+")


class Splitter:
    """Cuts documents into passages of at most `capacity` tokens, `overlap` of them shared between neighbours.

    `tokenizer` is the JSON of a `tokenizers` tokenizer; its truncation and padding are taken off, because both would
    hide the true length of a text from the splitter.
    """

    def __init__(self, tokenizer: str, capacity: int, overlap: int = 0) -> None:
        from semantic_text_splitter import MarkdownSplitter

        rules = json.loads(tokenizer)
        rules["truncation"] = rules["padding"] = None
        self.name = f"markdown-{capacity}-{overlap}"
        self._splitter = MarkdownSplitter.from_huggingface_tokenizer_str(json.dumps(rules), capacity, overlap)

    def split(self, document: Document) -> Iterator[Passage]:
        """Passages in order; a document of white space alone has none."""
        for ordinal, (start, end) in enumerate(self._spans(document.text)):
            yield Passage(
                id=Passage.make_id(document.id, ordinal),
                doc_id=document.id,
                ordinal=ordinal,
                start=start,
                end=end,
                text=document.text[start:end],
                title=document.title,
                url=document.url,
                lang=document.lang,
                metadata=document.metadata,
                groups=document.groups,
            )

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Spans of the library's chunks; one of headings alone joins the next, whose words it introduces."""
        waiting: int | None = None
        chunks = self._splitter.chunk_indices(text)
        for number, (start, chunk) in enumerate(chunks, start=1):
            begin = start if waiting is None else waiting
            if number < len(chunks) and _HEADINGS.fullmatch(chunk):
                waiting = begin
                continue
            waiting = None
            yield begin, start + len(chunk)
