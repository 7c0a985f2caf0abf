"""Where the headings, tables and code of a text lie. Pure.

The text is as `citewell.parse` writes it: headings as `# …`, tables as lines that begin with `|`, code between fences.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^\n]*")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S[^\n]*)")
_TABLE = re.compile(r" {0,3}\|")
# Headings alone, one or more.
HEADINGS = re.compile(r"(?:#{1,6} [^\n]*\s*)+")
_BETWEEN = " > "


@dataclass(frozen=True)
class Outline:
    """Of one text: `headings` as (start, level, words), `blocks` as spans of its tables and code, in order."""

    headings: tuple[tuple[int, int, str], ...]
    blocks: tuple[tuple[int, int], ...]

    def path(self, position: int) -> str:
        """The headings above a position of the text, outermost first, joined by ` > `."""
        starts, paths = self._paths
        at = bisect_right(starts, position)
        return paths[at - 1] if at else ""

    def blocks_within(self, start: int, end: int) -> list[tuple[int, int]]:
        """The blocks that lie in a part of the text, as offsets in it."""
        return [(first - start, last - start) for first, last in self.blocks if start <= first and last <= end]

    @cached_property
    def _paths(self) -> tuple[list[int], list[str]]:
        above: list[tuple[int, str]] = []
        paths = []
        for _, level, words in self.headings:
            while above and above[-1][0] >= level:
                above.pop()
            above.append((level, words))
            paths.append(_BETWEEN.join(words for _, words in above))
        return [start for start, _, _ in self.headings], paths


def path_within(heading: str, text: str, position: int) -> str:
    """The headings above a position of a passage: `heading` is the path at the passage's first words.

    A passage that begins below its heading does not know its level, so a heading that comes later in it stands alone.
    """
    inside = outline(text)
    path = inside.path(position)
    if not path:
        return heading
    levels = [level for start, level, _ in inside.headings if start <= position]
    leading = HEADINGS.match(text)
    if leading and min(levels) == levels[0]:
        return heading.removesuffix(inside.path(leading.end() - 1)) + path
    return path


def outline(text: str) -> Outline:
    """The outline of a text. A fence that is never closed is no code: it would hide every heading behind it."""
    headings: list[tuple[int, int, str]] = []
    blocks: list[tuple[int, int]] = []
    lines = list(_lines(text))
    closing = _closings([line for _, line in lines])
    number = 0
    while number < len(lines):
        start, line = lines[number]
        last = closing.get(number, number)
        if last == number and _TABLE.match(line):
            while last + 1 < len(lines) and _TABLE.match(lines[last + 1][1]):
                last += 1
        if last > number:
            blocks.append((start, lines[last][0] + len(lines[last][1])))
        elif heading := _HEADING.fullmatch(line):
            headings.append((start, len(heading[1]), heading[2].strip()))
        number = last + 1
    return Outline(tuple(headings), tuple(blocks))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with its start, without its end."""
    start = 0
    for line in text.split("\n"):
        yield start, line.removesuffix("\r")
        start += len(line) + 1


def _closings(lines: list[str]) -> dict[int, int]:
    """The line that closes the fence which each opening line opens."""
    found: dict[int, int] = {}
    opened, mark = -1, ""
    for number, line in enumerate(lines):
        fence = _FENCE.fullmatch(line)
        if fence is None:
            continue
        if opened < 0:
            opened, mark = number, fence[1]
        elif fence[1].startswith(mark) and line.strip() == fence[1]:
            found[opened] = number
            opened = -1
    return found
