"""Two sets of one: the same documents, the questions in halves, to train with one and ask the other.

    python bench/halves.py build/tiny/held-out build/halves

Writes build/halves/trained and build/halves/asked. Every other question of a document goes to each.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from citewell.train.invented import write_set
from citewell.train.marked import read_set


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    whole = read_set(given.set)
    for place, name in enumerate(("trained", "asked")):
        part = dataclasses.replace(whole, name=f"{whole.name}, {name}", questions=whole.questions[place::2])
        write_set(part, given.out / name)
        print(f"{given.out / name}: {len(part.questions)} questions, {len(part.texts)} documents")


if __name__ == "__main__":
    main()
