"""Numbers, dates and names: what a sentence may not say unless its passage says it. Pure.

Numbers are compared by value, so that `1,000`, `1.000`, `1 000`, full-width `１０００`, `1千` and `1 thousand` are one;
dates by their parts, so that `7 February 2016`, `2016-02-07`, `7 de febrero de 2016` and `2016年2月7日` are one; names
by their words, without case, accents and endings. What is a name depends on the script: a capital inside a sentence, a
run of katakana, Latin letters among others, the words before a title of persons or places in Japanese and Korean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from citewell.text import stemmed, stop_words

_MONTHS = {
    "en": "january february march april may june july august september october november december",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
}
_MONTH = {word: n for words in _MONTHS.values() for n, word in enumerate(words.split(), start=1)}
_MONTH |= {word[:3]: n for word, n in list(_MONTH.items()) if n and word in _MONTHS["en"].split()}
_MONTH |= {"sept": 9, "setiembre": 9}
_NAMED = "|".join(sorted(_MONTH, key=len, reverse=True))

# Each pattern names the parts that it finds: y, m (a number) or name (of a month), d. Where day and month are both
# numbers before a year, either order may be meant: one, other.
_DATES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?<![\d.,/-])(?P<y>\d{4})([-/.])(?P<m>\d{1,2})\2(?P<d>\d{1,2})(?!\d|[-/.]\d)",
        r"(?<![\d.,/-])(?P<one>\d{1,2})([-/.])(?P<other>\d{1,2})\2(?P<y>\d{4})(?!\d|[-/.]\d)",
        r"(?:(?<!\d)(?P<y>\d{1,4})\s?[年년]\s?)?(?<![\d.,])(?P<m>\d{1,2})\s?[月월](?:\s?(?P<d>\d{1,2})\s?[日일])?",
        rf"(?<![\d.,])(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.?º)?\s(?:of\s|de\s)?(?P<name>{_NAMED})\b\.?"
        r"(?:,?\s(?:of\s|de\s|del\s)?(?P<y>\d{4})(?!\d))?",
        rf"\b(?P<name>{_NAMED})\b\.?\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?!\d|[.:,]\d|%)(?:,?\s(?P<y>\d{{4}})(?!\d))?",
        rf"\b(?P<name>{_NAMED})\b\.?,?\s(?:of\s|de\s|del\s)?(?P<y>\d{{4}})(?!\d)",
    )
)

_NUMBER = re.compile(r"(?<!\d)(?:\d{1,3}(?:[ '’]\d{3})+(?!\d)|\d+)(?:[.,:/]\d+)*")
_BY_THOUSANDS = re.compile(r"\d{1,3}(?:([.,])\d{3})(?:\1\d{3})*")
_DECIMAL = re.compile(r"(\d+)[.,](\d+)")
_MIXED = re.compile(r"(\d{1,3}(?:([.,])\d{3})(?:\2\d{3})*)(?!\2)[.,](\d+)")
# Languages that write a comma before the fraction; elsewhere it is a point.
_COMMA = frozenset({"es", "de", "fr", "it", "pt"})

_SCALES = {
    "thousand": 10**3, "million": 10**6, "millions": 10**6, "billion": 10**9, "trillion": 10**12, "mil": 10**3,
    "millón": 10**6, "millones": 10**6, "mil millones": 10**9, "billón": 10**12, "billones": 10**12,
}  # fmt: skip
_SCALE = re.compile(r"\s(" + "|".join(sorted(_SCALES, key=len, reverse=True)) + r")\b", re.IGNORECASE)
_MYRIADS = {"千": 10**3, "천": 10**3, "万": 10**4, "만": 10**4, "億": 10**8, "억": 10**8, "兆": 10**12, "조": 10**12}
_COMPOSED = re.compile(rf"(?:\d[\d,]*(?:\.\d+)?\s?[{''.join(_MYRIADS)}]\s?)+(?:\d[\d,]*(?!\d|[.,]\d))?")
_STEP = re.compile(rf"(\d[\d,]*(?:\.\d+)?)\s?([{''.join(_MYRIADS)}]?)")

_WORDS = {
    "en": "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty",
    "es": "uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete "
    "dieciocho diecinueve veinte",
}
_SPELT = {lang: {word: str(n) for n, word in enumerate(words.split(), start=1)} for lang, words in _WORDS.items()}
_KANJI = {mark: n for n, mark in enumerate("〇一二三四五六七八九")}
# A kanji number counts where something is counted: `三` alone is as often part of a name.
_COUNTED = re.compile("([〇一二三四五六七八九十百千]+)(?=[年月日時分秒人円個回歳倍割台本枚名週]|か月|ヶ月)")

_WORD = re.compile(r"[^\W_]+(?:['’&][^\W_]+)*")
_POSSESSIVE = re.compile("['’]s?$")
_OPENS = re.compile(r"(?:^|[.:!?…;\n]|[\"“«(¿¡「『])\s*[\"“«(¿¡'‘*_#>•-]*\s*$")
_KATAKANA = re.compile("[ァ-ヺー]{3,}")
_LATIN = re.compile("[A-Za-zÀ-ɏ][A-Za-zÀ-ɏ0-9&+]*")
_PERSONS = "さん|氏|様|教授|博士|大統領|首相|県|府|市|区|町|村|州|駅|大学|神社|空港"
_TITLED = {
    "ja": re.compile(rf"([\u4e00-\u9fff々]{{2,6}}?)(?:{_PERSONS})"),
    "ko": re.compile(
        "([가-힣]{2,4})\\s?(?:씨|대통령|교수|박사|총리|장관|의원|감독|선수)(?![가-힣]{3})|"
        "([가-힣]{2,8})(?:특별시|광역시|대학교|공항)"
    ),
}


@dataclass(frozen=True)
class _Date:
    """Parts that are not told are None."""

    y: int | None
    m: int
    d: int | None


@dataclass(frozen=True)
class _Fact:
    """A number or a date of a sentence as it is written, and its readings, any one of which will do.

    A reading is a set of numbers that must all be there, or a date.
    """

    written: str
    readings: tuple[frozenset[str] | _Date, ...]


@dataclass(frozen=True)
class Stated:
    """What a text states: its numbers by value and its dates."""

    numbers: frozenset[str]
    dates: frozenset[_Date]

    def holds(self, fact: _Fact) -> bool:
        return any(self._holds(reading) for reading in fact.readings)

    def _holds(self, reading: frozenset[str] | _Date) -> bool:
        if isinstance(reading, frozenset):
            return reading <= self.numbers
        return any(self._same(reading, own) for own in self.dates)

    def _same(self, wanted: _Date, own: _Date) -> bool:
        """Whether the own date tells all that is wanted; a year may stand elsewhere in the text."""
        year = wanted.y is None or wanted.y == own.y or (own.y is None and str(wanted.y) in self.numbers)
        return wanted.m == own.m and year and (wanted.d is None or wanted.d == own.d)


def figures(text: str, lang: str) -> list[_Fact]:
    """The numbers and dates of a sentence."""
    return [fact for fact in _facts(_folded(text), lang) if fact.readings]


def stated(text: str, lang: str) -> Stated:
    """All that a passage states in numbers, under any reading."""
    numbers: set[str] = set()
    dates: set[_Date] = set()
    for fact in _facts(_folded(text), lang, whole=True):
        for reading in fact.readings:
            if isinstance(reading, frozenset):
                numbers |= reading
            else:
                dates.add(reading)
                numbers |= {str(part) for part in (reading.y, reading.d) if part is not None}
    return Stated(frozenset(numbers), frozenset(dates))


def unstated(sentence: str, passage: str, lang: str) -> list[str]:
    """The numbers, dates and names of a sentence that a passage does not hold, as they are written."""
    there = stated(passage, lang)
    lost = [fact.written for fact in figures(sentence, lang) if not there.holds(fact)]
    return lost + [name for name in names(sentence, lang) if not _occurs(name, passage, lang)]


def names(sentence: str, lang: str) -> list[str]:
    """What looks like a name in a sentence, each once, in order."""
    text = _undated(_folded(sentence))
    if lang in ("ja", "ko", "zh"):
        found = [word for word in _LATIN.findall(text) if any(letter.isupper() for letter in word)]
        found += _KATAKANA.findall(text)
        if pattern := _TITLED.get(lang):
            found += [next(filter(None, match.groups())) for match in pattern.finditer(text)]
    else:
        found = list(_capitals(text, lang))
    return list(dict.fromkeys(found))


def _capitals(text: str, lang: str) -> Iterator[str]:
    """Words with capitals. One that opens a sentence is a name only where its other letters, or the next word, say so.

    German writes every noun with one: there only capitals inside a word tell.
    """
    matches = list(_WORD.finditer(text))
    stop = stop_words(lang)
    for place, match in enumerate(matches):
        word = _POSSESSIVE.sub("", match.group())
        if word.lower() in stop or word[:1].isdigit() or not any(letter.isupper() for letter in word):
            continue
        inner = any(letter.isupper() for letter in word[1:])
        after = matches[place + 1].group() if place + 1 < len(matches) else ""
        joined = after[:1].isupper() and text[match.end() : matches[place + 1].start()] in (" ", "-")
        opens = bool(_OPENS.search(text[: match.start()]))
        if inner or (lang != "de" and (joined or not opens)):
            yield word


def _occurs(name: str, passage: str, lang: str) -> bool:
    text = _folded(passage)
    text += "\n" + _undated(text)
    if lang in ("ja", "ko", "zh"):
        return name in _LATIN.findall(text) if _LATIN.fullmatch(name) else name in text
    there = {_bare(word) for word in _WORD.findall(text)}
    there |= {_POSSESSIVE.sub("", word) for word in there}
    wanted = [_bare(word) for word in _WORD.findall(name)]
    stems = set(stemmed(sorted(there), lang))
    return all(word in there or stem in stems for word, stem in zip(wanted, stemmed(wanted, lang), strict=True))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _bare(word: str) -> str:
    """Without case and accents."""
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))


def _facts(text: str, lang: str, *, whole: bool = False) -> Iterator[_Fact]:
    """Dates first, then what is left of numbers; `whole` also reads words that are rarely meant as a number."""
    spans: list[tuple[int, int]] = []
    for pattern in _DATES:
        for match in pattern.finditer(_without(text, spans)):
            readings = tuple(_dates(match))
            if readings:
                spans.append(match.span())
                yield _Fact(match.group().strip(), readings)
    text = _without(text, spans)
    spans = []
    for match in _COMPOSED.finditer(text):
        spans.append(match.span())
        yield _Fact(match.group().strip(), (frozenset({_composed(match.group())}),))
    text = _without(text, spans)
    for match in _NUMBER.finditer(text):
        scale = _SCALE.match(text, match.end())
        yield _Fact(
            match.group() + (scale.group() if scale else ""),
            tuple(_readings(match.group(), lang, _SCALES[scale.group(1).lower()] if scale else 1)),
        )
    spelt = _SPELT.get(lang, {})
    for match in _WORD.finditer(text) if spelt else ():
        value = spelt.get(match.group().lower())
        if value and (whole or value != "1"):
            yield _Fact(match.group(), (frozenset({value}),))
    for match in _COUNTED.finditer(text):
        yield _Fact(match.group(), (frozenset({str(_kanji(match.group(1)))}),))


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with some of it blanked, so that the rest stays where it is; a mark keeps numbers apart."""
    for start, end in spans:
        text = text[:start] + "\0" * (end - start) + text[end:]
    return text


def _undated(text: str) -> str:
    return _without(text, [match.span() for pattern in _DATES for match in pattern.finditer(text)])


def _dates(match: re.Match[str]) -> Iterator[_Date]:
    parts = match.groupdict()
    year = int(parts["y"]) if parts.get("y") else None
    if parts.get("one"):
        one, other = int(parts["one"]), int(parts["other"])
        pairs = [(one, other), (other, one)]
    else:
        month = _MONTH[parts["name"].lower()] if parts.get("name") else int(parts["m"])
        pairs = [(int(parts["d"]) if parts.get("d") else 0, month)]
    for day, month in dict.fromkeys(pairs):
        if 1 <= month <= 12 and 0 <= day <= 31:
            yield _Date(year, month, day or None)


def _readings(written: str, lang: str, scale: int) -> Iterator[frozenset[str]]:
    """What a number may mean: groups of thousands by point, comma or space, or a fraction, by the language."""
    plain = re.sub("['’ ]", "", written)
    if " " in written:
        yield frozenset(_value(part, scale=1) for part in written.split(" ") if part.isdigit())
    if _BY_THOUSANDS.fullmatch(plain) and not plain.startswith("0"):
        yield frozenset({_value(re.sub("[.,]", "", plain), scale=scale)})
        mark = "," if lang in _COMMA else "."
        if plain.count(mark) == 1 and plain.count(".") + plain.count(",") == 1:
            yield frozenset({_value(plain.replace(",", "."), scale=scale)})
    elif match := _MIXED.fullmatch(plain):
        yield frozenset({_value(re.sub("[.,]", "", match[1]) + "." + match[3], scale=scale)})
    elif match := _DECIMAL.fullmatch(plain):
        yield frozenset({_value(f"{match[1]}.{match[2]}", scale=scale)})
    elif plain.isdigit():
        yield frozenset({_value(plain, scale=scale)})
    else:
        yield frozenset({plain})


def _value(digits: str, *, scale: int) -> str:
    """The number in one form: no needless zeros."""
    return format((Decimal(digits) * scale).normalize(), "f")


def _composed(text: str) -> str:
    """`1億2000万` and `1만 5천` as one number."""
    total = Decimal(0)
    for digits, unit in _STEP.findall(text):
        total += Decimal(digits.replace(",", "")) * _MYRIADS.get(unit, 1)
    return _value(str(total), scale=1)


def _kanji(text: str) -> int:
    """`二十三` is 23, `二〇一六` is 2016."""
    if not set(text) & set("十百千"):
        return int("".join(str(_KANJI[mark]) for mark in text))
    total, digit = 0, 0
    for mark in text:
        if mark in _KANJI:
            digit = _KANJI[mark]
        else:
            total += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[mark]
            digit = 0
    return total + digit
