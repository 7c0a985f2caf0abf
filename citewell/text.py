"""Words and sentences of any of the languages, for ranking and for checking support. Pure.

Words: runs of letters and digits, lower-cased, NFKC. Scripts without spaces (Han, kana) and Hangul, whose words
carry endings, are cut into character bigrams, the usual dictionary-free unit for them (McNamee and Mayfield,
"Character N-Gram Tokenization for European Language Text Retrieval", 2004, and the practice for CJK before it).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

import Stemmer
from sentencex import get_sentence_boundaries

# CJK ideographs, kana, Hangul: cut into bigrams. Everything else that is alphanumeric: a word.
_CJK = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af\u3005"
_TOKEN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:['’][^\W_{_CJK}]+)?", re.UNICODE)
_IS_CJK = re.compile(rf"[{_CJK}]")
_HIRAGANA = re.compile("[\u3040-\u309f]")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")

_STEMMERS = {"en": "english", "es": "spanish", "de": "german", "fr": "french", "it": "italian", "pt": "portuguese"}

# Words that carry no topic: a question shares them with any sentence. For Korean, bigrams of endings and of
# question words. Japanese needs no list: its function words and endings are written in hiragana, and
# bigrams that touch one are dropped below.
_STOP = {
    "en": frozenset(
        (
            "a an the of in on at to for from by with as is are was were be been being am do does did doing have "
            "has had can could will would shall should may might must i you he she it we they me him her us them "
            "my your his its our their this that these those what which who whom whose when where why how and or "
            "but if then than so not no nor there here about into over after before between during up down out "
            "off again any some all each more most other such only own same too very just also get got"
        ).split()
    ),
    "es": frozenset(
        (
            "el la los las un una unos unas de del al a en por para con sin sobre entre hasta desde y o u e ni "
            "que qué cual cuál cuáles quién quien cuándo cuando dónde donde cómo como cuánto cuánta cuántos "
            "cuántas cuanto es son era fue fueron ser estar está están ha han he hay se su sus mi mis tu tus me "
            "te le les lo nos si sí no ya más muy este esta estos estas ese esa eso esto aquel tiene tengo puedo "
            "puede pueden hacer hace"
        ).split()
    ),
    "de": frozenset(
        (
            "der die das den dem des ein eine einer eines einem einen und oder aber doch wenn als wie was wer wo wann "
            "warum welche welcher welches ich du er sie es wir ihr mich dich sich uns euch mein dein sein unser euer "
            "ist sind war waren bin bist sein wird werden wurde wurden hat haben hatte hatten kann können muss müssen "
            "soll sollen darf dürfen nicht kein keine mit von zu zum zur im in am an auf aus bei für über unter nach "
            "vor um durch gegen ohne bis auch nur noch schon sehr so dass daß man hier dort diese dieser dieses"
        ).split()
    ),
    "fr": frozenset(
        (
            "le la les l un une des du de d au aux et ou mais si que qu qui quoi dont où quand comment pourquoi quel "
            "quelle quels quelles je j tu il elle on nous vous ils elles me m te t se s lui leur leurs mon ma mes ton "
            "ta tes son sa ses notre nos votre vos ce cet cette ces c est sont était étaient être suis es a ai as ont "
            "avait avoir été fait faire peut peuvent puis dois doit ne n pas plus très en y à dans par pour sur sous "
            "avec sans entre vers chez aussi donc ni"
        ).split()
    ),
    "it": frozenset(
        (
            "il lo la i gli le l un uno una di a da in con su per tra fra del dello della dei degli delle d al allo "
            "alla ai agli alle dal dalla dai dalle nel nella nei nelle sul sulla sui sulle e ed o ma se che chi cui "
            "cosa come quando dove perché quale quali quanto io tu lui lei noi voi loro mi ti si ci vi mio tuo suo "
            "nostro vostro è sono era erano essere ho hai ha hanno aveva avere può possono posso deve non più molto "
            "anche questo questa questi queste quello quella c"
        ).split()
    ),
    "pt": frozenset(
        (
            "o a os as um uma uns umas de do da dos das em no na nos nas por pelo pela pelos pelas para com sem sobre "
            "entre até ao à aos às e ou mas se que quem qual quais quando onde como porque quanto eu tu ele ela nós "
            "vós eles elles elas me te lhe meu minha seu sua seus suas nosso é são era eram foi foram ser estar está "
            "estão tem têm tinha ter há pode podem posso deve não mais muito também este esta isto esse essa isso"
        ).split()
    ),
    "ko": frozenset(
        (
            "하는 하나 나요 습니 니다 입니 있나 있습 합니 되나 어떻 떻게 무엇 엇을 엇인 인가 가요 언제 어디 디에 에서 "
            "으로 까지 부터 누구 얼마 마나 할수 수있 있는 되는 은가 는가 해야 야하"
        ).split()
    ),
}


_FULL_STOP = re.compile(r"[。！？]+(?=\d)")
_TABLE_RULE = re.compile(r"\|[\s:|-]+\|?[ \t]*(?=\n|$)")
_NO_SENTENCE = re.compile(r"\s*(#{1,6}\s|\|[\s:|-]+\|?\s*$|```|---+\s*$)")


def normal(text: str) -> str:
    """NFKC, lower case."""
    return unicodedata.normalize("NFKC", text).lower()


def tokens(text: str) -> Iterator[str]:
    """Words, and bigrams of CJK runs (a run of one character is itself)."""
    for match in _TOKEN.finditer(normal(text)):
        run = match.group()
        if not _IS_CJK.match(run) or len(run) == 1:
            yield run
        else:
            yield from (run[i : i + 2] for i in range(len(run) - 1))


def stop_words(lang: str) -> frozenset[str]:
    """The language's words without a topic; none for a language that has no list."""
    return _STOP.get(lang, frozenset())


def stemmed(words: list[str], lang: str) -> list[str]:
    """Snowball stems where it knows the language, the words as they are elsewhere."""
    return list(_stemmer(lang).stemWords(words)) if lang in _STEMMERS else words


@cache
def _stemmer(lang: str) -> Stemmer.Stemmer:
    return Stemmer.Stemmer(_STEMMERS[lang])


def terms(text: str, lang: str) -> list[str]:
    """The words that carry the topic: stop words left out, stemmed by Snowball where it knows the language."""
    stop = stop_words(lang)
    found = [token for token in tokens(text) if token not in stop]
    if lang == "ja":
        found = [token for token in found if not _HIRAGANA.search(token)] or found
    return stemmed(found, lang)


def numbers(text: str) -> set[str]:
    """Numbers, dates and times as they stand, full-width digits folded; group separators do not tell them apart."""
    return {match.replace(",", "") for match in _NUMBER.findall(unicodedata.normalize("NFKC", text))}


def sentences(text: str, lang: str) -> list[tuple[int, int]]:
    """Half-open spans of the sentences of a passage, trimmed of white space and of list, table and quote marks.

    A line break ends a sentence (list items, table rows, headings), except inside wrapped prose, which the parsers
    have joined already. Headings (`# …`), table headers and rules are no sentences.
    """
    spans = []
    for line in re.finditer(r"[^\n]+", text):
        if _NO_SENTENCE.match(line.group()) or _TABLE_RULE.match(text, line.end() + 1):
            continue
        for boundary in get_sentence_boundaries(lang or "en", line.group()):
            first, last = line.start() + boundary["start_index"], line.start() + boundary["end_index"]
            for start, end in _at_full_stops(text, first, last):
                span = _trim(text, start, end)
                if span[0] < span[1]:
                    spans.append(span)
    return spans


def sentences_over(text: str, start: int, end: int, lang: str) -> list[tuple[int, int]]:
    """Those of `sentences` that hold some of `text[start:end]`, in order."""
    return [(first, last) for first, last in sentences(text, lang) if first < end and last > start]


def _at_full_stops(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut once more at ideographic full stops: the segmenter takes one before a figure for a decimal point."""
    for match in _FULL_STOP.finditer(text, start, end):
        yield start, match.end()
        start = match.end()
    yield start, end


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    lead = re.match(r"(?:\s|[|>•]|[-*+]\s|\d{1,2}[.)]\s)*", piece)
    start += lead.end() if lead else 0
    return start, start + len(text[start:end].rstrip().rstrip("|").rstrip())
