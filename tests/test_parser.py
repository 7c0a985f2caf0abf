"""The child process that reads other programs' files: what it reads, and that a file which breaks it fails alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from citewell.ingest.items import Limits
from citewell.ingest.parser import Parser
from citewell.records import Document, Outcome
from tests import made_files as made

LIMITS = Limits(file_bytes=50_000_000, text_characters=1_000_000, parse_seconds=20, parse_bytes=300_000_000)


@pytest.fixture
def parser() -> Iterator[Parser]:
    opened = Parser(LIMITS)
    yield opened
    opened.close()


def read(parser: Parser, folder: Path, name: str, data: bytes) -> Document | Outcome:
    path = folder / name
    path.write_bytes(data)
    (item,) = parser.items(path, path.suffix, name)
    return item


def document(parser: Parser, folder: Path, name: str, data: bytes) -> Document:
    item = read(parser, folder, name, data)
    assert isinstance(item, Document), item
    return item


def failure(parser: Parser, folder: Path, name: str, data: bytes) -> Outcome:
    item = read(parser, folder, name, data)
    assert isinstance(item, Outcome), item
    assert item.status == "failed"
    assert item.doc_id == name
    assert item.remedy
    return item


def test_a_pdf_has_paragraphs_headings_and_pages(parser: Parser, tmp_path: Path) -> None:
    found = document(parser, tmp_path, "a.pdf", made.pdf_file())
    assert found.title == "A manual"
    pages = [found.text[a:b] for a, b in zip(found.pages, [*found.pages[1:], len(found.text)], strict=True)]
    assert len(pages) == 3
    assert pages[0].startswith(f"# Shipping\n\n{made.PARCEL} It is insured on its whole way. {made.PARCEL}")
    # How a heading is told from a line is the library's guess; the words and their page are not.
    assert pages[1].lstrip("# ").startswith("Returns")
    assert "Send it back within thirty days, and we pay the way. Send it back within" in pages[1]
    assert pages[2] == "The third page has no heading."


def test_word_keeps_every_character(parser: Parser, tmp_path: Path) -> None:
    found = document(parser, tmp_path, "a.docx", made.docx_file())
    assert found.title == "R&D handbook"
    assert found.text == (
        "# Types & sizes\n\nUse List<String> where 5 < 6 > 4, as AT&T does.\n\n"
        "| Place | Price |\n| --- | --- |\n| Spain | 6.90 € |"
    )


def test_slides_are_pages(parser: Parser, tmp_path: Path) -> None:
    found = document(parser, tmp_path, "a.pptx", made.pptx_file())
    assert found.text == "## First slide\n\nWords of one & more.\n\n## Second slide\n\nWords of two."
    assert found.pages == (0, found.text.index("## Second"))


def test_sheets_are_tables_without_empty_rows(parser: Parser, tmp_path: Path) -> None:
    found = document(parser, tmp_path, "a.xlsx", made.xlsx_file())
    assert found.text == ("## Prices\n\n| Place | Price |\n| --- | --- |\n| Spain & Italy | 6.9 |\n| Malta | 7 |")


def test_a_book(parser: Parser, tmp_path: Path) -> None:
    found = document(parser, tmp_path, "a.epub", made.epub_file())
    assert (found.title, found.lang) == ("Book of lamps", "en")
    assert found.text == "# Mounting\n\nBulbs & lamps.\n\n- one\n- two\n\n```\nx = 1\n```"


def test_mail_as_text_and_as_html(parser: Parser, tmp_path: Path) -> None:
    found = document(parser, tmp_path, "a.eml", made.eml_file())
    head = "From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: Late parcel, sí\n\n"
    assert found.text == head + "It is late.\n\nIt comes on Monday, sí."
    assert (found.title, found.metadata) == ("Late parcel, sí", {"attachments": ["bill.pdf"]})
    html = document(parser, tmp_path, "b.eml", made.eml_file(as_html=True))
    assert html.text == head + "It is late & wet.\n\n- Sí"


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("locked.pdf", lambda: made.pdf_file("secret"), "password"),
        ("locked.docx", lambda: made.locked_office(made.docx_file(), "secret"), "password"),
        ("old.xlsx", lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(1000), "older Office format"),
        ("cut.pdf", lambda: made.pdf_file()[:300], "no readable PDF"),
        ("cut.docx", lambda: made.docx_file()[:3000], "no readable DOCX"),
        ("cut.xlsx", lambda: made.xlsx_file()[:900], "no readable XLSX"),
        ("noise.pptx", lambda: b"noise " * 500, "no readable PPTX"),
        ("noise.epub", lambda: b"noise " * 500, "no readable EPUB"),
        ("noise.msg", lambda: b"noise " * 500, "no readable MSG"),
        ("noise.eml", lambda: b"\x00noise " * 500, "no e-mail"),
        ("empty.pdf", lambda: b"", "empty"),
        ("picture.pdf", lambda: made.pdf_that_draws_without_end(1), "no text"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(parser: Parser, tmp_path: Path, name: str, data, reason: str) -> None:  # type: ignore[no-untyped-def]
    assert reason in failure(parser, tmp_path, name, data()).reason


def test_bombs_fail_alone_and_the_next_file_is_read(tmp_path: Path) -> None:
    parser = Parser(Limits(50_000_000, 1_000_000, parse_seconds=60, parse_bytes=200_000_000))
    try:
        bomb = failure(parser, tmp_path, "bomb.pdf", made.pdf_that_unpacks_to(400))
        # One leap past both limits is refused inside the child, which may crash then: that reason names memory, too.
        assert "200000000 bytes of memory" in bomb.reason or "gets no more memory" in bomb.reason, bomb.reason
        assert document(parser, tmp_path, "a.eml", made.eml_file()).title
    finally:
        parser.close()
    parser = Parser(Limits(50_000_000, 1_000_000, parse_seconds=1, parse_bytes=4_000_000_000))
    try:
        started = time.monotonic()
        slow = failure(parser, tmp_path, "slow.pdf", made.pdf_that_draws_without_end())
        assert "longer than 1 seconds" in slow.reason
        assert time.monotonic() - started < 15
        assert document(parser, tmp_path, "b.eml", made.eml_file()).title
    finally:
        parser.close()


def test_one_process_serves_all_files_and_another_follows_one_that_was_killed(parser: Parser, tmp_path: Path) -> None:
    document(parser, tmp_path, "a.eml", made.eml_file())
    assert parser._process is not None
    first = parser._process.pid
    document(parser, tmp_path, "b.docx", made.docx_file())
    assert parser._process.pid == first
    parser._process.kill()
    parser._process.wait()
    assert "crashed" in failure(parser, tmp_path, "c.docx", made.docx_file()).reason
    assert document(parser, tmp_path, "c.docx", made.docx_file()).title
    last = parser._process.pid
    parser.close()
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


def test_a_module_of_the_working_directory_is_not_run(
    parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kreuzberg.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    document(parser, tmp_path, "a.docx", made.docx_file())
    assert not (tmp_path / "ran").exists()


def test_large_html_and_json_are_read_there_with_the_same_result(parser: Parser, tmp_path: Path) -> None:
    rows = b",".join(b'{"id": "%d", "text": "words"}' % n for n in range(3000))
    path = tmp_path / "many.json"
    path.write_bytes(b"[" + rows + b", {}]")
    items = list(parser.items(path, ".json", "many.json"))
    assert [item.id for item in items if isinstance(item, Document)] == [str(n) for n in range(3000)]
    assert [item.doc_id for item in items if isinstance(item, Outcome)] == ["many.json:3001"]
    deep = failure(parser, tmp_path, "deep.html", b"<p>" + b"<i>" * 60_000 + b"x")
    assert "nested too deeply" in deep.reason
