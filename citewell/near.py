"""Whether two wordings ask the same, as far as words can tell. Pure.

Vectors are near for questions that differ in one number, one name or one `not`, and those have other answers. So where
the vectors agree these are compared: numbers, names, negations, words that turn a question round, and the words that
carry the topic, stemmed. What may differ is their order, their endings and all the words around them.
"""

from __future__ import annotations

import re
import unicodedata

from citewell.text import normal, numbers, stop_words, terms

_NEGATIONS = {
    "en": re.compile(r"\b(?:not?|never|without|none|nobody|nothing|neither|nor|cannot|except|unable)\b|n['’]t\b"),
    "es": re.compile(r"\b(?:no|nunca|jamás|sin|ni|nadie|nada|ningun[oa]?|ningún|tampoco|excepto|salvo)\b"),
    "de": re.compile(r"\b(?:nicht|kein\w*|nie|niemals|ohne|niemand|nichts|weder|außer)\b"),
    "fr": re.compile(r"\b(?:pas|jamais|sans|rien|personne|aucune?|ni|sauf)\b|\bn['’e]"),
    "it": re.compile(r"\b(?:non|mai|senza|nessun\w*|niente|nulla|né|tranne)\b"),
    "pt": re.compile(r"\b(?:não|nunca|jamais|sem|ninguém|nada|nenhum\w*|nem|exceto)\b"),
    "ja": re.compile(r"ない|なく|なけれ|なかっ|ません|ずに|以外|未"),
    "ko": re.compile(r"않|못|없|아니|아닌|말고|제외|안\s"),
}
# Each pair's words ask for different things however near the rest is.
_OPPOSITES = (
    "before after", "first last", "oldest youngest", "oldest newest", "most least", "more less", "maximum minimum",
    "max min", "highest lowest", "largest smallest", "longest shortest", "open close", "opened closed", "start end",
    "start stop", "begin end", "begins ends", "enable disable", "on off", "in out", "import export", "read write",
    "encode decode", "create delete", "add remove", "install uninstall", "left right", "up down", "north south",
    "east west", "win lose", "won lost", "buy sell", "increase decrease", "above below", "old new", "male female",
    "antes después", "primero último", "primera última", "más menos", "máximo mínimo", "mayor menor", "abrir cerrar",
    "comprar vender", "norte sur", "este oeste", "nuevo viejo",
    "前 後", "最初 最後", "最大 最小", "最高 最低", "開始 終了", "以上 以下", "북 남", "전 후", "처음 마지막",
    "최대 최소", "최고 최저", "시작 종료", "이상 이하",
)  # fmt: skip
# Question words, by what they ask for; a `when` is no `where`.
_ASKED = {
    "en": ("who whom whose", "when", "where", "why", "how"),
    "es": ("quién quien quiénes", "cuándo cuando", "dónde donde", "cómo como", "cuánto cuánta cuántos cuántas"),
    "ja": ("誰 だれ", "いつ 何年 何月", "どこ", "なぜ どうして", "どう", "いくつ いくら 何人"),
    "ko": ("누구 누가", "언제", "어디", "왜", "어떻게", "얼마 몇"),
}  # fmt: skip
_HANDLE = re.compile(r"[`\"“”'‘’«»「」『』][^`\"“”'‘’«»「」『』]+[`\"“”'‘’«»「」『』]|\S*[_\\/=<>()\[\]{}@#$%&*+]\S*")
_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc]{2,}")
_LATIN = re.compile(r"[A-Za-z][A-Za-z0-9.+#-]*")
_WORD = re.compile(r"\w[\w’'.+#-]*")


def agree(one: str, other: str, lang: str) -> bool:
    """Whether nothing that was looked at tells the two questions apart."""
    first, second = normal(one), normal(other)
    return (
        numbers(one) == numbers(other)
        and names(one, lang) == names(other, lang)
        and _negated(first, lang) == _negated(second, lang)
        and _asked(first, lang) == _asked(second, lang)
        and frozenset(terms(one, lang)) == frozenset(terms(other, lang))
        and not any(_turned(pair, first, second) for pair in _OPPOSITES)
    )


def names(text: str, lang: str) -> frozenset[str]:
    """What looks like a name: capitals in a sentence, identifiers, quoted words; foreign words in Japanese, Korean."""
    text = unicodedata.normalize("NFKC", text)
    found = {normal(match).strip("`\"“”'‘’«»「」『』?.,!") for match in _HANDLE.findall(text)}
    if lang in ("ja", "ko", "zh"):
        found |= {normal(match) for match in _LATIN.findall(text) + _KATAKANA.findall(text)}
    else:
        words = [match.group().rstrip(".'’-") for match in _WORD.finditer(text)]
        inner = {word for word in words[1:] if any(letter.isupper() for letter in word)}
        # The first word is a name only if the rest of it says so: `NASA`, `iPhone`, `C++`.
        inner |= {word for word in words[:1] if any(letter.isupper() for letter in word[1:])}
        found |= {normal(word).removesuffix("'s").removesuffix("’s") for word in inner}
    return frozenset(found - stop_words(lang) - {""})


def _negated(text: str, lang: str) -> bool:
    pattern = _NEGATIONS.get(lang, _NEGATIONS["en"])
    return len(pattern.findall(text)) % 2 == 1


def _asked(text: str, lang: str) -> tuple[bool, ...]:
    spaced = f" {' '.join(_WORD.findall(text))} " if lang not in ("ja", "ko") else text
    around = " {} " if lang not in ("ja", "ko") else "{}"
    return tuple(any(around.format(word) in spaced for word in group.split()) for group in _ASKED.get(lang, ()))


def _turned(pair: str, one: str, other: str) -> bool:
    left, right = pair.split()
    return (_has(left, one), _has(right, one)) == (_has(right, other), _has(left, other)) and _has(left, one) != _has(
        right, one
    )


def _has(word: str, text: str) -> bool:
    spaced = word[0] < "\u3000"  # words of scripts without spaces stand anywhere
    return bool(re.search(rf"\b{word}\b", text)) if spaced else word in text
