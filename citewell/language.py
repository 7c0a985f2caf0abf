"""Text to an ISO 639-1 code, by lingua restricted to the languages that the product knows by name."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from citewell.text import stop_words

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
# Small words tell a long text's language in a tenth of the time, where they leave no doubt: at least this share of its
# words is on one language's list alone, and any other list has few of them (docs/LOG.md, "Plain texts").
_PLAIN_SAMPLE = 600
_PLAIN_WORDS = 30
_PLAIN_SHARE = 0.15
_PLAIN_MARGIN = 5
_WORD = re.compile(r"[^\W\d_]+")
# Letters that none of the languages with such lists is written in.
_FOREIGN = re.compile("[\u0370-\u1fff\u2c00-\ud7ff\uf900-\uffef]")


@cache
def _detector(among: tuple[str, ...]) -> LanguageDetector:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    codes = [getattr(IsoCode639_1, code.upper()) for code in among]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()


def detect(text: str, default: str = DEFAULT, *, among: tuple[str, ...] = KNOWN) -> str:
    """The language of a text; `default` where it holds no words (numbers, symbols, nothing).

    Two words can be of many languages: whoever needs one of a few says so in `among`.
    """
    if among == KNOWN and (plain := _plain(text[:_PLAIN_SAMPLE])):
        return plain
    language = _detector(among).detect_language_of(text[:_SAMPLE])
    return str(language.iso_code_639_1.name.lower()) if language is not None else default


def _plain(text: str) -> str:
    """The language of a text whose small words leave no doubt, else ""."""
    words = [] if _FOREIGN.search(text) else _WORD.findall(text.lower())
    if len(words) < _PLAIN_WORDS:
        return ""
    lists = _small_words()
    found = [lists[word] for word in words if word in lists]
    best = max(sorted(set(found)), key=found.count, default="")
    count = found.count(best)
    alone = count >= _PLAIN_MARGIN * max((found.count(other) for other in set(found) - {best}), default=0)
    return best if alone and count >= _PLAIN_SHARE * len(words) else ""


@cache
def _small_words() -> dict[str, str]:
    """Words of two letters or more that are on the list of one language alone, with that language."""
    of: dict[str, set[str]] = {}
    for lang in set(KNOWN) - CJK:
        for word in stop_words(lang):
            of.setdefault(word, set()).add(lang)
    return {word: min(langs) for word, langs in of.items() if len(langs) == 1 and len(word) > 1}


def normalize(code: str) -> str:
    """A declared language tag (`en-GB`, `JA`, `es_ES`) as its primary subtag; empty stays empty."""
    return code.strip().lower().replace("_", "-").split("-")[0]
