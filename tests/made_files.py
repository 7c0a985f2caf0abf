"""Files of other programs, made for tests: by their own libraries, or by hand where they are to be broken."""

from __future__ import annotations

import io
import zipfile
import zlib
from email.message import EmailMessage

PARCEL = "The parcel leaves our warehouse within two days."


def pdf_file(password: str = "") -> bytes:
    """Three pages with headings; the second one's last sentence goes on at the third."""
    from fpdf import FPDF

    made = FPDF()
    made.set_title("A manual")
    if password:
        made.set_encryption(owner_password="owner", user_password=password)
    for heading, body in (
        ("Shipping", f"{PARCEL} It is insured on its whole way. " * 3),
        ("Returns", "Send it back within thirty days, and we pay the way. " * 3),
        ("", "The third page has no heading."),
    ):
        made.add_page()
        if heading:
            made.set_font("helvetica", size=24)
            made.cell(0, 12, heading, new_x="LMARGIN", new_y="NEXT")
        made.set_font("helvetica", size=11)
        made.multi_cell(0, 6, body)
    return bytes(made.output())


def docx_file() -> bytes:
    import docx

    made = docx.Document()
    made.core_properties.title = "R&D handbook"
    made.add_heading("Types & sizes", 1)
    made.add_paragraph("Use List<String> where 5 < 6 > 4, as AT&T does.")
    table = made.add_table(2, 2)
    for at, words in enumerate(("Place", "Price", "Spain", "6.90 €")):
        table.cell(at // 2, at % 2).text = words
    return _saved(made)


def pptx_file() -> bytes:
    import pptx

    made = pptx.Presentation()
    for title, body in (("First slide", "Words of one & more."), ("Second slide", "Words of two.")):
        slide = made.slides.add_slide(made.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
    return _saved(made)


def xlsx_file() -> bytes:
    import openpyxl

    made = openpyxl.Workbook()
    made.active.title = "Prices"
    for row in (["Place", "Price"], ["Spain & Italy", 6.9], [None, None], ["Malta", 7]):
        made.active.append(row)
    return _saved(made)


def _saved(made: object) -> bytes:
    buffer = io.BytesIO()
    made.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def locked_office(plain: bytes, password: str) -> bytes:
    from msoffcrypto.format.ooxml import OOXMLFile

    buffer = io.BytesIO()
    OOXMLFile(io.BytesIO(plain)).encrypt(password, buffer)
    return buffer.getvalue()


def epub_file() -> bytes:
    container = (
        '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
        '<rootfiles><rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:identifier id="id">x</dc:identifier>'
        "<dc:title>Book of lamps</dc:title><dc:language>en</dc:language></metadata><manifest>"
        '<item id="c1" href="c1.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c1"/></spine></package>'
    )
    chapter = (
        '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head><body><h1>Mounting</h1>'
        "<p>Bulbs &amp; <b>lamps</b>.</p><ul><li>one</li><li>two</li></ul><pre>x = 1</pre></body></html>"
    )
    return zip_file(
        {"mimetype": b"application/epub+zip", "META-INF/container.xml": container, "book.opf": package,
         "c1.xhtml": chapter}
    )  # fmt: skip


def eml_file(*, as_html: bool = False) -> bytes:
    made = EmailMessage()
    made["Subject"], made["From"], made["To"] = "Late parcel, sí", "Ann <ann@example.org>", "bob@example.org"
    if as_html:
        made.set_content("<p>It is <b>late</b> &amp; wet.</p><ul><li>Sí</li></ul>", subtype="html")
    else:
        made.set_content("It is late.\n\nIt comes on Monday, sí.\n")
        made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="bill.pdf")
    return bytes(made)


def zip_file(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def raw_pdf(objects: list[tuple[bytes, bytes | None]]) -> bytes:
    """A PDF of (dictionary, stream or None) objects; the first is its catalog."""
    out, places = b"%PDF-1.4\n", []
    for number, (head, stream) in enumerate(objects, start=1):
        places.append(len(out))
        body = b"<<" + head + b">>"
        if stream is not None:
            body = b"<<%s/Length %d>>\nstream\n%s\nendstream" % (head, len(stream), stream)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(places) + 1
    return out + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
        % (size, table, size, len(out))
    )


_PAGE = [
    (b"/Type/Catalog/Pages 2 0 R", None),
    (b"/Type/Pages/Kids[3 0 R]/Count 1", None),
    (
        b"/Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R"
        b"/Resources<</XObject<</X 6 0 R>>/Font<</F1 5 0 R>>>>",
        None,
    ),
]
_FONT = (b"/Type/Font/Subtype/Type1/BaseFont/Helvetica", None)


def pdf_that_unpacks_to(megabytes: int) -> bytes:
    """One page whose text is packed a hundredfold and more."""
    packer = zlib.compressobj(9)
    piece = b"BT /F1 9 Tf 10 10 Td (a big word) Tj ET\n" * 25_000
    packed = b"".join(packer.compress(piece) for _ in range(megabytes)) + packer.flush()
    return raw_pdf([*_PAGE, (b"/Filter/FlateDecode", packed), _FONT])


def pdf_that_draws_without_end(depth: int = 12) -> bytes:
    """A form that draws another ten times, which draws another ten times, and so on; the last one draws nothing."""
    forms: list[tuple[bytes, bytes | None]] = []
    for at in range(depth):
        head = b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %d 0 R>>>>" % (7 + at)
        forms.append((head, b"/X Do " * 10 if at < depth - 1 else b" "))
    return raw_pdf([*_PAGE, (b"", b"/X Do"), _FONT, *forms])
