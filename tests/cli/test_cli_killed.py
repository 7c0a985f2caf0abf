"""A load that is killed with SIGKILL, ten times over, and run again ends as if it had not been disturbed."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.cli.terminal import Terminal

KILLS = 10
DOCUMENTS = 4500
OLDER = 400
_THINGS = ("lamp", "tent", "kettle", "stove", "anchor", "ladder", "bridge", "garden")
_PLACES = ("harbour", "attic", "valley", "workshop", "library", "station", "orchard")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


def sentence(number: int, of: str) -> str:
    return f"The {_THINGS[number % 8]} number {number} stands in the {_PLACES[number % 7]}, {of}."


def corpus(file: Path, *, older: bool) -> Path:
    """All documents, or the first ones as they were before: with more passages than they have now."""
    with file.open("w", encoding="utf-8") as lines:
        for number in range(OLDER if older else DOCUMENTS):
            text = sentence(number, "painted green" if older else "painted blue")
            if older:
                text = "\n\n".join(sentence(number + n, f"as part {n} of a longer text than now") for n in range(4))
            lines.write(json.dumps({"_id": f"d{number:04}", "text": text, "lang": "en"}) + "\n")
    return file


class Embedded:
    """What LanceDB holds, read beside Citewell."""

    def __init__(self, folder: Path) -> None:
        self.terminal = Terminal(folder, passage_tokens="16", embedder_dtype="float32")
        self._folder = folder

    def written(self) -> int:
        return sum(1 for _ in self._folder.glob("citewell.lancedb/*/_versions/*"))

    def rows(self) -> Iterator[tuple[str, str, list[float], str]]:
        import lancedb

        database = lancedb.connect(self._folder / "citewell.lancedb")
        names = sorted(database.list_tables().tables)
        (passages,) = (database.open_table(name) for name in names if "passages" in name)
        (documents,) = (database.open_table(name) for name in names if "documents" in name)
        hashes = {row["doc_id"]: row["content_hash"] for row in documents.to_arrow().to_pylist()}
        for row in passages.to_arrow().to_pylist():
            yield row["id"], row["text"], row["vector"], hashes[row["doc_id"]]


class Served:
    """What Elasticsearch holds, read beside Citewell."""

    def __init__(self, folder: Path, url: str, redis_url: str, name: str) -> None:
        self.terminal = Terminal(
            folder,
            stack="served",
            elasticsearch_url=url,
            redis_url=redis_url,  # changed documents take the answers with them that quote them
            index_name=name,
            passage_tokens="16",
            embedder_dtype="float32",
        )
        self._url, self._name = url, name

    def written(self) -> int:
        answer = httpx.get(f"{self._url}/{self._name}-*/_stats/indexing").json()
        counts = answer["_all"]["primaries"].get("indexing", {})
        return int(counts.get("index_total", 0)) + int(counts.get("delete_total", 0))

    def rows(self) -> Iterator[tuple[str, str, list[float], str]]:
        def all_of(index: str) -> list[dict[str, Any]]:
            body = {"size": 10_000, "_source": {"exclude_vectors": False}}
            found = httpx.post(f"{self._url}/{index}/_search", json=body, timeout=60).raise_for_status().json()
            assert found["hits"]["total"]["value"] < 10_000, "one page does not hold it all"
            return [hit["_source"] for hit in found["hits"]["hits"]]

        hashes = {entry["doc_id"]: entry["content_hash"] for entry in all_of(f"{self._name}-documents")}
        for row in all_of(self._name):
            yield row["id"], row["text"], row["vector"], hashes[row["doc_id"]]


Store = Embedded | Served


@pytest.fixture(params=["embedded", "served"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    """A store by name; two names share nothing."""
    if request.param == "embedded":
        yield lambda name: Embedded(tmp_path / name)
        return
    url, redis_url = request.getfixturevalue("elasticsearch_url"), request.getfixturevalue("redis_db_url")
    prefix = f"killed-{os.getpid()}-{random.randrange(16**6):06x}"
    try:
        yield lambda name: Served(tmp_path / name, url, redis_url, f"{prefix}-{name}")
    finally:
        found = httpx.get(f"{url}/_alias").json()
        for index in [index for index in found if index.startswith(prefix)]:
            httpx.delete(f"{url}/{index}")


def loaded(store: Store, file: Path) -> dict[str, int]:
    counts: dict[str, int] = store.terminal.json("ingest", str(file))["counts"]
    return counts


@pytest.mark.timeout(900)
def test_a_load_killed_ten_times_ends_as_if_it_had_not_been(opened: Callable[[str], Store], tmp_path: Path) -> None:
    older = corpus(tmp_path / "older.jsonl", older=True)
    now = corpus(tmp_path / "now.jsonl", older=False)
    calm, stormy = opened("calm"), opened("stormy")
    for store in (calm, stormy):
        assert loaded(store, older)["added"] == OLDER
    assert loaded(calm, now) == {"added": DOCUMENTS - OLDER, "changed": OLDER, "unchanged": 0, "failed": 0}

    chance = random.Random(7)
    for kill in range(KILLS):
        before = stormy.written()
        process = stormy.terminal.start("ingest", str(now))
        try:
            while stormy.written() == before:
                assert process.poll() is None, f"the load ended before kill {kill}: {process.communicate()}"
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.15))
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -9, f"the load ended before kill {kill}"
    counts = loaded(stormy, now)
    assert counts["failed"] == 0
    assert sum(counts.values()) == DOCUMENTS
    assert counts["added"] + counts["changed"] > 0, "nothing was left to do: the kills came too late"

    wanted = {key: (text, vector, digest) for key, text, vector, digest in calm.rows()}
    found = {key: (text, vector, digest) for key, text, vector, digest in stormy.rows()}
    assert sorted(found) == sorted(wanted)
    assert {key: row[0] for key, row in found.items()} == {key: row[0] for key, row in wanted.items()}
    assert {key: row[2] for key, row in found.items()} == {key: row[2] for key, row in wanted.items()}
    keys = sorted(wanted)
    # Padding depends on which texts share a batch, and moves the last digits.
    np.testing.assert_allclose([found[key][1] for key in keys], [wanted[key][1] for key in keys], atol=1e-5)
    assert loaded(stormy, now) == {"added": 0, "changed": 0, "unchanged": DOCUMENTS, "failed": 0}
