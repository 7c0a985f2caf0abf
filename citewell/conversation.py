"""Follow-up questions made self-contained by rules, so that a search finds what they mean. Pure and versioned.

A question that leans on what was said before gets that beside it: the whole former question where it is a fragment
("and in Spain?"), its topic where a pronoun stands for it ("how much does it weigh?"). Nothing is replaced, so that a
wrong guess adds words and loses none. A question that stands by itself stays as it is. docs/decisions/0025 has the
reasons.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from citewell.records import Question, Rewriting, Turn
from citewell.split import estimated_tokens
from citewell.text import normal, sentences, stop_words, terms

RULES_VERSION = "rules-1"

# How a fragment begins, which has no sense without the question before it.
_LEADS = {
    "en": re.compile(r"(?:and|but|or|also|then|so|what about|how about)\b"),
    "es": re.compile(r"[¿¡\s]*(?:y|e|o|pero|entonces|qué tal|qué hay de)\b"),
    "ja": re.compile(r"(?:では|じゃあ?|それでは|それなら|それと|そして|また|あと)[、,\s]*"),
    "ko": re.compile(r"(?:그럼|그러면|그리고|그런데|또|그렇다면)[,\s]*"),
}
# What stands for something that was named before.
_POINTERS = {
    "en": re.compile(r"\b(?:it|its|they|them|their|theirs|this|that|these|those|there|such)\b"),
    "es": re.compile(
        r"\b(?:ello|ellos|ellas|eso|esto|aquello|ese|esa|esos|esas|este|esta|estos|estas|lo|los|le|les|su|sus|allí|ahí)\b"
    ),
    "ja": re.compile(r"それ|これ|あれ|その|この|あの|そこ|ここ|そちら|そんな"),
    "ko": re.compile(
        r"(?:^|\s)(?:그것|이것|저것|그거|이거|그건|이건|그게|이게|그곳|거기|여기|그|이|저)"
        r"(?=\s|은|는|이|가|을|를|에|의|도|과|와|로|$)"
    ),
}  # fmt: skip
_PERSONS = {
    "en": re.compile(r"\b(?:he|him|his|she|her|hers|who else)\b"),
    "es": re.compile(r"\b(?:él|ella)\b"),
    "ja": re.compile(r"彼女?"),
    "ko": re.compile(r"(?:^|\s)(?:그녀|그분|그 사람)"),
}
# Words with which a pronoun points into its own question, as in "el que", "is it possible that", not back.
_FILLED = {
    "en": re.compile(r"\bis (?:it|there)\b|\bare there\b|\bthat (?:is|are|has|have)\b"),
    "es": re.compile(r"\b(?:lo|los) que\b|\blos\s+\w+s\b|\bde los\b"),
}
# A fragment in Japanese or Korean ends with its topic marker and has no verb.
_BARE = {"ja": re.compile(r"は[?？]?$"), "ko": re.compile(r"(?:은|는)(?:요)?[?？]?$")}
_NAME = re.compile(r"(?:[A-ZÁÉÍÓÚÑ][\w’'.+#-]*\w|[A-Z]+\d[\w-]*)(?:\s+(?:[A-ZÁÉÍÓÚÑ]|\d)[\w’'.+#-]*)*")
_TOPIC_JA = re.compile(r"^(.{2,40}?)(?:は|が|を|って|についての?|に(?=は))")
_RUN_JA = re.compile(r"[\u3400-\u9fff々]{2,}|[\u30a1-\u30fa\u30fc]{2,}|[A-Za-z][\w.+#-]*")
_WORD_KO = re.compile(r"[\w.+#-]+")
_PARTICLE_KO = re.compile(
    r"(?<=..)(?:에서는|에서|에게|으로|까지|부터|은|는|이|가|을|를|의|에|도|과|와|로)$|(?<=.)(?:은|는|을|를|의)$"
)
_ASKS_KO = re.compile(r"(?:[까요다니]|나)$|^(?:무엇|누구|언제|어디|얼마|몇|왜|어떻게|어떤|무슨|며칠)")
_WORD = re.compile(r"[^\W_][\w’'.+#-]*")
_ASKS = {
    "en": frozenset(
        "who whom whose what which when where why how much many long far often old big does do did is are was were can"
        " could should would will may might must have has had get take cost costs need tell me please".split()
    ),
    "es": frozenset(
        "quién quiénes qué cuál cuáles cuándo dónde cómo cuánto cuánta cuántos cuántas hay es son está están tiene"
        " tienen tengo puedo puede pueden debo dura cuesta cuestan tarda dime".split()
    ),
}


@dataclass(frozen=True)
class History:
    """How much of a conversation is looked at: the last `turns`, and of these about `tokens` tokens."""

    turns: int
    tokens: int

    def of(self, turns: Sequence[Turn], lang: str) -> list[Turn]:
        """The turns within the bounds, oldest first."""
        kept: list[Turn] = []
        left = self.tokens
        for turn in reversed(turns[-self.turns :] if self.turns else ()):
            left -= estimated_tokens(f"{turn.question} {turn.answer}", lang)
            if left < 0:
                break
            kept.insert(0, turn)
        return kept


def rewritten(question: Question, history: History, limit: int) -> Question:
    """A question of a conversation with its self-contained form, of at most `limit` characters.

    One that has such a form already keeps it, so that a replay asks what was asked. The earlier answers end here: the
    record keeps the questions alone, because what an answer quotes may be deleted, or not be for everybody's eyes.
    """
    if question.rewriting is not None or not question.conversation:
        return question
    kept = history.of(question.conversation, question.lang)
    text, reason = standalone(question.text, kept, question.lang)
    if len(text) > limit:
        text, reason = question.text, "the self-contained question would be longer than `question_limit`"
    told = Rewriting(
        text=text, by=RULES_VERSION, reason=reason, turns=len(kept), cut=len(question.conversation) - len(kept)
    )
    turns = tuple(Turn(question=turn.question) for turn in kept)
    return question.model_copy(update={"conversation": turns, "rewriting": told})


def standalone(text: str, turns: Sequence[Turn], lang: str) -> tuple[str, str]:
    """The question with what it leans on, and why: `fragment`, `pronoun`, `person`, or "" where it stands by itself."""
    before = answer = ""
    for turn in turns:
        before, answer = _leaning(turn.question.strip(), before, answer, lang)[0], turn.answer
    return _leaning(text, before, answer, lang)


def _leaning(text: str, before: str, answer: str, lang: str) -> tuple[str, str]:
    if not before:
        return text, ""
    said = normal(text)
    lead = _LEADS[lang].match(said) if lang in _LEADS else None
    if lead or _is_bare(said, lang):
        return f"{before} {text}", "fragment"
    if lang in _PERSONS and _PERSONS[lang].search(said) and (names := _names(answer, lang) or _names(before, lang)):
        return _beside(text, names[:1], lang), "person"
    looked = _FILLED[lang].sub(" ", said) if lang in _FILLED else said
    if lang in _POINTERS and _POINTERS[lang].search(looked):
        return _beside(text, _names(before, lang) or _topic(before, lang), lang), "pronoun"
    return text, ""


def _is_bare(said: str, lang: str) -> bool:
    """Whether a question has too few words of its own to be searched for."""
    if lang in _BARE:
        return bool(_BARE[lang].search(said.strip())) or len(_content(said, lang)) == 0
    return len(_content(said, lang)) < 2 and not any(pattern[lang].search(said) for pattern in (_POINTERS, _PERSONS)
                                                     if lang in pattern)  # fmt: skip


def _content(said: str, lang: str) -> list[str]:
    if lang == "ja":
        return _RUN_JA.findall(said)
    if lang == "ko":
        return _topic(said, lang)
    asks = _ASKS.get(lang, frozenset())
    words = [word for word in _WORD.findall(said) if word not in asks]
    return [word for word in words if terms(word, lang)]


def _beside(text: str, added: Sequence[str], lang: str) -> str:
    """The question with what is new of the words in brackets."""
    held = normal(text)
    new = [word for word in dict.fromkeys(added) if normal(word) not in held]
    if not new:
        return text
    return f"{text} ({'、'.join(new)})" if lang == "ja" else f"{text} ({' '.join(new)})"


def _names(text: str, lang: str) -> list[str]:
    """Names in the order of the text: words in capitals, but those that begin a sentence."""
    if lang in ("ja", "ko"):
        return re.findall(r"[A-Z][\w.+#-]*(?: [A-Z\d][\w.+#-]*)*", text)
    found = []
    for start, end in sentences(text, lang):
        sentence = text[start:end].lstrip("¿¡ ")
        for match in _NAME.finditer(sentence):
            name = match.group()
            first, _, rest = name.partition(" ")
            if match.start() == 0 and normal(first) in stop_words(lang) | _ASKS.get(lang, frozenset()):
                name = rest
            elif match.start() == 0 and not rest and not _states(sentence):
                name = ""
            if name:
                found.append(name)
    return found


def _states(sentence: str) -> bool:
    """Whether a sentence states something: then its first word may well be the name that a pronoun means."""
    return not sentence.rstrip().endswith(("?", "？"))


def _topic(text: str, lang: str) -> list[str]:
    """The words that a question is about, as they stand."""
    if lang == "ja":
        if match := _TOPIC_JA.match(text):
            return [match.group(1)]
        return _RUN_JA.findall(text)
    if lang == "ko":
        words = [word for word in _WORD_KO.findall(text) if not _ASKS_KO.search(word)]
        return [_PARTICLE_KO.sub("", word) for word in words]
    asks = _ASKS.get(lang, frozenset())
    words = [word for word in _WORD.findall(text) if normal(word) not in asks]
    return [word for word in words if normal(word) not in stop_words(lang)]
