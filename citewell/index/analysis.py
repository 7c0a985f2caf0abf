"""Which languages full-text search knows, and how each is cut into words: one table. A new language is one entry.

Most are cut and stemmed by `citewell.index.words` into the field `stems`, alike on both stacks. Where Elasticsearch has
a morphological analyzer, a sub-field `text.CODE` has its words instead. The table is part of what an index is made of:
a new entry needs a new index version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Language:
    """`analyzer` is Elasticsearch's, of `text.CODE` and `title.CODE`, "" for `stems`; `plugin` is what it needs."""

    analyzer: str = ""
    plugin: str = ""


LANGUAGES: dict[str, Language] = {
    "en": Language(),
    "es": Language(),
    "ja": Language("kuromoji", plugin="analysis-kuromoji"),
    "ko": Language("nori", plugin="analysis-nori"),
    "de": Language(),
    "fr": Language(),
    "it": Language(),
    "pt": Language(),
    "zh": Language(),
}


def language_of(code: str, among: Iterable[str] = LANGUAGES) -> str:
    """The table's code for a language tag (`en-GB` is `en`), or "" when the table has none."""
    base = code.replace("_", "-").partition("-")[0].lower()
    return base if base in among else ""


def sub_fields(languages: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Elasticsearch's sub-fields of a text field, one a language that has an analyzer."""
    return {code: {"type": "text", "analyzer": name} for code in languages if (name := LANGUAGES[code].analyzer)}


def plugins() -> list[str]:
    """The plugins that Elasticsearch needs for the table's analyzers."""
    return sorted({language.plugin for language in LANGUAGES.values() if language.plugin})
