"""How each language is cut into words, in both backends: one table. Adding a language is one entry here.

The question's language chooses the analyzer; a question in a language that is not in the table, or in none that could
be told, is searched with the general analyzer of the backend (Elasticsearch `standard`, LanceDB `icu`).
The table is part of what an index is made of: a new entry needs a new index version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# LanceDB columns that hold title and text for full-text search. `fts` is the general one.
GENERAL_COLUMN = "fts"
# ICU cuts every script into words by dictionary, where LanceDB's default takes a Japanese sentence for one word.
GENERAL_TOKENIZER: dict[str, Any] = {"base_tokenizer": "icu", "stem": False, "remove_stop_words": False}
# Two-character pieces find Japanese, Korean and Chinese words inside text without a dictionary on the machine.
_BIGRAMS: dict[str, Any] = {
    "base_tokenizer": "ngram",
    "ngram_min_length": 2,
    "ngram_max_length": 2,
    "stem": False,
    "remove_stop_words": False,
}


@dataclass(frozen=True)
class Language:
    """`analyzer` is Elasticsearch's, of the sub-fields `text.CODE` and `title.CODE`; `column` and `tokenizer` are
    LanceDB's column and the options of its `FTS` index. `plugin` is what Elasticsearch needs for the analyzer."""

    analyzer: str
    column: str
    tokenizer: dict[str, Any] = field(default_factory=dict)
    plugin: str = ""


LANGUAGES: dict[str, Language] = {
    "en": Language("english", "fts_en", {"language": "English"}),
    "es": Language("spanish", "fts_es", {"language": "Spanish"}),
    "ja": Language("kuromoji", "fts_cjk", _BIGRAMS, plugin="analysis-kuromoji"),
    "ko": Language("nori", "fts_cjk", _BIGRAMS, plugin="analysis-nori"),
    "zh": Language("cjk", "fts_cjk", _BIGRAMS),
}


def language_of(code: str) -> str:
    """The table's code for a language tag (`en-GB` is `en`), or "" when the table has none."""
    base = code.replace("_", "-").partition("-")[0].lower()
    return base if base in LANGUAGES else ""


def full_text_columns() -> dict[str, dict[str, Any]]:
    """LanceDB's full-text columns with their tokenizer options, the general one first."""
    columns = {GENERAL_COLUMN: GENERAL_TOKENIZER}
    for language in LANGUAGES.values():
        columns[language.column] = language.tokenizer
    return columns


def sub_fields() -> dict[str, dict[str, Any]]:
    """Elasticsearch's sub-fields of a text field, one a language; norms and positions as the standard mapping has."""
    return {code: {"type": "text", "analyzer": language.analyzer} for code, language in LANGUAGES.items()}


def plugins() -> list[str]:
    """The plugins that Elasticsearch needs for the table's analyzers."""
    return sorted({language.plugin for language in LANGUAGES.values() if language.plugin})
