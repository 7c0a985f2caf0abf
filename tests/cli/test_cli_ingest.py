"""`citewell ingest`: every kind of file, every kind of trouble, and loads that are run again."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import SHOP, Terminal


def _lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_the_shop_loads_whole(shop_load: tuple[Terminal, Any]) -> None:
    report = shop_load[1]
    assert report["counts"] == {"added": 53, "changed": 0, "unchanged": 0, "failed": 0}
    assert report["failed"] == []
    assert report["seconds"] > 0
    assert report["documents_per_second"] > 0


def test_loading_again_finds_everything_unchanged(shop: Terminal) -> None:
    result = shop.run("ingest", str(SHOP))
    rows = {line.split()[0]: line.split()[1:2] for line in result.stdout.splitlines() if line.strip()}
    assert rows["unchanged"] == ["53"]
    assert rows["added"] == rows["changed"] == rows["failed"] == ["0"]
    assert result.stderr == ""  # no bar and no chatter where nobody looks


def test_every_format(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    record = {"_id": "b", "title": "B", "text": "The bell rings.", "metadata": {"year": 2024}, "groups": ["staff"]}
    (folder / "a.jsonl").write_text(_lines({"id": "a", "text": "The gate is green."}), "utf-8")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(_lines(record).encode()))
    (folder / "c.json").write_text(json.dumps([{"id": "c", "text": "Cats sleep.", "url": "http://c"}]), "utf-8")
    (folder / "d.md").write_text("---\ntitle: Days\n---\n# Days\n\nDays are long.\n", "utf-8")
    (folder / "e.html").write_text("<html lang='en'><body><h1>Eggs</h1><p>Eggs are fresh.</p></body></html>", "utf-8")
    (folder / "f.txt").write_text("Foxes run.", "utf-8")
    with (folder / "g.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["id", "text", "section"], ["g", 'Geese, "grey" ones, fly.', "birds"]])
    assert terminal.json("ingest", str(folder))["counts"]["added"] == 7
    found = terminal.json("search", "geese", "--filter", "metadata.section=birds")
    assert [hit["passage"]["doc_id"] for hit in found["hits"]] == ["g"]
    assert found["hits"][0]["passage"]["text"] == 'Geese, "grey" ones, fly.'
    found = terminal.json("search", "bell", "--filter", "metadata.year=2024")
    assert [hit["passage"]["doc_id"] for hit in found["hits"]] == ["b"]


@pytest.fixture
def troubles(tmp_path: Path) -> Path:
    """A folder in which everything is wrong but `good` and `better`."""
    folder = tmp_path / "troubles"
    folder.mkdir()
    lines = [
        _lines({"_id": "good", "text": "The kettle holds two litres."}).encode(),
        b"{no json\n",
        b'{"_id": "bytes", "text": "caf\xe9"}\n',
        _lines({"_id": "silent", "title": "No text"}).encode(),
        _lines({"_id": "long", "text": "long " * 1000}).encode(),
        b'{"_id": "huge", "text": "' + b"x" * 200_000 + b'"}\n',
        b"[1, 2]\n",
        b'{"_id": "half", "text": "half a \\ud83d character"}\n',
        b"\n",
        _lines({"_id": "better", "text": "The lamp is bright."}).encode(),
    ]
    (folder / "lines.jsonl").write_bytes(b"".join(lines))
    (folder / "empty.jsonl").touch()
    (folder / "empty.md").touch()
    (folder / "latin.txt").write_bytes("Müller".encode("latin-1"))
    (folder / "data.bin").write_bytes(b"PK\x03\x04")
    packed = gzip.compress(_lines({"_id": "packed", "text": "word " * 100}).encode())
    (folder / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "fake.jsonl.gz").write_bytes(b"not packed at all")
    (folder / "headless.csv").write_text("name,words\nx,y\n", "utf-8")
    (folder / "wide.csv").write_text("id,text\nw,one,two\n", "utf-8")
    (folder / "bare.txt").write_text("\n \n", "utf-8")
    return folder


REASONS = {
    "lines.jsonl:2": "no JSON",
    "lines.jsonl:3": "not UTF-8",
    "lines.jsonl:4": "no text",
    "long": "limit is 1000",
    "lines.jsonl:6": "longer than",
    "lines.jsonl:7": "expected an object",
    "lines.jsonl:8": "no Unicode",
    "empty.jsonl": "empty",
    "empty.md": "empty",
    "latin.txt": "not UTF-8",
    "data.bin": "unknown kind",
    "cut.jsonl.gz": "gzip",
    "fake.jsonl.gz": "gzip",
    "headless.csv": "no column `text`",
    "wide.csv:2": "more fields",
    "bare.txt": "empty",
}


def test_each_trouble_is_named_and_stops_nothing(terminal: Terminal, troubles: Path) -> None:
    limited = terminal.with_settings(document_limit="1000")
    missing = str(troubles / "missing.md")
    report = limited.json("ingest", str(troubles), missing, status=1)
    failed = {item["doc_id"]: item for item in report["failed"]}
    assert set(failed) == {*REASONS, missing}
    for doc_id, reason in REASONS.items():
        assert reason in failed[doc_id]["reason"], failed[doc_id]
    assert "does not exist" in failed[missing]["reason"]
    assert all(item["remedy"] and item["code"] for item in report["failed"])
    assert report["counts"] == {"added": 2, "changed": 0, "unchanged": 0, "failed": len(failed)}
    found = limited.json("search", "kettle lamp")
    assert {hit["passage"]["doc_id"] for hit in found["hits"]} == {"good", "better"}

    result = limited.run("ingest", str(troubles), missing, status=1)
    for doc_id, reason in REASONS.items():
        assert any(f"failed: {doc_id}: " in line and reason in line for line in result.stderr.splitlines()), doc_id
    assert "Mend it: one object a line." in result.stderr
    assert f"failed {len(failed)}" in " ".join(result.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_a_name_that_is_no_text(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt")).write_text("Coffee is served.", "utf-8")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xe9.bin")).write_text("Not a kind.", "utf-8")
    report = terminal.json("ingest", str(folder), status=1)
    assert report["counts"]["added"] == 1
    assert [item["doc_id"] for item in report["failed"]] == ["bad\\udce9.bin"]
    found = terminal.json("search", "coffee")
    assert found["hits"][0]["passage"]["doc_id"] == "caf\\udce9.txt"


def test_a_changed_document_replaces_the_old_one(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "hours.md"
    file.write_text("# Hours\n\nThe shop opens at nine.\n", "utf-8")
    terminal.run("ingest", str(file))
    file.write_text("# Hours\n\nThe shop opens at ten.\n", "utf-8")
    assert terminal.json("ingest", str(file))["counts"]["changed"] == 1
    texts = [hit["passage"]["text"] for hit in terminal.json("search", "when does the shop open")["hits"]]
    assert len(texts) == 1
    assert "ten" in texts[0]


def test_an_id_that_comes_twice_is_noted(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "twice.jsonl"
    file.write_text(_lines({"id": "x", "text": "First."}, {"id": "x", "text": "Second."}), "utf-8")
    result = terminal.run("ingest", str(file))
    assert "note: x: this id came before" in result.stderr
    assert terminal.json("search", "second")["hits"][0]["passage"]["text"] == "Second."


def test_an_index_that_another_embedder_made_is_refused(shop: Terminal, tmp_path: Path) -> None:
    other = shop.with_settings(passage_tokens="50")
    (tmp_path / "x.txt").write_text("New words.", "utf-8")
    for words in (("ingest", str(tmp_path / "x.txt")), ("search", "words"), ("ask", "Which words?")):
        error = other.json(*words, status=1)["error"]
        assert error["code"] == "fingerprint_mismatch"
        assert "markdown3-200-0" in error["message"]
        assert "markdown3-50-0" in error["message"]
        assert "index_name" in error["remedy"]
    result = other.run("search", "words", status=1)
    assert result.stdout == ""
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "remedy"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupted_load_goes_on(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    count = 400
    shelves = ({"id": f"d{n}", "lang": "en", "text": f"Shelf {n} holds {n} jars."} for n in range(count))
    file.write_text(_lines(*shelves), "utf-8")
    process = terminal.start("ingest", str(file))
    written = terminal.folder / "citewell.lancedb" / "documents.lance" / "data"
    deadline = time.monotonic() + 120
    # A batch writes here twice: what is about to be written, then that it has been. The third is the second batch's.
    while not (written.is_dir() and len(list(written.iterdir())) >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "run the same command again" in stderr
    assert "added" in stdout
    counts = terminal.json("ingest", str(file))["counts"]
    assert counts["failed"] == 0
    assert counts["added"] + counts["changed"] + counts["unchanged"] == count
    assert counts["unchanged"] >= 128  # the first batch is whole
    assert terminal.json("ingest", str(file))["counts"]["unchanged"] == count
