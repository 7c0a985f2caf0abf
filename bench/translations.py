"""More to train a multilingual embedder on, from translators and dictionaries that Debian has as packages.

A set in another language, and its texts beside their translations, by a program that translates lines:

    apt-get install apertium apertium-eng-spa
    python bench/translations.py set ../shared/corpora/squad1-en-train --lang es --out build/squad1-es-apertium \\
        --by "apertium -u eng-spa"

writes OUT (`--pairs`) and OUT-parallel (`--parallel`), which has every passage and every second question.
The common words of a dictionary in EDICT's format, with what they mean:

    apt-get install edict
    python bench/translations.py words /usr/share/edict/edict --out build/edict

Pages that people translated, page by page, of manuals and handbooks:

    apt-get install libreoffice-help-en-us libreoffice-help-ko
    python bench/translations.py pages /usr/share/libreoffice/help/en-US /usr/share/libreoffice/help/ko --lang ko \\
        --out build/office-ko --licence MPL-2.0 --source "LibreOffice help, The Document Foundation"

Names and messages of programs, by GNU gettext's catalogues:

    python bench/translations.py messages /usr/share/locale/ko/LC_MESSAGES/iso_*.mo --lang ko --out build/names-ko \\
        --licence LGPL-2.1+ --source "iso-codes"

Every folder that a training is given has the same share of its language, so what is of a kind goes into one:

    python bench/translations.py join build/office-* build/gnome-* --out build/manuals
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning

from citewell.train.judged import JudgedSet, read_judged

# An entry: writings with ";" between, perhaps the readings, then the senses between slashes.
_ENTRY = re.compile(r"(?P<word>\S+) (?:\[[^\]]+\] )?/(?P<senses>.+)/$")
_NOTE = re.compile(r"\([^)]*\)|\{[^}]*\}")
_SENSES = 3
# HTML, and Mallard, which is GNOME's, by parser.
_PAGES = {".html": "lxml", ".page": "lxml-xml"}
_BLOCKS = ("h1", "h2", "h3", "h4", "h5", "h6", "p", "li", "dt", "dd", "td", "th", "title", "desc")
_OTHER_SCRIPTS = ("ja", "ko")
_PASSAGE = 500
# A text that is so many times as long as the other is not its translation.
_LONGER = 6
_MAGIC = b"\xde\x12\x04\x95"
_TAG = re.compile(r"<[^<>]{1,80}>")


# A handbook in XHTML is read as HTML.
warnings.filterwarnings("ignore", category=XMLParsedAsHTMLWarning)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("set")
    one.add_argument("set", type=Path)
    one.add_argument("--lang", required=True)
    one.add_argument("--by", required=True, help="a program that gives a line for each line")
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(run=lambda given: translate(read_judged(given.set), given.lang, shlex.split(given.by), given.out))
    other = commands.add_parser("words")
    other.add_argument("file", type=Path)
    other.add_argument("--out", type=Path, required=True)
    other.set_defaults(run=lambda given: words(given.file, given.out))
    third = commands.add_parser("pages")
    third.add_argument("own", type=Path)
    third.add_argument("other", type=Path)
    third.set_defaults(run=lambda given: pages(given.own, given.other, given.lang, given.out))
    fourth = commands.add_parser("messages")
    fourth.add_argument("files", type=Path, nargs="+")
    fourth.set_defaults(run=lambda given: messages(given.files, given.lang, given.out))
    for by_people in (third, fourth):
        by_people.add_argument("--lang", required=True)
        by_people.add_argument("--out", type=Path, required=True)
        by_people.add_argument("--licence", required=True)
        by_people.add_argument("--source", required=True)
    last = commands.add_parser("join")
    last.add_argument("folders", type=Path, nargs="+")
    last.add_argument("--out", type=Path, required=True)
    last.set_defaults(run=lambda given: join(given.folders, given.out))
    given = parser.parse_args()
    given.run(given)
    if "licence" in given:
        write_meta(given.out, given.licence, given.source)


def translate(made_of: JudgedSet, lang: str, program: list[str], out: Path) -> None:
    passages = list(made_of.texts.values())
    titles, texts = lines([text.title for text in passages], program), lines([text.text for text in passages], program)
    asked = lines([question.text for question in made_of.questions], program)
    rows = list(zip(passages, titles, texts, strict=True))
    write(out / "corpus.jsonl", ({"_id": own.id, "title": title, "text": text} for own, title, text in rows))
    questions = list(zip(made_of.questions, asked, strict=True))
    write(out / "queries.jsonl", ({"_id": own.id, "text": text, "lang": lang} for own, text in questions))
    judged = [f"{own.id}\t{key}\t{grade}" for own in made_of.questions for key, grade in own.grades.items()]
    (out / "qrels").mkdir(exist_ok=True)
    (out / "qrels" / "train.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n", "utf-8")
    pairs = [{"en": own.whole, lang: f"{title} {text}".strip()} for own, title, text in rows]
    pairs += [{"en": own.text, lang: text} for own, text in questions[::2]]
    beside = out.with_name(f"{out.name}-parallel")
    write(beside / f"{lang}.jsonl", pairs)
    for folder in (out, beside):
        write_meta(folder, made_of.licence, f"{made_of.source}; translated by {program[0]}")
    print(f"{out}: {len(passages)} passages, {len(questions)} questions, {len(pairs)} pairs", file=sys.stderr)


def lines(texts: list[str], program: list[str]) -> list[str]:
    given = "".join(" ".join(text.split()) + "\n" for text in texts)
    done = subprocess.run(program, input=given, capture_output=True, text=True, check=True)
    found = [" ".join(line.split()) for line in done.stdout.removesuffix("\n").split("\n")]
    if len(found) != len(texts):
        sys.exit(f"{program[0]} gave {len(found)} lines for {len(texts)}")
    return found


def words(file: Path, out: Path) -> None:
    pairs = list(entries(file.read_text("euc_jp", errors="replace").splitlines()))
    write(out / "ja.jsonl", pairs)
    source = "EDICT, Electronic Dictionary Research and Development Group, used in conformance with its licence"
    write_meta(out, "CC BY-SA 3.0", source)
    print(f"{out}: {len(pairs)} words", file=sys.stderr)


def entries(rows: Iterable[str]) -> Iterator[dict[str, str]]:
    """Each writing that is common, with the first meanings."""
    for row in rows:
        entry = _ENTRY.match(row)
        if entry is None or "/(P)" not in row:
            continue
        senses = [plain for part in entry["senses"].split("/") if (plain := " ".join(_NOTE.sub(" ", part).split()))]
        meaning = ", ".join(sense for sense in senses if not sense.startswith("EntL"))[:200]
        marked = "(P)" in row.partition("/")[0]  # one of several writings
        for word in entry["word"].split(";"):
            if (plain := _NOTE.sub("", word)) and ("(P)" in word or not marked):
                yield {"en": ", ".join(meaning.split(", ")[:_SENSES]), "ja": plain}


def pages(own: Path, other: Path, lang: str, out: Path) -> None:
    found: dict[str, str] = {}
    read = unlike = 0
    for file in sorted(path for path in own.rglob("*") if path.suffix in _PAGES):
        beside = other / file.relative_to(own)
        if not beside.is_file():
            continue
        blocks, others = blocks_of(file), blocks_of(beside)
        if len(blocks) != len(others):
            unlike += 1
            continue
        read += 1
        rows = [(a, b) for a, b in zip(blocks, others, strict=True) if translated(a, b, lang)]
        found |= dict([*rows, *passages(rows)])
    write(out / f"{lang}.jsonl", ({"en": text, lang: meant} for text, meant in found.items()))
    print(f"{out}: {len(found)} {lang} translations of {read} pages; {unlike} differ in structure", file=sys.stderr)


def blocks_of(page: Path) -> list[str]:
    """The texts of headings, paragraphs, items and cells, in their order."""
    tree = BeautifulSoup(page.read_bytes(), _PAGES[page.suffix])
    blocks = [one for one in tree.find_all(_BLOCKS) if one.find(_BLOCKS) is None]
    return [" ".join(one.get_text().split()) for one in blocks]


def translated(text: str, meant: str, lang: str) -> bool:
    """A page that is translated in part has texts that are not."""
    if text == meant or (lang in _OTHER_SCRIPTS and meant.isascii()):
        return False
    short, long = sorted((len(text), len(meant)))
    return short > 1 and long < short * _LONGER


def passages(rows: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Texts that follow each other, joined until they are as long as a passage."""
    run: list[tuple[str, str]] = []
    for row in rows:
        run.append(row)
        if sum(len(text) for text, _ in run) >= _PASSAGE:
            if len(run) > 1:
                yield " ".join(text for text, _ in run), " ".join(meant for _, meant in run)
            run = []


def messages(files: Sequence[Path], lang: str, out: Path) -> None:
    found = {text: meant for file in files for text, meant in catalogue(file) if translated(text, meant, lang)}
    write(out / f"{lang}.jsonl", ({"en": text, lang: meant} for text, meant in found.items()))
    print(f"{out}: {len(found)} {lang} messages of {len(files)} files", file=sys.stderr)


def catalogue(file: Path) -> Iterator[tuple[str, str]]:
    """The messages of a compiled catalogue, in the layout that the manual of GNU gettext gives ("GNU MO Files")."""
    whole = file.read_bytes()
    order = "<" if whole[:4] == _MAGIC else ">"
    _, _, count, own, other = struct.unpack(f"{order}5I", whole[:20])

    def text(table: int, number: int) -> str:
        size, start = struct.unpack_from(f"{order}2I", whole, table + number * 8)
        # Before \4 stands a context, after \0 a plural.
        one = whole[start : start + size].decode("utf-8", errors="replace").rpartition("\4")[2].partition("\0")[0]
        return " ".join(_TAG.sub(" ", one).replace("_", "").split())

    return ((text(own, number), text(other, number)) for number in range(1, count))


def join(folders: Sequence[Path], out: Path) -> None:
    rows: dict[str, dict[str, None]] = {}
    told = []
    for folder in folders:
        told.append(json.loads((folder / "meta.json").read_text("utf-8")))
        for file in sorted(folder.glob("*.jsonl")):
            rows.setdefault(file.name, {}).update(dict.fromkeys(file.read_text("utf-8").splitlines()))
    for name, lines in rows.items():
        write(out / name, map(json.loads, lines))
    write_meta(out, *("; ".join(dict.fromkeys(one[key] for one in told)) for key in ("licence", "attribution")))
    print(f"{out}: " + ", ".join(f"{len(lines)} in {name}" for name, lines in rows.items()), file=sys.stderr)


def write_meta(folder: Path, licence: str, attribution: str) -> None:
    about = {"licence": licence, "attribution": attribution}
    (folder / "meta.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", "utf-8")


def write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    main()
