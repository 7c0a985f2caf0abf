"""`citewell doctor` as people and programs meet it: findings, their repair, and exit statuses."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import lancedb
import pytest
import redis

from tests.cli.terminal import Terminal


@pytest.fixture
def lamp(tmp_path: Path) -> Path:
    file = tmp_path / "lamp.md"
    file.write_text("# Lamp\n\nThe lamp burns for nine hours on one charge.\n", "utf-8")
    return file


def test_faults_are_named_repaired_and_gone(terminal: Terminal, lamp: Path) -> None:
    terminal.run("ingest", str(lamp))
    answer_id = terminal.run("ask", "How long does the lamp burn?", "--no-wait").stdout.strip()
    healthy = terminal.json("doctor")
    assert (healthy["findings"], healthy["counts"], healthy["fixed"]) == ([], {}, 0)
    assert "the parts agree with each other" in terminal.run("doctor").stdout

    passages = lancedb.connect(str(terminal.folder / "citewell.lancedb")).open_table("passages")
    passages.delete("doc_id = 'lamp.md'")
    with closing(sqlite3.connect(terminal.folder / "answers.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE answers SET due_at = 4e9 WHERE id = ?", (answer_id,))
    report = terminal.json("doctor", status=1)
    assert not report["ok"]
    assert report["counts"] == {"answer_without_sweep": 1, "document_without_passages": 1}
    named = {finding["kind"]: finding for finding in report["findings"]}
    assert named["document_without_passages"]["name"] == "lamp.md"
    assert named["answer_without_sweep"]["name"] == answer_id
    assert all(finding["reason"] and finding["remedy"] and not finding["fixed"] for finding in report["findings"])
    shown = terminal.run("doctor", status=1).stdout
    assert "lamp.md" in shown
    assert "2 findings; `citewell doctor --fix` repairs those that say so" in " ".join(shown.split())

    report = terminal.json("doctor", "--fix")
    assert report["ok"]
    assert report["fixed"] == 2
    assert terminal.json("doctor")["findings"] == []
    assert terminal.json("search", "How long does the lamp burn?")["hits"][0]["passage"]["doc_id"] == "lamp.md"


def test_a_look_makes_no_index(terminal: Terminal) -> None:
    for words in (("doctor",), ("doctor", "--fix")):
        report = terminal.json(*words)
        assert report["ok"]
        (index,) = (check for check in report["checks"] if check["name"] == "index")
        assert "there is none yet" in index["detail"]
    assert not list(terminal.folder.glob("*.lancedb"))
    assert "there is none yet" in terminal.run("doctor").stdout


def test_a_look_makes_no_index_on_elasticsearch(
    terminal: Terminal, elasticsearch_url: str, index_name: str, redis_db_url: str
) -> None:
    served = terminal.with_settings(
        stack="served", elasticsearch_url=elasticsearch_url, redis_url=redis_db_url, index_name=index_name
    )
    checks = {check["name"]: check for check in served.json("doctor", status=1)["checks"]}
    assert checks["index"]["ok"]
    assert "there is none yet" in checks["index"]["detail"]
    assert not checks["workers"]["ok"]
    assert httpx.get(f"{elasticsearch_url}/{index_name}*").json() == {}


def test_a_retired_version_is_a_note(terminal: Terminal, lamp: Path, tmp_path: Path) -> None:
    terminal.run("ingest", str(lamp))
    terminal.run("index", "backup", str(tmp_path / "copy"))
    terminal.run("index", "restore", str(tmp_path / "copy"))
    report = terminal.json("doctor", "--fix")
    assert report["ok"]
    (finding,) = report["findings"]
    assert (finding["kind"], finding["note"], finding["fixed"]) == ("retired_version", True, False)
    assert f"citewell index drop {finding['name']}" in finding["remedy"]
    terminal.run("index", "drop", finding["name"])
    assert terminal.json("doctor")["findings"] == []


def test_what_cannot_be_repaired_says_what_to_do(terminal: Terminal, lamp: Path) -> None:
    terminal.run("ingest", str(lamp))
    lancedb.connect(str(terminal.folder / "citewell.lancedb")).drop_table("documents")
    for words in (("doctor",), ("doctor", "--fix")):
        report = terminal.json(*words, status=1)
        (finding,) = report["findings"]
        assert (finding["kind"], finding["fixed"]) == ("half_made_version", False)
        assert "backup" in finding["remedy"]
        problems = {check["name"]: check for check in report["checks"] if not check["ok"]}
        assert list(problems) == ["index"]


def test_the_served_stack(
    elasticsearch_url: str, redis_db_url: str, index_name: str, tmp_path: Path, lamp: Path
) -> None:
    terminal = Terminal(
        tmp_path / "unused", stack="served", elasticsearch_url=elasticsearch_url, redis_url=redis_db_url,
        index_name=index_name,
    )  # fmt: skip
    terminal.run("ingest", str(lamp))
    answer_id = terminal.run("ask", "How long does the lamp burn?", "--no-wait").stdout.strip()

    def report(*words: str) -> Any:
        found = terminal.json("doctor", *words, status=1)  # no worker runs
        assert [check["name"] for check in found["checks"] if not check["ok"]] == ["workers"]
        return found

    assert report()["counts"] == {}
    with redis.Redis.from_url(redis_db_url, decode_responses=True) as client:
        (raw,) = client.lrange(f"{index_name}.extractive", 0, -1)
        client.delete(f"{index_name}:answer:{{{answer_id}}}")
        expected = {"message_without_answer": 1, "orphan": 3}
        assert report()["counts"] == expected
        assert json.loads(raw)["headers"]["task"] == "citewell.answer"
        repaired = report("--fix")
        assert (repaired["counts"], repaired["fixed"]) == (expected, 4)
        assert report()["counts"] == {}
        assert client.llen(f"{index_name}.extractive") == 0
