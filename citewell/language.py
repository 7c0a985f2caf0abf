"""Text to an ISO 639-1 code, by lingua restricted to the languages that the product knows by name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lingua import LanguageDetector

# Chinese is left out until it has an analyzer: a Japanese question of Han characters alone would be taken for it.
KNOWN = ("en", "es", "ja", "ko", "de", "fr", "it", "pt")
# What a question is taken for, unless it says its language: those with words, refusals and prompts of their own.
ASKED = ("en", "es", "ja", "ko")
DEFAULT = "en"
CJK = frozenset({"ja", "ko", "zh"})

# A page says its language early; more text only costs time.
_SAMPLE = 2000


@cache
def _detector(among: tuple[str, ...]) -> LanguageDetector:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in among]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()


def detect(text: str, default: str = DEFAULT, *, among: tuple[str, ...] = KNOWN) -> str:
    """The language of a text; `default` where it holds no words (numbers, symbols, nothing).

    Two words can be of many languages: whoever needs one of a few says so in `among`.
    """
    language = _detector(among).detect_language_of(text[:_SAMPLE])
    return str(language.iso_code_639_1.name.lower()) if language is not None else default


def normalize(code: str) -> str:
    """A declared language tag (`en-GB`, `JA`, `es_ES`) as its primary subtag; empty stays empty."""
    return code.strip().lower().replace("_", "-").split("-")[0]
