"""Documents that say in every passage which edition they are and of how many; and a process that rewrites them.

`python -m tests.contracts.editions SETTINGS` writes one edition after the other until it is killed, a line each.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections import defaultdict
from collections.abc import Iterable

from citewell.config import Settings, load_settings
from citewell.index.elastic import ElasticIndex
from citewell.index.lance import LanceIndex
from citewell.ports import DocumentWrite, Index
from citewell.records import Passage
from tests.contracts.index_material import FINGERPRINT, write

DOCUMENTS = [f"d{n}" for n in range(6)]


def opened(settings: Settings) -> Index:
    index: Index = (ElasticIndex if settings.stack == "served" else LanceIndex)(settings, FINGERPRINT)
    index.load()
    return index


def edition(doc_id: str, number: int, count: int) -> DocumentWrite:
    texts = [f"refund part {n}" for n in range(count)]
    return write(doc_id, texts, angle=number % 60, metadata={"edition": number, "of": count})


def editions(number: int, lengths: Iterable[int] = (1, 1, 2, 3, 9, 40)) -> list[DocumentWrite]:
    """All documents at once, each longer or shorter than before."""
    chance, counts = random.Random(number), list(lengths)
    return [edition(doc_id, number, chance.choice(counts)) for doc_id in DOCUMENTS]


def broken(passages: Iterable[Passage]) -> list[str]:
    """What of these passages is not a whole document in one edition."""
    found: dict[str, dict[int, list[Passage]]] = defaultdict(lambda: defaultdict(list))
    for passage in passages:
        found[passage.doc_id][passage.metadata["edition"]].append(passage)
    faults = []
    for doc_id, versions in found.items():
        if len(versions) > 1:
            faults.append(f"{doc_id} in editions {sorted(versions)}")
        for number, some in versions.items():
            ordinals, wanted = sorted(p.ordinal for p in some), list(range(some[0].metadata["of"]))
            if ordinals != wanted:
                faults.append(f"{doc_id} edition {number} has passages {ordinals} of {len(wanted)}")
    return faults


def main() -> None:
    index = opened(load_settings(**json.loads(sys.argv[1])))
    for number in itertools.count(int(sys.argv[2])):
        if errors := [result.error for result in index.put(editions(number)) if result.error]:
            sys.exit(f"edition {number}: {errors}")
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
