"""A change is atomic for the reader: searches run against a writer, on LanceDB and on a real Elasticsearch.

Whatever a search finds of a document has to be all of one edition. A thread refreshes all the time, as other loads do,
so that searches see what is half written.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from citewell.config import Settings, load_settings
from citewell.ports import Index, LegsQuery
from tests.contracts.editions import DOCUMENTS, broken, edition, editions, opened
from tests.contracts.index_material import ask

SECONDS = 5.0
KILLS = 10
ROOT = Path(__file__).resolve().parent.parent.parent

Opener = Callable[[], Index]


@pytest.fixture(params=["lance", "elastic"])
def fields(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Settings of a place of the test's own."""
    if request.param == "lance":
        return {"data_dir": str(tmp_path)}
    url, name = request.getfixturevalue("elasticsearch_url"), request.getfixturevalue("index_name")
    return {"data_dir": str(tmp_path), "stack": "served", "elasticsearch_url": url, "index_name": name}


@pytest.fixture
def settings(fields: dict[str, Any]) -> Settings:
    return load_settings(**fields)


@pytest.fixture
def opener(settings: Settings) -> Iterator[Opener]:
    with ExitStack() as stack:

        def start() -> Index:
            index = opened(settings)
            stack.callback(index.close)
            return index

        yield start


QUERIES = {
    "both legs": ask("refund", angle=30, depth=500),
    "bm25": ask("refund", depth=500),
    "dense": ask(angle=30, depth=500),
}


class Readers:
    """Searches that run beside the test, and what they found wrong."""

    def __init__(self, opener: Opener, query: LegsQuery) -> None:
        self.faults: list[str] = []
        self.searches = 0
        self.errors: list[BaseException] = []
        self.seen: set[frozenset[str]] = set()
        self._stopped = threading.Event()
        self._query = query
        works = [self._read, self._read, self._refresh]
        self._threads = [threading.Thread(target=self._guarded, args=(work, opener())) for work in works]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(120)

    def _guarded(self, work: Callable[[Index], None], index: Index) -> None:
        try:
            while not self._stopped.is_set():
                work(index)
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            self.errors.append(error)

    def _read(self, index: Index) -> None:
        legs = index.legs(self._query)
        self.searches += 1
        ranked = {passage_id for found in legs.ranked.values() for passage_id, _ in found}
        assert ranked == set(legs.passages)
        self.seen.add(frozenset(passage.doc_id for passage in legs.passages.values()))
        self.faults += broken(legs.passages.values())

    def _refresh(self, index: Index) -> None:
        index.flush()
        time.sleep(0.002)

    def check(self) -> None:
        assert self.errors == []
        assert self.searches > 10
        assert self.faults == [], f"{len(self.faults)} in {self.searches} searches, as {self.faults[:3]}"


@pytest.mark.parametrize("query", QUERIES)
def test_no_search_sees_a_document_half_changed(opener: Opener, query: str) -> None:
    index = opener()
    with Readers(opener, QUERIES[query]) as readers:
        end, number = time.monotonic() + SECONDS, 0
        while time.monotonic() < end or number < 5:
            number += 1
            assert not any(result.error for result in index.put(editions(number, (0, 1, 1, 2, 3, 9, 40))))
    readers.check()


def test_a_document_that_changes_is_always_there(opener: Opener) -> None:
    index = opener()
    lengths = (7, 2, 30, 1, 5)
    index.put([edition(doc_id, 0, 3) for doc_id in DOCUMENTS])
    index.flush()
    with Readers(opener, QUERIES["both legs"]) as readers:
        for number in range(1, 31):
            index.put([edition(doc_id, number, lengths[number % 5]) for doc_id in DOCUMENTS])
    readers.check()
    assert readers.seen == {frozenset(DOCUMENTS)}


def test_documents_that_come_and_go_are_there_whole_or_not_at_all(opener: Opener) -> None:
    index = opener()
    with Readers(opener, QUERIES["both legs"]) as readers:
        for number in range(1, 21):
            index.put([edition(doc_id, number, 25) for doc_id in DOCUMENTS])
            index.flush()
            assert all(result.found and not result.error for result in index.delete(DOCUMENTS))
            index.flush()
    readers.check()
    assert len(readers.seen) > 1


def test_writers_of_the_same_documents_show_no_mixture(opener: Opener) -> None:
    chance = random.Random(3)
    with Readers(opener, QUERIES["both legs"]) as readers:

        def work(writer: int) -> None:
            index, end = opener(), time.monotonic() + SECONDS
            while time.monotonic() < end:
                index.put([edition(doc_id, writer + 2 * chance.randrange(1000), 12) for doc_id in DOCUMENTS])

        threads = [threading.Thread(target=work, args=(writer,)) for writer in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200)
    readers.check()


def killed_while_rewriting(fields: dict[str, Any], first: int, pause_s: float) -> int:
    """Run a process that rewrites the documents, and kill it; the last edition that it told of."""
    command = [sys.executable, "-m", "tests.contracts.editions", json.dumps(fields), str(first)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{first}\n"
        time.sleep(pause_s)
        process.kill()
        last = [first, *map(int, process.stdout.read().split())][-1]
    assert process.returncode == -9
    return last


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("repaired", [True, False], ids=["loaded after each kill", "kill after kill"])
def test_a_killed_writer_leaves_whole_documents(opener: Opener, fields: dict[str, Any], repaired: bool) -> None:
    """Before or after the change; two kills in a row may hide a document until it is loaded again."""
    index, chance, number = opener(), random.Random(11), 0
    for _ in range(KILLS):
        number = killed_while_rewriting(fields, number + 1, chance.uniform(0, 0.2))
        index.flush()
        found = index.legs(QUERIES["both legs"]).passages.values()
        assert broken(found) == []
        if repaired:
            assert {passage.doc_id for passage in found} == set(DOCUMENTS)
            assert min(passage.metadata["edition"] for passage in found) >= number
            number += 1
            assert not any(result.error for result in index.put(editions(number)))
    last = editions(number + 1)
    assert not any(result.error for result in index.put(last))
    index.flush()
    passages = [passage for one in last for passage in one.passages]
    assert index.legs(QUERIES["both legs"]).passages == {passage.id: passage for passage in passages}
    assert index.info()["passages"] == len(passages)
    assert index.info()["unfinished"] == 0
