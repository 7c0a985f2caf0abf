"""`citewell ingest` from a database and from the web: what is new, what is unchanged, and what is refused."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.web_site import html, running_site, sitemap

QUERY = "select number, title, words, updated from articles"
WORDS = ("--query", QUERY, "--map", "id=number", "--map", "text=words")


def _run(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_a_database_is_loaded_and_then_only_what_is_new(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    rows = ", ".join(f"({n}, 'T{n}', 'Shelf {n} holds jars.', {n})" for n in range(5))
    _run(file, "create table articles (number, title, words, updated)", f"insert into articles values {rows}")
    load = ("ingest", f"sqlite:///{file}", *WORDS, "--since", "updated")
    assert terminal.json(*load)["counts"] == {"added": 5, "changed": 0, "unchanged": 0, "failed": 0}
    _run(
        file, "insert into articles values (9, 'T9', 'The kettle is new.', 9)", "delete from articles where number = 0"
    )
    assert terminal.json(*load)["counts"] == {"added": 1, "changed": 0, "unchanged": 1, "failed": 0}
    found = terminal.json("search", "kettle", "--filter", "metadata.updated=9")
    assert [hit["passage"]["doc_id"] for hit in found["hits"]] == ["9"]


def test_rows_with_one_id_are_noted_and_the_last_wins(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    _run(file, "create table articles (number, title, words, updated)")
    _run(file, "insert into articles values (1, '', 'First.', 1), (1, '', 'Second.', 2)")
    result = terminal.run("ingest", f"sqlite:///{file}", *WORDS)
    assert "note: 1: this id came before" in result.stderr
    assert terminal.json("search", "second")["hits"][0]["passage"]["text"] == "Second."


def test_a_database_that_fails_and_options_that_are_refused(terminal: Terminal, tmp_path: Path) -> None:
    report = terminal.json("ingest", f"sqlite:///{tmp_path}/absent.db", *WORDS, status=1)
    assert [item["code"] for item in report["failed"]] == ["source_unavailable"]
    for words, reason in (
        (("sqlite:///x.db",), "needs a query"),
        (("sqlite:///x.db", "--query", "drop table x"), "only a SELECT"),
        (("sqlite:///x.db", "--query", QUERY, "--map", "words"), "does not map a column"),
        ((str(tmp_path), "--since", "updated"), "files and folders take no `since`"),
        (("mongodb://host/db", "--query", QUERY), "is no kind of source"),
    ):
        error = terminal.json("ingest", *words, status=1)["error"]
        assert error["code"] == "bad_input"
        assert reason in error["message"]
        assert error["remedy"]


def test_a_sitemap_is_loaded_and_asked_for_changes(terminal: Terminal) -> None:
    with running_site() as site:
        site.pages["/sitemap.xml"] = sitemap("/a", "/b", "/absent")
        site.pages["/a"] = html("Hours", "The shop opens at nine.", ETag='"1"')
        site.pages["/b"] = html("Parcels", "Parcels leave at noon.", ETag='"2"')
        load = ("ingest", f"{site.url}/sitemap.xml", "--pause", "0")
        report = terminal.json(*load, status=1)
        assert report["counts"] == {"added": 2, "changed": 0, "unchanged": 0, "failed": 1}
        assert [(item["doc_id"], item["code"]) for item in report["failed"]] == [(f"{site.url}/absent", "gone")]
        site.pages["/sitemap.xml"] = sitemap("/a", "/b")
        site.pages["/b"] = html("Parcels", "Parcels leave at dusk.", ETag='"3"')
        assert terminal.json(*load)["counts"] == {"added": 0, "changed": 1, "unchanged": 1, "failed": 0}
        hit = terminal.json("search", "when do parcels leave")["hits"][0]["passage"]
        assert (hit["doc_id"], "dusk" in hit["text"]) == (f"{site.url}/b", True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_load_of_what_is_new_that_was_killed_goes_on_where_it_was(terminal: Terminal, tmp_path: Path) -> None:
    """Every row is there after the next run, although that one asks only for what is at or above the greatest value."""
    file, count = tmp_path / "shop.db", 600
    _run(file, "create table articles (number, title, words, updated)")
    # Not in the order of `updated`, as a table that has been lived in.
    rows = ", ".join(f"({n}, 'T{n}', 'Shelf {n} holds {n} jars.', {n * 7919 % count})" for n in range(count))
    _run(file, f"insert into articles values {rows}")
    load = ("ingest", f"sqlite:///{file}", *WORDS, "--since", "updated")
    process = terminal.start(*load)
    written = terminal.folder / "citewell.lancedb" / "documents.lance" / "data"
    deadline = time.monotonic() + 120
    while not (written.is_dir() and len(list(written.iterdir())) >= 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    before = terminal.json("info")["index"]["documents"]
    assert 0 < before < count
    counts = terminal.json(*load)["counts"]
    assert counts["added"] + counts["changed"] + counts["unchanged"] <= count
    assert counts["failed"] == 0
    index = terminal.json("info")["index"]
    assert (index["documents"], index["unfinished"]) == (count, 0)
    assert terminal.json(*load)["counts"]["unchanged"] == 1, "now only the greatest itself is asked for"
