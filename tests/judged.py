"""Test collections: questions, their relevant documents and their answers, in the layout of `examples/shop`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "examples" / "shop"
SHARED = ROOT.parent / "shared" / "corpora"


# What `bench/translations.py` makes; looked at where it is in `build`.
_MADE = ("squad1-es-apertium", "squad1-es-apertium-parallel", "edict", "manuals")


def shared_sets(command: str, option: str) -> tuple[Path, ...]:
    """The collections that a model's command names with an option, less what is made and is not there."""
    words = command.split()
    named = [words[n + 1] for n, word in enumerate(words) if word == option]
    folders = [ROOT / "build" / name if name in _MADE else SHARED / name for name in named]
    return tuple(folder for folder in folders if folder.is_dir() or folder.name not in _MADE)


@dataclass(frozen=True)
class Collection:
    """A folder with a corpus, `queries` and `qrels`; `questions` are those with a relevant document, in file order."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def questions(self, limit: int) -> list[dict[str, Any]]:
        relevant = self.relevant()
        return [q for q in _rows(self.folder, "queries.jsonl") if q["_id"] in relevant][:limit]

    def relevant(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for file in sorted((self.folder / "qrels").glob("test.tsv*")):
            for line in _lines(file)[1:]:
                query, document, score = line.split("\t")
                found.setdefault(query, {})[document] = int(score)
        return found


def _lines(file: Path) -> list[str]:
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return data.decode("utf-8").splitlines()


def _rows(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    file = folder / name if (folder / name).exists() else folder / f"{name}.gz"
    yield from map(json.loads, _lines(file))
