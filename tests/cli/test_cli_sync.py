"""`citewell ingest` that keeps the index in step: the command's own part of it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import Terminal


@pytest.fixture
def faq(tmp_path: Path) -> Path:
    folder = tmp_path / "faq"
    folder.mkdir()
    for name in ("lamp", "tent", "bell", "boat", "kite"):
        (folder / f"{name}.md").write_text(f"The {name} is red.", "utf-8")
    return folder


def test_sync_dry_run_and_guard(terminal: Terminal, faq: Path) -> None:
    dry = terminal.json("ingest", str(faq), "--sync", "--dry-run")
    assert dry["dry_run"]
    assert sorted(dry["documents"]["added"]) == ["bell.md", "boat.md", "kite.md", "lamp.md", "tent.md"]
    assert terminal.json("ingest", str(faq))["counts"]["added"] == 5
    (faq / "lamp.md").unlink()
    (faq / "tent.md").unlink()
    refused = terminal.json("ingest", str(faq), "--sync", status=1)
    assert refused["counts"]["deleted"] == 0
    assert "2 of its 5 documents" in refused["failed"][0]["reason"]
    assert "--max-delete 2" in refused["failed"][0]["remedy"]
    result = terminal.json("ingest", str(faq), "--sync", "--max-delete", "40%")
    assert result["counts"] == {"added": 0, "changed": 0, "unchanged": 3, "deleted": 2, "failed": 0}
    assert [entry["receipt"]["passages_left"] for entry in result["deleted"]] == [0, 0]


@pytest.mark.parametrize(
    "words",
    [
        ("--max-delete", "many"),
        ("--every", "soon"),
        ("--sync", "--url", "http://127.0.0.1:1"),
        ("--dry-run", "--url", "http://127.0.0.1:1"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(terminal: Terminal, faq: Path, words: tuple[str, ...]) -> None:
    assert terminal.json("ingest", str(faq), *words, status=2)["error"]["code"] == "usage"


def test_nothing_to_load_is_a_usage_error(terminal: Terminal) -> None:
    assert terminal.json("ingest", status=2)["error"]["code"] == "usage"


def test_failures_go_to_a_file_that_can_be_loaded(terminal: Terminal, faq: Path, tmp_path: Path) -> None:
    kept = tmp_path / "failures.jsonl"
    limited = terminal.with_settings(document_limit="1000")
    (faq / "long.md").write_text("The rope is long. " * 100, "utf-8")
    assert limited.json("ingest", str(faq), "--failures", str(kept), status=1)["counts"]["failed"] == 1
    line = json.loads(kept.read_text("utf-8"))
    assert (line["id"], line["code"]) == ("long.md", "too_large")
    assert set(line) - {"document"} == {"id", "source", "code", "reason", "remedy"}


def sources(tmp_path: Path, faq: Path) -> str:
    file = tmp_path / "citewell.toml"
    file.write_text(
        f'[sources.faq]\nsource = "{faq}"\nsync = true\nmax_delete = "100%"\n'
        '[sources.cms]\nsource = "postgresql://reader:secret@db/cms"\nquery = "select 1"\n',
        "utf-8",
    )
    return str(file)


def test_sources_of_the_settings(terminal: Terminal, faq: Path, tmp_path: Path) -> None:
    terminal.env["CITEWELL_CONFIG"] = sources(tmp_path, faq)
    assert terminal.json("ingest", "--named", "faq")["counts"]["added"] == 5
    (faq / "lamp.md").unlink()
    assert terminal.json("ingest", "--named", "faq")["counts"]["deleted"] == 1
    assert terminal.json("ingest", "--named", "nobody", status=1)["error"]["code"] == "config"
    shown = json.dumps(terminal.json("config", "sources"))
    assert "postgresql://" in shown
    assert "secret" not in shown


def test_all_sources_are_loaded_although_one_of_them_fails(terminal: Terminal, faq: Path, tmp_path: Path) -> None:
    file, kept = tmp_path / "citewell.toml", tmp_path / "cms.failures.jsonl"
    wrong = f"sqlite:///{tmp_path}/absent.db"
    tables = [f'[sources.cms]\nsource = "{wrong}"\nquery = "select id, text from a"\nfailures = "{kept}"']
    tables.append(f'[sources.faq]\nsource = "{faq}"\nsync = true')
    file.write_text("\n".join(tables), "utf-8")
    terminal.env["CITEWELL_CONFIG"] = str(file)
    result = terminal.run("ingest", "--all", status=1)
    assert "cms" in result.stderr
    assert "absent.db" in result.stderr
    assert terminal.json("info")["index"]["documents"] == 5
    assert [json.loads(line)["code"] for line in kept.read_text("utf-8").splitlines()] == ["source_unavailable"]


def test_every_goes_on_after_a_bad_round_and_ends_cleanly(terminal: Terminal, faq: Path) -> None:
    process = terminal.start("ingest", str(faq), "--every", "0.5s", "--sync", "--json")
    try:
        assert process.stdout is not None
        assert _round(process)["counts"]["added"] == 5
        (faq / "new.md").write_text("The new one is blue.", "utf-8")
        deadline = time.monotonic() + 60
        while (report := _round(process))["counts"]["added"] != 1:
            assert time.monotonic() < deadline, report
        hidden = faq.rename(faq.with_name("away"))
        while not (report := _round(process))["counts"]["failed"]:
            assert time.monotonic() < deadline, report
        assert report["counts"]["deleted"] == 0
        hidden.rename(faq)
        while (report := _round(process))["counts"]["unchanged"] != 6:
            assert time.monotonic() < deadline, report
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr
    finally:
        process.kill()
        process.wait()


def _round(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    return json.loads(line)
