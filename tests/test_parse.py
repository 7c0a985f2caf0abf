"""Files to documents: the text a person would copy, and refusals that name their reason."""

from __future__ import annotations

import pytest

from citewell.errors import InvalidDocument, UnsupportedMedia
from citewell.parse import markdown_text, parse

PAGE = """<!doctype html><html lang="es"><head><title>Envíos | Tienda</title>
<link rel="canonical" href="https://t.example/es/envios"><style>p{}</style></head><body>
<nav><a href="/">Inicio</a></nav><main><h1>Envíos</h1>
<p>Enviamos a <b>toda</b> España
 en 3 días.</p><ul><li>Rápido</li><li>Barato<ul><li>Muy</li></ul></li></ul>
<table><tr><th>Destino</th><th>Precio</th></tr><tr><td>Baleares</td><td>6,90 €</td></tr></table>
<pre>a = 1
b = 2</pre><script>alert(1)</script></main><footer>Aviso legal</footer></body></html>"""


def test_html_keeps_the_words_and_drops_the_frame() -> None:
    document = parse(PAGE.encode(), "text/html", "es/envios.html")
    assert (document.title, document.lang, document.url) == ("Envíos", "es", "https://t.example/es/envios")
    assert document.text == (
        "# Envíos\n\nEnviamos a toda España en 3 días.\n\n- Rápido\n- Barato\n- Muy\n\n"
        "| Destino | Precio |\n| --- | --- |\n| Baleares | 6,90 € |\n\n```\na = 1\nb = 2\n```"
    )


def test_html_of_another_character_set_that_it_declares() -> None:
    page = '<html><head><meta charset="iso-8859-1"></head><body><p>Envíos a España</p></body></html>'
    assert parse(page.encode("iso-8859-1"), "text/html", "a.html").text == "Envíos a España"


def test_markdown_loses_its_inline_markup() -> None:
    source = "# Title\n\nA *short* [link](http://x) with `code`\nand a wrap.\n\n1. one\n2. two\n\n```py\nx = 1\n```\n"
    assert markdown_text(source) == (
        "# Title\n\nA short link with code and a wrap.\n\n- one\n- two\n\n```py\nx = 1\n```"
    )


def test_a_wrapped_japanese_line_gets_no_space() -> None:
    assert markdown_text("返品は三十日\n以内です。ABC\nDEF") == "返品は三十日以内です。ABC DEF"


def test_front_matter_becomes_fields() -> None:
    source = (
        b"---\ntitle: Hours\nurl: https://t.example/h\nlang: en\nmetadata: {updated: 2026-05-01}\n---\n# H\n\nOpen."
    )
    document = parse(source, "text/markdown", "h.md")
    assert (document.title, document.url, document.metadata) == (
        "Hours",
        "https://t.example/h",
        {"updated": "2026-05-01"},
    )
    assert document.text == "# H\n\nOpen."


@pytest.mark.parametrize(
    ("data", "media", "reason"),
    [
        (b"", "text/plain", "empty"),
        (b" \n", "text/html", "empty"),
        (b"\xff\xfe\x00caf\xe9", "text/plain", "not UTF-8"),
        (b"<html><body><p>caf\xe9</p></body></html>", "text/html", "not UTF-8"),
        (b"---\n{: bad\n---\ntext", "text/markdown", "front matter"),
        (b"---\n- a\n---\ntext", "text/markdown", "no mapping"),
        (b"<html><body><nav>menu</nav></body></html>", "text/html", "no text"),
    ],
)
def test_what_cannot_be_read_says_why_and_what_to_do(data: bytes, media: str, reason: str) -> None:
    with pytest.raises(InvalidDocument, match=reason) as caught:
        parse(data, media, "x")
    assert caught.value.remedy


def test_an_unknown_media_type_names_those_that_are_known() -> None:
    with pytest.raises(UnsupportedMedia) as caught:
        parse(b"x", "image/png", "x")
    assert "text/markdown" in caught.value.remedy


def test_tables_within_tables_say_everything_once() -> None:
    inner = "<table><tr><td>Spain</td><td>6.90</td></tr></table>"
    page = f"<body><table><tr><th>Place</th><th>Price</th></tr><tr><td>One</td><td>{inner}</td></tr></table></body>"
    found = parse(page.encode(), "text/html", "a").text
    assert found == "| Place | Price |\n| --- | --- |\n| One | Spain 6.90 |"
    # Open cells are nested, too: each text once, and time and text grow with the page alone.
    found = parse(b"<table>" + b"<tr><td>x" * 3000, "text/html", "a").text
    assert found.count("x") == 3000
