"""Text as the words that full-text search compares, for passages and questions alike. Pure.

`words` and `stems` fill the fields of those names on both stacks, so that they rank alike. Elasticsearch's own
analyzers keep `os.path` in one piece, which a question seldom writes, and cut Korean at spaces alone; LanceDB's
tokenizers either know no Korean and Japanese (`icu`) or cut every script into pairs of characters (`ngram`), English
words and code too. Here letters stay words and are stemmed, and Han, kana and Hangul are cut into pairs within their
runs, after the endings that carry no topic are taken off. docs/LOG.md, "Words", has what each step gives. What comes
out is joined by spaces, so that the backend has nothing left to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from citewell.index.analysis import language_of
from citewell.records import Passage
from citewell.text import normal, stemmed, stop_words, tokens

_HANGUL = re.compile("[\uac00-\ud7af]+")
# A Chinese character by itself between kana is a word, which pairs of characters would never show alone.
_LONE_HAN = re.compile(r"(?<=[\u3040-\u30ff])[\u4e00-\u9fff](?=[\u3040-\u30ff])")
_HIRAGANA = re.compile("[\u3040-\u309f]")
# English possessives: `the performer's father` is asked for as `performer`. Stemming takes them off by itself.
_POSSESSIVE = re.compile("['\u2019]s$")
# Particles and endings, longest first: a noun followed by one is the same noun. After the list of josa and eomi of
# the National Institute of Korean Language's standard dictionary, those that are written onto the word.
_ENDINGS = tuple(
    sorted(
        (
            "은 는 이 가 을 를 의 에 에서 에게 께 께서 와 과 도 만 로 으로 부터 까지 처럼 보다 하고 "
            "이나 나 이라 라 이며 며 이란 란 인 들 적 하는 하여 해서 한다 합니다 하기 하면 하지 했다 "
            "된다 됩니다 되는 되어 되면 되지 할 한 함 됨 입니다 인가요 나요 습니까 습니다 이다 다 고 "
            "면 지 게 야 서 요 으면 으며 으로써 로써 으로서 로서 에는 에도 에서는 에서의 과의 와의 "
            "들을 들이 들은 들의 인데 는데 은데 려면 으려면 려고 아야 어야 해야 하려면 하나요 할까요 "
            "무엇인가요 인지 는지 은지 을까 까요 있나요 있습니까 합니까 됩니까 입니까"
        ).split(),
        key=len,
        reverse=True,
    )
)
# Endings pile up (`들` + `은`), and what is left must still be a word.
_MOST_ENDINGS = 2
_LEAST_STEM = 2


def searched_text(passage: Passage) -> str:
    """What full-text search reads of a passage: a title counts as a part of its text."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def words(text: str) -> str:
    """Every word as it stands, lower case; pairs of characters of scripts without spaces and of Hangul."""
    return " ".join(_pieces(text))


def question_words(text: str, lang: str) -> str:
    """The `words` of a question; "" for one that `stems` finds no topic in. Its small words help to rank."""
    return words(text) if stems(text, lang) else ""


def stems(text: str, lang: str) -> str:
    """The words that carry the topic, as the language's analyzer has them; "" for stop words alone.

    Latin words inside Japanese, Korean and Chinese text are English as a rule, and stemmed as such.
    """
    lang = language_of(lang)
    stop = stop_words(lang)
    if lang == "ko":
        text = _HANGUL.sub(lambda run: f" {_without_endings(run.group())} ", normal(text))
    found = [token for token in _pieces(text) if token not in stop]
    if lang == "ja":
        found = [token for token in found if not _HIRAGANA.search(token)] or found
    return " ".join(stemmed(found, "en" if lang in ("ja", "ko", "zh") else lang))


def _pieces(text: str) -> Iterator[str]:
    for token in tokens(text):
        yield _POSSESSIVE.sub("", token)
    yield from _LONE_HAN.findall(normal(text))


def _without_endings(word: str) -> str:
    for _ in range(_MOST_ENDINGS):
        ending = next((e for e in _ENDINGS if word.endswith(e) and len(word) - len(e) >= _LEAST_STEM), "")
        if not ending:
            break
        word = word.removesuffix(ending)
    return word
