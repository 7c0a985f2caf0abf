"""`citewell index`, as an operator uses it: on the embedded stack, with the packaged embedder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal

WORDS = ("kettle", "lamp", "tent", "boots", "stove", "rope", "map", "knife", "torch", "flask", "tarp", "axe")


@pytest.fixture
def loaded(terminal: Terminal, tmp_path: Path) -> Terminal:
    """A dozen documents, and the same number of judged questions beside them."""
    rows = [{"id": word, "text": f"The {word} may be returned in {n} days."} for n, word in enumerate(WORDS)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    asked = [{"_id": f"q-{word}", "text": f"When may I return the {word}?"} for word in WORDS]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    (tmp_path / "qrels.tsv").write_text("".join(f"q-{word}\t{word}\t1\n" for word in WORDS), "utf-8")
    terminal.run("ingest", str(tmp_path / "docs.jsonl"))
    return terminal


def roles(terminal: Terminal) -> dict[str, str]:
    return {one["name"]: one["role"] for one in terminal.json("index", "status")["versions"]}


def test_a_gated_migration_and_back(loaded: Terminal, tmp_path: Path) -> None:
    exact = loaded.with_settings(vector_index="flat")
    refused = exact.json("search", "kettle", status=1)["error"]
    assert refused["code"] == "fingerprint_mismatch"
    assert "citewell index migrate" in refused["remedy"]
    assert "differ in: vector_index" in refused["message"]
    gate = ("--gate", str(tmp_path / "queries.jsonl"), str(tmp_path / "qrels.tsv"))
    stopped = exact.json("index", "migrate", *gate, "--min-delta", "0.5", status=1)["error"]
    assert "the least is +0.5" in stopped["message"]
    assert roles(loaded) == {"citewell-000001": "current", "citewell-000002": "next"}
    done = exact.json("index", "migrate", *gate)
    assert done["gate"]["value"] == pytest.approx(0, abs=0.005)
    assert done["gate"]["questions"] == len(WORDS)
    assert (done["version"], done["previous"], done["copied"]) == ("citewell-000002", "citewell-000001", 0)
    assert exact.json("search", "kettle")["hits"]
    assert "behind" in exact.run("index", "status", "--check").stdout
    back = loaded.run("index", "rollback").stderr
    assert "current: citewell-000001" in back
    assert "previous: citewell-000002" in back
    assert loaded.json("index", "drop", "citewell-000002") == {"dropped": "citewell-000002"}
    assert roles(loaded) == {"citewell-000001": "current"}


def test_steps_by_hand(loaded: Terminal) -> None:
    exact = loaded.with_settings(vector_index="flat")
    assert exact.json("index", "create")["next"] == "citewell-000002"
    missing = exact.json("index", "promote", "citewell-000002", status=1)["error"]
    assert f"does not have {len(WORDS)} documents" in missing["message"]
    built = exact.run("index", "migrate", "--no-promote").stderr
    assert f"{len(WORDS)} documents copied" in built
    assert exact.json("index", "promote", "citewell-000002")["current"] == "citewell-000002"


def test_backup_and_restore(loaded: Terminal, tmp_path: Path) -> None:
    place = str(tmp_path / "backup")
    assert loaded.json("index", "backup", place) == {"backup": place}
    more = tmp_path / "more.jsonl"
    more.write_text('{"id": "kettle", "text": "The kettle is sold out."}\n', "utf-8")
    loaded.run("ingest", str(more))
    assert loaded.json("index", "restore", place)["current"] == "citewell-000002"
    hits = loaded.json("search", "kettle", "--k", "1")["hits"]
    assert "may be returned" in hits[0]["passage"]["text"]
    assert "exists already" in loaded.json("index", "backup", place, status=1)["error"]["message"]


def test_without_an_index_nothing_is_made(terminal: Terminal) -> None:
    assert terminal.json("index", "status") == {"versions": []}
    assert "there is no index yet" in terminal.run("index", "status").stdout
    for words in (("migrate",), ("rollback",), ("promote", "citewell-000001"), ("backup", "somewhere")):
        assert terminal.json("index", *words, status=1)["error"]["remedy"]
    assert not (terminal.folder / "citewell.lancedb").exists()


def test_what_cannot_be_is_told(loaded: Terminal) -> None:
    assert "already" in loaded.json("index", "migrate", status=1)["error"]["message"]
    assert "roll back to" in loaded.json("index", "rollback", status=1)["error"]["message"]
    assert "is the current version" in loaded.json("index", "drop", "citewell-000001", status=1)["error"]["message"]
    assert loaded.json("index", "drop", "another", status=1)["error"]["code"] == "unknown_version"
    assert "is no backup" in loaded.json("index", "restore", "nowhere", status=1)["error"]["message"]
    assert roles(loaded) == {"citewell-000001": "current"}
