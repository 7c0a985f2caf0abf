"""Text to an ISO 639-1 code, by lingua restricted to the languages that the product knows by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lingua import LanguageDetector

# Chinese is left out until it has an analyzer: a Japanese question of Han characters alone would be taken for it.
KNOWN = ("en", "es", "ja", "ko", "de", "fr", "it", "pt")
DEFAULT = "en"
CJK = frozenset({"ja", "ko", "zh"})

# A page says its language early; more text only costs time.
_SAMPLE = 2000


@cache
def _detector() -> LanguageDetector:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in KNOWN]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()


def detect(text: str, default: str = DEFAULT) -> str:
    """The language of a text; `default` where it holds no words (numbers, symbols, nothing)."""
    language = _detector().detect_language_of(text[:_SAMPLE])
    return str(language.iso_code_639_1.name.lower()) if language is not None else default


def normalize(code: str) -> str:
    """A declared language tag (`en-GB`, `JA`, `es_ES`) as its primary subtag; empty stays empty."""
    return code.strip().lower().replace("_", "-").split("-")[0]
