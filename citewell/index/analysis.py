"""How Elasticsearch cuts each language into words: one table. Adding a language is one entry here.

The question's language chooses the sub-field `text.CODE`; a question in a language that is not in the table, or in none
that could be told, is searched in `words` alone. LanceDB's words are cut by `citewell.index.words`, to the same end.
The table is part of what an index is made of: a new entry needs a new index version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Language:
    """`analyzer` is Elasticsearch's, of the sub-fields `text.CODE` and `title.CODE`; `plugin` is what it needs."""

    analyzer: str
    plugin: str = ""


LANGUAGES: dict[str, Language] = {
    "en": Language("english"),
    "es": Language("spanish"),
    "ja": Language("kuromoji", plugin="analysis-kuromoji"),
    "ko": Language("nori", plugin="analysis-nori"),
    "de": Language("german"),
    "fr": Language("french"),
    "it": Language("italian"),
    "pt": Language("portuguese"),
    "zh": Language("cjk"),
}


def language_of(code: str, among: Iterable[str] = LANGUAGES) -> str:
    """The table's code for a language tag (`en-GB` is `en`), or "" when the table has none."""
    base = code.replace("_", "-").partition("-")[0].lower()
    return base if base in among else ""


def sub_fields(languages: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Elasticsearch's sub-fields of a text field, one a language; norms and positions as the standard mapping has."""
    return {code: {"type": "text", "analyzer": LANGUAGES[code].analyzer} for code in languages}


def plugins() -> list[str]:
    """The plugins that Elasticsearch needs for the table's analyzers."""
    return sorted({language.plugin for language in LANGUAGES.values() if language.plugin})
