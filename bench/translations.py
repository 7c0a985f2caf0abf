"""More to train a multilingual embedder on, from translators and dictionaries that Debian has as packages.

A set in another language, and its texts beside their translations, by a program that translates lines:

    apt-get install apertium apertium-eng-spa
    python bench/translations.py set ../shared/corpora/squad1-en-train --lang es --out build/squad1-es-apertium \\
        --by "apertium -u eng-spa"

writes OUT (`--pairs`) and OUT-parallel (`--parallel`), which has every passage and every second question.
The common words of a dictionary in EDICT's format, with what they mean:

    apt-get install edict
    python bench/translations.py words /usr/share/edict/edict --out build/edict
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from citewell.train.judged import JudgedSet, read_judged

# An entry: writings with ";" between, perhaps the readings, then the senses between slashes.
_ENTRY = re.compile(r"(?P<word>\S+) (?:\[[^\]]+\] )?/(?P<senses>.+)/$")
_NOTE = re.compile(r"\([^)]*\)|\{[^}]*\}")
_SENSES = 3


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
    given = parser.parse_args()
    given.run(given)


def translate(made_of: JudgedSet, lang: str, program: list[str], out: Path) -> None:
    passages = list(made_of.texts.values())
    titles, texts = lines([text.title for text in passages], program), lines([text.text for text in passages], program)
    asked = lines([question.text for question in made_of.questions], program)
    about = {"licence": made_of.licence, "attribution": f"{made_of.source}; translated by {program[0]}"}
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
        (folder / "meta.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
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
    about = {"licence": "CC BY-SA 3.0", "attribution": source}
    (out / "meta.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
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


def write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


if __name__ == "__main__":
    main()
