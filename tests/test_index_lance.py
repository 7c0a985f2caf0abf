"""What is LanceDB's own: one folder, several processes, damage, and the vector index."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lancedb
import pytest

from citewell.config import load_settings
from citewell.errors import IndexUnavailable
from citewell.index import lance, lance_rows
from citewell.index.lance import KEEP_VERSIONS, LanceIndex
from citewell.index.lance_search import Snapshots
from citewell.index.lance_versions import connected
from citewell.index.lock import writer_lock
from citewell.records import Filters
from tests.contracts.index_material import FINGERPRINT, ask, documents, write

LOADER = """
import sys
from pathlib import Path
from citewell.config import load_settings
from citewell.index.lance import LanceIndex
from tests.contracts.index_material import FINGERPRINT, write

folder, name = sys.argv[1:]
index = LanceIndex(load_settings(data_dir=Path(folder)), FINGERPRINT)
index.load()
for batch in range(6):
    ids = [f"shared{n}" for n in range(5)] + [f"{name}{batch}-{n}" for n in range(5)]
    assert not any(result.error for result in index.put([write(doc_id, ["one", "two"]) for doc_id in ids]))
    index.flush()
index.close()
"""
Opener = Callable[[], LanceIndex]


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    opened: list[LanceIndex] = []

    def start() -> LanceIndex:
        index = LanceIndex(load_settings(data_dir=tmp_path), FINGERPRINT)
        opened.append(index)
        index.load()
        return index

    yield start
    for index in opened:
        index.close()


def test_two_processes_load_at_once(opener: Opener, tmp_path: Path) -> None:
    arguments = [[sys.executable, "-c", LOADER, str(tmp_path), name] for name in ("left", "right")]
    root = Path(__file__).parents[1]
    processes = [subprocess.Popen(words, cwd=root, stderr=subprocess.PIPE, text=True) for words in arguments]
    outcomes = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [status for _, status in outcomes] == [0, 0], outcomes
    index = opener()
    expected = 5 + 2 * 6 * 5
    assert (index.info()["documents"], index.info()["passages"]) == (expected, 2 * expected)
    assert len(index.legs(ask("one", depth=1000)).ranked["bm25"]) == expected


def test_threads_write_and_search_together(opener: Opener) -> None:
    index = opener()
    failures: list[BaseException] = []

    def load(name: str) -> None:
        try:
            for n in range(8):
                index.put([write(f"{name}{n}", ["refund"]), write("shared", ["refund"])])
                assert documents(index.legs(ask("refund", angle=0)), "dense")
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=load, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert index.info()["passages"] == 3 * 8 + 1


def test_a_search_needs_no_flush(opener: Opener) -> None:
    writer, reader = opener(), opener()
    writer.put([write("a", ["refund"])])
    assert documents(reader.legs(ask("refund", angle=0)), "bm25") == ["a"]
    writer.flush()
    writer.put([write("b", ["refund"]), write("a", ["other"])])
    legs = reader.legs(ask("refund", angle=0))
    assert (documents(legs, "bm25"), sorted(documents(legs, "dense"))) == (["b"], ["a", "b"])


def test_a_long_load_tidies_up(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "OPTIMIZE_EVERY", 3)
    monkeypatch.setattr(lance, "SCALAR_INDEX_ROWS", 4)
    index = opener()
    for n in range(7):
        index.put([write(f"d{n}", ["refund"])])
        index.put([write("again", ["refund"] * (1 + n % 3))])
    index.delete(["d0"])
    index.flush()
    assert index.info()["passages"] == 6 + 1
    assert len(index.ledger([f"d{n}" for n in range(7)])) == 6


def test_a_vector_index_still_finds_what_a_rare_filter_leaves(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lance, "VECTOR_INDEX_ROWS", 400)
    index = opener()
    index.put([write(f"c{n}", ["x"], angle=n / 5, lang="en") for n in range(500)])
    index.put([write(f"r{n}", ["x"], angle=150 + n, lang="es") for n in range(6)])
    index.flush()
    index.put([write("late", ["x"], angle=0.05, lang="en")])
    nearest = documents(index.legs(ask(angle=0, depth=10)), "dense")
    assert {"c0", "late", "c1"} <= set(nearest)
    rare = index.legs(ask(angle=0, depth=6, filters=Filters(lang=("es",))))
    assert documents(rare, "dense") == [f"r{n}" for n in range(6)]


def test_filters_mean_the_same_with_indices(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for rows that were written after the indices were made, and for rows without groups or metadata."""
    monkeypatch.setattr(lance, "SCALAR_INDEX_ROWS", 4)
    index = opener()
    index.put([write("open", ["refund"], lang="en"), write("hr", ["refund"], lang="es", groups=("hr",))])
    index.put(
        [write("year", ["refund"], lang="en", metadata={"year": 2024}), write("named", ["refund"], groups=("*",))]
    )
    index.flush()
    index.put([write("late", ["refund"], lang="en", groups=("hr",), metadata={"year": 2024}), write("new", ["refund"])])
    for flushed in (False, True):
        found = {
            groups: set(documents(index.legs(ask("refund", groups=groups)), "bm25"))
            for groups in (None, (), ("hr",), ("*",), ("everyone",))
        }
        assert found[()] == found[("everyone",)] == {"open", "year", "new"}
        assert found[("hr",)] == found[()] | {"hr", "late"}
        assert found[("*",)] == found[()] | {"named"}
        assert found[None] == found[("hr",)] | {"named"}
        of_year = Filters(metadata={"year": (2024,)})
        assert set(documents(index.legs(ask("refund", filters=of_year)), "bm25")) == {"year", "late"}
        assert documents(index.legs(ask("refund", filters=Filters(lang=("es",)))), "bm25") == ["hr"]
        if not flushed:
            index.flush()


def test_a_search_among_writers_finds_whole_rows(opener: Opener) -> None:
    """Rows move under a search when their table is compacted; each still comes with its own text."""
    index, writer = opener(), opener()
    writer.put([write(f"d{n}", [f"refund number{n}"]) for n in range(40)])
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            writer.put([write(f"d{n}", [f"refund number{n}"]) for n in range(0, 40, 3)])
            writer.flush()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(40):
            legs = index.legs(ask("refund", angle=0))
            assert len(legs.ranked["bm25"]) == 40
            assert all(passage.text.endswith(f"number{passage.doc_id[1:]}") for passage in legs.passages.values())
    finally:
        stop.set()
        thread.join()


def test_a_writer_that_waits_too_long_says_so(opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = opener()
    monkeypatch.setattr(lance, "LOCK_TIMEOUT_S", 0.1)
    with (
        writer_lock(tmp_path / "citewell.lancedb" / "writer.lock", 1),
        pytest.raises(IndexUnavailable, match="another process"),
    ):
        index.put([write("a")])
    assert not index.put([write("a")])[0].error


def test_a_closed_index_says_so(opener: Opener) -> None:
    index = opener()
    index.close()
    index.close()
    for use in (index.info, index.flush, lambda: index.legs(ask("x")), lambda: index.ledger(["a"])):
        with pytest.raises(IndexUnavailable, match="not open"):
            use()


@pytest.mark.parametrize("damage", ["manifests", "manifests of documents", "data", "passages"])
def test_a_damaged_folder_is_told_with_a_remedy(opener: Opener, tmp_path: Path, damage: str) -> None:
    index = opener()
    index.put([write("a", ["refund"])])
    index.close()
    folder = tmp_path / "citewell.lancedb"
    passages = folder / "passages.lance"
    if damage == "passages":
        passages.rename(folder / "elsewhere")
    else:
        table = folder / "documents.lance" if "documents" in damage else passages
        for file in (table / ("data" if damage == "data" else "_versions")).iterdir():
            file.write_bytes(b"broken")
    with pytest.raises(IndexUnavailable) as told:
        opener().legs(ask("refund", angle=0))
    assert str(folder) in told.value.message
    assert "backup" in told.value.remedy
    assert told.value.__cause__ is None


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    index = LanceIndex(load_settings(data_dir=tmp_path / "file" / "below"), FINGERPRINT)
    with pytest.raises(IndexUnavailable) as told:
        index.load()
    assert "data_dir" in told.value.remedy


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("LanceError(IO): No space left on device (os error 28), a/b.rs:1:2", "Free space"),
        ("LanceError(IO): Permission denied (os error 13)", "data_dir"),
        ("Read-only file system", "data_dir"),
        ("not a lance file", "backup"),
    ],
)
def test_the_remedy_fits_the_cause(message: str, remedy: str) -> None:
    error = lance_rows.translate(RuntimeError(message), "/data", "write to")
    assert remedy in error.remedy
    assert "cannot write to the index in /data" in error.message
    assert ".rs:" not in error.message


def test_a_search_stays_at_the_version_that_it_began_with(tmp_path: Path) -> None:
    session = lancedb.Session()
    writer, reader = connected(tmp_path, session), connected(tmp_path, session, follow=False)
    table = writer.create_table("t", [{"n": 0}, {"n": 1}])
    snapshots = Snapshots(lambda: reader.open_table("t"))

    def numbers(handle: Any) -> list[int]:
        return sorted(row["n"] for row in handle.search().with_row_id(True).to_list())

    with snapshots.latest() as first:
        places = [row["_rowid"] for row in first.search().with_row_id(True).to_list()]
        table.delete("n < 2")
        table.add([{"n": 2}])
        table.optimize(cleanup_older_than=KEEP_VERSIONS)
        with snapshots.latest() as second:
            assert numbers(first) == [0, 1]
            assert sorted(row["n"] for row in first.take_row_ids(places).to_list()) == [0, 1]
            assert numbers(second) == [2]
    table.add([{"n": 3}])
    with snapshots.latest() as again:
        assert again in (first, second)
        assert numbers(again) == [2, 3]


def test_a_handle_that_failed_is_not_used_again() -> None:
    made: list[str] = []

    class Handle:
        def checkout_latest(self) -> None: ...

    def opened() -> Handle:
        made.append("one more")
        return Handle()

    snapshots = Snapshots(opened)
    with pytest.raises(OSError), snapshots.latest():
        raise OSError
    with snapshots.latest():
        pass
    with snapshots.latest():
        pass
    assert len(made) == 2
