"""How much of a reference answer a given answer has: exact match and F1 over words, as SQuAD measures them. Pure.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text", and its evaluation script
(lower case, no punctuation, no articles). Japanese and Korean, whose words no space or no stable ending separates, are
compared by characters, as JaQuAD (So et al. 2022) and KorQuAD 1.0 (Lim et al. 2019) do.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

_ARTICLES = {
    "en": re.compile(r"\b(a|an|the)\b"),
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
}
_BY_CHARACTER = ("ja", "ko", "zh")


def normalized(text: str, lang: str = "en", *, articles: bool = False) -> str:
    """Lower case without punctuation and more than one space in a row; also without articles, unless wanted."""
    lowered = unicodedata.normalize("NFKC", text).lower()
    bare = "".join(c for c in lowered if not unicodedata.category(c).startswith(("P", "S")))
    known = None if articles else _ARTICLES.get(lang)
    return " ".join((known.sub(" ", bare) if known else bare).split())


def exact_match(answer: str, references: Iterable[str], lang: str = "en") -> float:
    """1.0 when the answer is one of the references, both normalized; else 0.0."""
    own = normalized(answer, lang)
    return float(any(own == normalized(reference, lang) for reference in references))


def f1(answer: str, references: Iterable[str], lang: str = "en") -> float:
    """The greatest F1 with any of the references, in [0, 1]: over words, or characters in Japanese and Korean."""
    own = units(answer, lang)
    return max((_f1(own, units(reference, lang)) for reference in references), default=0.0)


def holds(answer: str, references: Iterable[str], lang: str = "en") -> float:
    """1.0 when one of the references stands in the answer as a whole, both normalized; else 0.0.

    An answer in sentences cannot match "30 days" exactly and has a low F1 with it, however right it is.
    """
    own = units(answer, lang)
    for reference in references:
        other = units(reference, lang)
        if other and any(own[at : at + len(other)] == other for at in range(len(own) - len(other) + 1)):
            return 1.0
    return 0.0


def by_character(lang: str) -> bool:
    """Whether a language is compared by characters."""
    return lang in _BY_CHARACTER


def units(text: str, lang: str, *, articles: bool = False) -> list[str]:
    """What is compared: the words of the normalized text, or its characters in Japanese, Korean and Chinese."""
    clean = normalized(text, lang, articles=articles)
    return list(clean.replace(" ", "")) if by_character(lang) else clean.split()


def _f1(own: list[str], reference: list[str]) -> float:
    if not own or not reference:
        return float(own == reference)
    common = sum((Counter(own) & Counter(reference)).values())
    if not common:
        return 0.0
    precision, recall = common / len(own), common / len(reference)
    return 2 * precision * recall / (precision + recall)
