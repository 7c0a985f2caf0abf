"""Files of other programs to documents: PDF, Office, EPUB and e-mail. Runs in the parser's child process.

`kreuzberg` reads the files; nothing is recognised in pictures, and nothing is fetched. What it gives is put into the
text that `citewell.parse` describes. `.eml` is read by Python's own parser, which decodes HTML bodies fully.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from citewell.errors import InvalidDocument
from citewell.paged import running_text
from citewell.parse import document_of, html_body, join_blocks, table_row
from citewell.records import Document

if TYPE_CHECKING:
    from email.message import EmailMessage

    from kreuzberg import ExtractionResult

_OFFICE = "application/vnd.openxmlformats-officedocument"
MEDIA_TYPES = {
    ".pdf": "application/pdf",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".epub": "application/epub+zip",
    ".eml": "message/rfc822",
    ".msg": "application/vnd.ms-outlook",
}
_PAGE_MARK = "\n\ncitewell-page-{page_num}-begins\n\n"
_PAGE_MARKED = re.compile(r"citewell-page-(\d+)-begins")
# The head of a compound file: Office's older formats, and its newer ones behind a password.
_COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1")
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
# kreuzberg 4.10 loses XML's references in Word documents (`AT&amp;T` becomes `ATT`, `5 &lt; 6` becomes `5 6`). They
# travel through it as code points that Unicode keeps free for a program's own use.
_REFERENCE = re.compile(rb"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(amp|lt|gt|quot|apos));")
_NAMED = {b"amp": "&", b"lt": "<", b"gt": ">", b"quot": '"', b"apos": "'"}
_CARRIED = {char: chr(0xFDD0 + at) for at, char in enumerate(_NAMED.values())}
_BACK = str.maketrans({carrier: char for char, carrier in _CARRIED.items()})


def read(data: bytes, kind: str, document_id: str) -> Document:
    """A document of a file's bytes; `kind` is its suffix. Raises `InvalidDocument` with the reason."""
    if not data:
        raise InvalidDocument("the file is empty", remedy="Remove it from the source, or give it text.")
    if kind == ".eml":
        return _mail(data, document_id)
    if kind in (".docx", ".pptx", ".xlsx"):
        data = _office(data, kind)
    result = _extracted(data, kind)
    nodes = list(_body(result))
    pages: tuple[int, ...] = ()
    if kind == ".pdf":
        headings: list[dict[str, int]] = [{} for _ in result.pages or ()]
        for node in nodes:
            if node["content"]["node_type"] in ("heading", "title") and 0 < (node.get("page") or 0) <= len(headings):
                headings[node["page"] - 1][node["content"]["text"]] = node["content"].get("level", 1)
        text, pages = running_text([page["content"] for page in result.pages or ()], headings)
    else:
        text, pages = _text([node["content"] for node in nodes])
    if not text.strip():
        raise InvalidDocument(
            "the file has no text: its pages are pictures, or empty",
            remedy="Let a program for text recognition add the text, for example `ocrmypdf`.",
        )
    return _document(text.translate(_BACK), pages, dict(result.metadata), document_id)


def _extracted(data: bytes, kind: str) -> ExtractionResult:
    import kreuzberg

    config = kreuzberg.ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format="markdown",
        include_document_structure=True,
        pages=kreuzberg.PageConfig(extract_pages=True, insert_page_markers=kind == ".pptx", marker_format=_PAGE_MARK),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
    )
    try:
        return kreuzberg.extract_bytes_sync(data, MEDIA_TYPES[kind], config)
    except kreuzberg.KreuzbergError as error:
        if "password" in str(error).lower():
            raise _locked() from error
        raise InvalidDocument(
            f"the file is no readable {kind[1:].upper()}: {error}",
            remedy="Open it where it was made and save it again.",
        ) from error


def _locked() -> InvalidDocument:
    return InvalidDocument("the file is protected by a password", remedy="Save it without one.")


def _office(data: bytes, kind: str) -> bytes:
    if data.startswith(_COMPOUND):
        if _ENCRYPTED in data:
            raise _locked()
        raise InvalidDocument("the file is of an older Office format", remedy=f"Save it as {kind}.")
    return _with_references(data) if kind == ".docx" else data


def _with_references(data: bytes) -> bytes:
    """A Word document whose text has carriers in place of XML's references; pictures are left out."""
    built = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(built, "w") as target:
            for name in source.namelist():
                if name.endswith((".xml", ".rels")):
                    part = source.read(name)
                    target.writestr(name, _REFERENCE.sub(_carried, part) if name.startswith("word/") else part)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise InvalidDocument(
            f"the file is no readable DOCX: {error}", remedy="Open it where it was made and save it again."
        ) from error
    return built.getvalue()


def _carried(match: re.Match[bytes]) -> bytes:
    hexadecimal, decimal, name = match.groups()
    number = int(hexadecimal, 16) if hexadecimal else int(decimal) if decimal else ord(_NAMED[name])
    if not 0x20 <= number <= 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        return match[0]
    return _CARRIED.get(chr(number), chr(number)).encode()


def _body(result: ExtractionResult) -> Iterator[dict[str, Any]]:
    """Nodes in reading order, without running headers and footers."""
    for node in result.document["nodes"] if result.document else ():
        if node.get("content_layer") not in ("header", "footer"):
            yield dict(node)


def _text(nodes: Sequence[dict[str, Any]]) -> tuple[str, tuple[int, ...]]:
    """The text of the nodes, and where pages begin: a slide's mark stands before its blocks."""
    parts: list[list[str]] = [[]]
    for node in nodes:
        block = _block(node)
        if _PAGE_MARKED.fullmatch(block):
            parts.append([])
        else:
            parts[-1].append(block)
    built, offsets = "", []
    for blocks in parts if len(parts) == 1 else parts[1:]:
        text = join_blocks(blocks)
        built += "\n\n" if built and text else ""
        offsets.append(len(built))
        built += text
    return built, tuple(offsets) if len(parts) > 1 else ()


def _block(content: dict[str, Any]) -> str:
    kind, text = content["node_type"], content.get("text") or ""
    if kind in ("heading", "title"):
        block = "#" * min(content.get("level") or 1, 6) + " " + " ".join(text.split())
    elif kind == "list_item":
        block = "- " + " ".join(text.split())
    elif kind == "table":
        block = _table(content["grid"])
    elif kind == "code":
        block = f"```{content.get('language') or ''}\n{text.rstrip()}\n```"
    elif kind == "metadata_block":
        block = "\n".join(f"{name}: {value}" for name, value in content.get("entries", ()))
    elif kind in ("group", "list", "quote", "page_break", "image"):  # what they hold comes on its own
        block = ""
    else:
        block = "\n".join(" ".join(line.split()) for line in text.splitlines())
    return block


def _table(grid: dict[str, Any]) -> str:
    """Rows; the first is the header. Rows without a word are left out: a sheet may have thousands."""
    rows = [[""] * grid["cols"] for _ in range(grid["rows"])]
    for cell in grid["cells"]:
        if cell["row"] < grid["rows"] and cell["col"] < grid["cols"]:
            rows[cell["row"]][cell["col"]] = " ".join(cell["content"].split())
    filled = [table_row(row) for row in rows if any(row)]
    return "\n".join([*filled[:1], table_row(["---"] * grid["cols"]), *filled[1:]]) if filled else ""


def _document(text: str, pages: tuple[int, ...], told: dict[str, Any], document_id: str) -> Document:
    heading = re.search(r"^#{1,2} (.+)$", text, re.MULTILINE)
    named = told.get("title") or told.get("subject")
    title = str(named).translate(_BACK).strip() if named else heading[1] if heading else ""
    names = {"authors": told.get("authors"), "attachments": told.get("attachments")}
    document = document_of(
        {
            "id": document_id,
            "title": title or PurePath(document_id).stem,
            "text": text,
            "lang": told.get("language") or "",
            "metadata": {name: value for name, value in names.items() if value},
        }
    )
    return document.model_copy(update={"pages": pages})


def _mail(data: bytes, document_id: str) -> Document:
    """Subject, sender, receiver, date and body; attachments are named in the metadata and not read."""
    from email import message_from_bytes
    from email.policy import default

    message: EmailMessage = message_from_bytes(data, policy=default)
    headers = {name: str(message[name]) for name in ("From", "To", "Cc", "Date", "Subject") if message[name]}
    if not headers:
        raise InvalidDocument("the file is no e-mail: it has no header", remedy="Export it again as .eml.")
    body = message.get_body(preferencelist=("plain", "html"))
    try:
        content = str(body.get_content()) if body is not None else ""
    except (LookupError, UnicodeError) as error:
        raise InvalidDocument(f"the body cannot be decoded: {error}", remedy="Export it again as .eml.") from error
    if body is not None and body.get_content_type() == "text/html":
        content = html_body(content)
    head = "\n".join(f"{name}: {' '.join(value.split())}" for name, value in headers.items())
    attachments = [name for part in message.iter_attachments() if (name := part.get_filename())]
    told = {"subject": headers.get("Subject"), "attachments": attachments}
    text = head + "\n\n" + "\n".join(line.rstrip() for line in content.strip().splitlines())
    return _document(text, (), told, document_id)
