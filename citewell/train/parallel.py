"""Texts with their translations from JSON lines: `{"en": TEXT, "ko": TRANSLATION}`, other keys are left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from citewell.errors import BadInput
from citewell.evaluate.collection import packed_or_not, text_lines
from citewell.train.marked import text_hash

_CODE = re.compile(r"[a-z]{2,3}")
# A name of two or three letters that is no language.
_NOT_CODES = ("id", "url")


@dataclass(frozen=True)
class Translation:
    """A text in the teacher's language and the same in another; `source` names the file or folder it was given with."""

    teacher: str
    other: str
    lang: str
    source: str = ""


def read_parallel(file: Path, own: str = "en") -> list[Translation]:
    """Every pair of a file, or of each file in a folder; raises `BadInput` that names file and line.

    `own` is the teacher's language.
    """
    files = sorted(path for path in file.iterdir() if ".jsonl" in path.suffixes) if file.is_dir() else [file]
    found = [one for each in files for one in _of(each, own, file.name)]
    if not found:
        raise BadInput(f"{file} has no translations", remedy=f'One {{"{own}": TEXT, "ko": TRANSLATION}} a line.')
    return found


def _of(file: Path, own: str, source: str) -> list[Translation]:
    found = []
    for number, line in text_lines(packed_or_not(file)):
        try:
            row = json.loads(line)
            codes = [key for key in row if _CODE.fullmatch(key) and key != own and key not in _NOT_CODES]
            given = [str(row[own]), str(row[codes[0]])]
            if len(codes) != 1:
                raise ValueError(f"one language beside `{own}`, not {', '.join(codes)}")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BadInput(
                f"{file}, line {number}: no translation: {error}",
                remedy=f'One {{"{own}": TEXT, "ko": TRANSLATION}} a line.',
            ) from None
        if all(text.strip() for text in given):
            found.append(Translation(given[0], given[1], codes[0], source))
    return found


def without(pairs: Sequence[Translation], hashes: Collection[str]) -> list[Translation]:
    """The pairs less those of which either side is among these, as `text_hash` has them."""
    return [one for one in pairs if text_hash(one.teacher) not in hashes and text_hash(one.other) not in hashes]
