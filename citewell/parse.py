"""Bytes and a media type to a document. Pure.

The text of a document is plain, with as little Markdown as its structure needs: headings as `# …`, list items as
`- …`, table rows as `| … | … |` with a rule below the
header, one paragraph a line, a blank line between blocks. Inline markup is dropped, so that a
quoted sentence reads as a person would copy it. Offsets of passages and citations count in this text.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from citewell.errors import InvalidDocument, UnsupportedMedia
from citewell.records import Document

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from markdown_it.token import Token

MEDIA_TYPES = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
    ".txt": "text/plain",
    ".text": "text/plain",
}
_BOILERPLATE = ("script", "style", "noscript", "template", "svg", "nav", "footer", "header", "aside", "form", "button")
_BLOCKS = (
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "li",
    "tr",
    "pre",
    "dt",
    "dd",
    "blockquote",
    "figcaption",
    "caption",
)
# A wrapped line joins with a space, but not where both sides are kana or Han characters, which need none.
_SOFT_BREAK = "\x00"
_WIDE = "[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"
_WIDE_BREAK = re.compile(f"(?<={_WIDE}){_SOFT_BREAK}(?={_WIDE})")
_FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)


def parse(data: bytes, media_type: str, document_id: str) -> Document:
    """A document of a file's bytes; raises `InvalidDocument` or `UnsupportedMedia` with the reason."""
    if not data.strip():
        raise InvalidDocument("the file is empty", remedy="Remove it from the source, or give it text.")
    if media_type == "text/markdown":
        return _markdown(decode(data), document_id)
    if media_type == "text/html":
        return _html(data, document_id)
    if media_type == "text/plain":
        text = decode(data).replace("\r\n", "\n")
        return document_of({"id": document_id, "text": text, "title": PurePath(document_id).stem})
    raise UnsupportedMedia(
        f"no parser for {media_type}", remedy=f"Convert it to one of: {', '.join(sorted(set(MEDIA_TYPES.values())))}."
    )


def decode(data: bytes) -> str:
    """UTF-8 with or without its mark; anything else is refused, because a guess would corrupt quotes."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidDocument(
            f"not UTF-8: byte {data[error.start]:#04x} at position {error.start}",
            remedy="Convert it to UTF-8, for example with `iconv -t UTF-8`.",
        ) from error


def document_of(fields: dict[str, Any]) -> Document:
    """A document of loosely typed fields, as JSON, CSV and front matter give them; raises `InvalidDocument`."""
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InvalidDocument("the document has no text", remedy="Give it a non-empty string as `text`.")
    identity = fields.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int) or not str(identity).strip():
        raise InvalidDocument("the document has no usable id", remedy="Give `_id` or `id` as text or a whole number.")
    for name in ("title", "url", "lang"):
        if not isinstance(fields.get(name) or "", str):
            raise InvalidDocument(f"`{name}` is not text", remedy=f"Give `{name}` as a string, or leave it out.")
    metadata = fields.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InvalidDocument("`metadata` is no object", remedy="Give `metadata` as an object of names and values.")
    groups = fields.get("groups") or []
    if not isinstance(groups, list | tuple) or not all(isinstance(g, str) for g in groups):
        raise InvalidDocument("`groups` is no list of names", remedy="Give `groups` as a list of strings.")
    if len(str(identity)) > 512:
        raise InvalidDocument(f"the id has {len(str(identity))} characters", remedy="Use at most 512.")
    try:
        document = Document(
            id=str(identity),
            text=text,
            title=fields.get("title") or "",
            url=fields.get("url") or "",
            lang=fields.get("lang") or "",
            metadata={str(key): _plain(value) for key, value in metadata.items()},
            groups=tuple(sorted(set(groups))),
        )
        document.model_dump_json()
    except ValueError as error:  # half of a surrogate pair, which JSON can spell and UTF-8 cannot
        raise InvalidDocument(
            "the document holds characters that are no Unicode text", remedy="Remove them."
        ) from error
    return document


def _plain(value: Any) -> Any:
    """JSON types alone: YAML reads dates, which become ISO strings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def _markdown(text: str, document_id: str) -> Document:
    fields: dict[str, Any] = {}
    if match := _FRONT_MATTER.match(text):
        try:
            fields = yaml.safe_load(match.group(1)) or {}
        except yaml.YAMLError as error:
            raise InvalidDocument(
                f"the front matter is no YAML: {error}", remedy="Mend the part between ---."
            ) from error
        if not isinstance(fields, dict):
            raise InvalidDocument("the front matter is no mapping", remedy="Write `name: value` lines between ---.")
        text = text[match.end() :]
    body = markdown_text(text)
    heading = re.search(r"^# (.+)$", body, re.MULTILINE)
    title = fields.get("title") or (heading.group(1) if heading else PurePath(document_id).stem)
    return document_of({**fields, "id": document_id, "title": title, "text": body})


def markdown_text(source: str) -> str:
    """Markdown without its inline markup; block structure as the module describes it."""
    from markdown_it import MarkdownIt

    blocks: list[str] = []
    row: list[str] | None = None
    header = False
    prefix = ""
    for token in MarkdownIt("commonmark").enable("table").parse(source):
        if token.type == "heading_open":
            prefix = "#" * int(token.tag[1]) + " "
        elif token.type == "list_item_open":
            prefix = "- "
        elif token.type == "thead_open":
            header = True
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close" and row is not None:
            blocks.append(table_row(row))
            if header:
                blocks.append(table_row(["---"] * len(row)))
            row, header = None, False
        elif token.type in ("fence", "code_block"):
            blocks.append(f"```{token.info.strip()}\n{token.content.rstrip()}\n```")
        elif token.type == "html_block":
            blocks.append(_soup(token.content).get_text(" ", strip=True))
        elif token.type == "inline":
            text = _inline_text(token)
            if row is not None:
                row.append(text)
            else:
                blocks.append(prefix + text)
                prefix = ""
    return join_blocks(blocks)


def table_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _inline_text(token: Token) -> str:
    parts = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(_SOFT_BREAK)
        elif child.type == "hardbreak":
            parts.append("\n")
        elif child.type == "image":
            parts.append(child.content)
    return _WIDE_BREAK.sub("", "".join(parts)).replace(_SOFT_BREAK, " ")


def join_blocks(blocks: list[str]) -> str:
    """Blocks with a blank line between them, except within a list or a table, whose lines stay together."""
    built = ""
    previous = ""
    for block in blocks:
        if not block.strip():
            continue
        same = any(block.startswith(mark) and previous.startswith(mark) for mark in ("- ", "| "))
        built += ("\n" if same else "\n\n" if built else "") + block
        previous = block
    return built


def html_body(source: str) -> str:
    """The text of a piece of HTML, as of a page."""
    root = _soup(source)
    for tag in root.find_all(_BOILERPLATE):
        tag.decompose()
    return _html_text(root)


def _soup(data: bytes | str) -> BeautifulSoup:
    from bs4 import BeautifulSoup

    return BeautifulSoup(data, "html.parser")


def _html(data: bytes, document_id: str) -> Document:
    try:
        soup = _soup(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        soup = _soup(data)  # the page may declare its own character set
        if not soup.declared_html_encoding:
            decode(data)
    root = soup.find("main") or soup.find("article") or soup.body or soup
    page = soup.find("html")
    link = soup.find("link", rel="canonical")
    heading = root.find("h1") or soup.find("h1")
    named = heading or soup.title
    title = named.get_text(" ", strip=True) if named else ""
    for tag in root.find_all(_BOILERPLATE):
        tag.decompose()
    return document_of(
        {
            "id": document_id,
            "title": title or PurePath(document_id).stem,
            "text": _html_text(root),
            "url": link.get("href") if link else "",
            "lang": page.get("lang") if page else "",
        }
    )


def _html_text(root: Tag | BeautifulSoup) -> str:
    blocks = []
    for tag in _block_tags(root):
        if tag.name == "tr":
            found = list(_outermost(tag, ("td", "th")))
            cells = [_words(cell.get_text(" ")) for cell in found]
            blocks.append(table_row(cells))
            if found and all(cell.name == "th" for cell in found):
                blocks.append(table_row(["---"] * len(cells)))
        elif tag.name == "pre":
            blocks.append(f"```\n{tag.get_text().strip()}\n```")
        else:
            own = _words("".join(_own_text(tag)))
            mark = (
                "#" * int(tag.name[1]) + " " if re.fullmatch(r"h[1-6]", tag.name) else "- " if tag.name == "li" else ""
            )
            blocks.append(mark + own if own else "")
    return join_blocks(blocks) or _words(root.get_text(" "))


def _block_tags(root: Tag | BeautifulSoup) -> Iterator[Tag]:
    """Blocks in order, less those inside a row or code."""
    return _outermost(root, ("tr", "pre"), _BLOCKS)


def _outermost(root: Tag | BeautifulSoup, names: tuple[str, ...], also: tuple[str, ...] = ()) -> Iterator[Tag]:
    """Tags of these names that are inside no other of them, and of `also`, in order.

    Deep nesting costs nothing here, unlike asking for parents, or for all cells of each row of tables within tables.
    """
    levels: list[Iterator[Any]] = [iter(root.children)]
    while levels:
        child = next(levels[-1], None)
        if child is None:
            levels.pop()
        elif name := getattr(child, "name", None):
            if name in names or name in also:
                yield child
            if name not in names:
                levels.append(iter(child.children))


def _own_text(tag: Tag) -> list[str]:
    """A block's text less that of the blocks inside it, which come on their own."""
    parts = []
    for child in tag.children:
        name = getattr(child, "name", None)
        if name is None:
            parts.append(str(child))
        elif name == "br":
            parts.append(" ")
        elif name not in (*_BLOCKS, "ul", "ol", "table", "dl"):
            parts.extend(_own_text(child))  # type: ignore[arg-type]
    return parts


def _words(text: str) -> str:
    return " ".join(text.split())
