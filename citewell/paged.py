"""The lines of printed pages to running text, and where in it each page begins. Pure.

A printed line ends where the paper does. Here lines become paragraphs again, so that a sentence can be quoted whole,
also one that goes on behind a page's end. Words that a line's end had cut are joined where the file says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

# A line is full, and its paragraph may go on, from this share of the page's long lines.
_FULL = 0.75
_LEAST = 12
# The first or last line of a page is a running one when so many pages have it.
_RUNNING = 3
_SENTENCE_END = re.compile(r"""[.!?:;。！？…]["'”’»)\]]*$""")
_ITEM = re.compile(r"^(?:[•▪◦‣●○■□–—*-]|\d{1,3}[.)])\s+(?=\S)")
_BULLET = re.compile(r"^[•▪◦‣●○■□–—*-]\s+")
_WIDE_END, _WIDE_START = (
    re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]$"),
    re.compile(r"^[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]"),
)
# What PDF readers put where a word was cut, and what is no text at all.
_CUT_WORD = re.compile("[\x02\ufffe\u00ad]\r?\n?")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_MOST_LINES = 4
Headings = Mapping[str, int]


def running_text(pages: Sequence[str], headings: Sequence[Headings] = ()) -> tuple[str, tuple[int, ...]]:
    """The text of all pages, and the offset of each page in it.

    `headings` gives, for each page, the words of its headings with their levels, 1 to 6.
    """
    split = [_lines(page) for page in pages]
    running = _running(split)
    told: set[str] = set()
    built, offsets = "", []
    full = False
    for number, lines in enumerate(split):
        lines = _without_running(lines, running, told)  # noqa: PLW2901
        blocks = _marked(lines, headings[number] if number < len(headings) else {})
        text, ends_full = _joined(blocks)
        goes_on = full and text and not text.startswith(("#", "- "))
        between = "" if not built else _between(built, text) if goes_on else "\n\n"
        if text:
            built += between
        offsets.append(len(built))
        built += text
        full = ends_full if text else full
    return built, tuple(offsets)


def heading_key(text: str) -> str:
    """Words alone: a heading is found again although quotes and spaces are written in another way."""
    return re.sub(r"\W+", "", text.lower())


def _lines(page: str) -> list[str]:
    whole = _CONTROLS.sub("", _CUT_WORD.sub("", page))
    return [" ".join(line.split()) for line in re.split(r"\r?\n|\r", whole)]


def _edges(lines: Sequence[str]) -> list[int]:
    """The first and the last line that is not empty."""
    filled = [at for at, line in enumerate(lines) if line]
    return sorted({filled[0], filled[-1]}) if filled else []


def _without_number(line: str) -> str:
    return re.sub(r"^\d+\s*|\s*\d+$", "", line)


def _running(pages: Sequence[Sequence[str]]) -> set[str]:
    """Headers and footers, less their page numbers; "" where the number stands alone."""
    counts = Counter(key for lines in pages for key in {_without_number(lines[at]) for at in _edges(lines)})
    return {key for key, count in counts.items() if count >= _RUNNING}


def _without_running(lines: list[str], running: set[str], told: set[str]) -> list[str]:
    """The lines less headers and footers that came before; the first of each stays, because it may be a title."""
    kept = list(lines)
    for at in _edges(lines):
        key = _without_number(lines[at])
        if key in running:
            if key in told or not key:
                kept[at] = ""
            told.add(key)
    return kept


def _marked(lines: Sequence[str], headings: Headings) -> list[str]:
    """Lines with headings as `# …` and items as `- …`; a heading over several lines becomes one."""
    keys = {heading_key(words): level for words, level in headings.items()}
    marked: list[str] = []
    at = 0
    while at < len(lines):
        taken = 0
        for count in range(min(_MOST_LINES, len(lines) - at), 0, -1):
            level = keys.get(heading_key("".join(lines[at : at + count])))
            if lines[at] and level:
                marked.append("#" * level + " " + " ".join(" ".join(lines[at : at + count]).split()))
                taken = count
                break
        if not taken:
            marked.append(_BULLET.sub("- ", lines[at]))
        at += taken or 1
    return marked


def _joined(lines: Sequence[str]) -> tuple[str, bool]:
    """Paragraphs of one page's lines, and whether the last line is full and its sentence open."""
    lengths = sorted(len(line) for line in lines if line and not line.startswith("#"))
    wide = max(_FULL * lengths[int(0.9 * (len(lengths) - 1))], _LEAST) if lengths else 0
    built, previous, gap = "", "", False
    for line in lines:
        if not line:
            gap = bool(built)
            continue
        built += ("\n\n" if gap and built else _separator(previous, line, wide) if previous else "") + line
        previous, gap = line, False
    is_open = len(previous) >= wide and not _SENTENCE_END.search(previous) and not previous.startswith("#")
    return built, bool(previous) and is_open


def _separator(line: str, following: str, wide: float) -> str:
    if line.startswith("#") or following.startswith("#"):
        return "\n\n"
    if _ITEM.match(following):
        return "\n" if _ITEM.match(line) or len(line) < wide or _SENTENCE_END.search(line) else "\n\n"
    if len(line) >= wide:
        return _between(line, following)
    if _SENTENCE_END.search(line):
        return "\n\n"
    return _between(line, following) if following[:1].islower() else "\n"


def _between(before: str, after: str) -> str:
    """Nothing between kana or Han characters, which need no space; a space elsewhere."""
    return "" if _WIDE_END.search(before) and _WIDE_START.search(after) else " "
