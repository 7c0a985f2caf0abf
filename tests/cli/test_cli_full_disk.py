"""Disks that fill up in the middle of a load: each document fails by name, and the next run is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.terminal import PROGRAM, Terminal
from tests.small_disk import SmallDisk, small_disk

COUNT = 900


def ran(disk: SmallDisk, terminal: Terminal, *words: str, status: int = 0) -> Any:
    done = disk.run(*PROGRAM, *words, "--json", env=terminal.environment())
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_index_and_cache_on_a_disk_that_fills(tmp_path: Path) -> None:
    file, kept = tmp_path / "many.jsonl", tmp_path / "failures.jsonl"
    words = (f"Shelf {n} in the attic holds {n * 7} jars of jam. " * 6 for n in range(COUNT))
    lines = (json.dumps({"id": f"d{n:03}", "lang": "en", "text": text}) for n, text in enumerate(words))
    file.write_text("".join(line + "\n" for line in lines), "utf-8")
    with small_disk(tmp_path / "disk", "4m") as disk:
        terminal = Terminal(disk.folder / "data", embed_cache="true")
        report = ran(disk, terminal, "ingest", str(file), "--failures", str(kept), status=1)
        counts = report["counts"]
        assert counts["added"] > 0
        assert counts["failed"] > 0
        assert counts["added"] + counts["failed"] == COUNT
        assert {item["code"] for item in report["failed"]} == {"index_unavailable"}
        assert all("No space left" in item["reason"] and "Free space" in item["remedy"] for item in report["failed"])
        failed = {item["doc_id"] for item in report["failed"]}
        assert {json.loads(line)["id"] for line in kept.read_text("utf-8").splitlines()} == failed
        found = ran(disk, terminal, "search", "Which shelf holds jam?")
        assert found["hits"], "what was loaded before is found on the full disk"
        assert failed.isdisjoint(hit["passage"]["doc_id"] for hit in found["hits"])
        disk.resize("4g")  # of memory, taken as it is used; `doctor` wants some free
        again = ran(disk, terminal, "ingest", str(kept))["counts"]
        assert again["added"] + again["changed"] == counts["failed"]
        assert ran(disk, terminal, "ingest", str(file))["counts"]["unchanged"] == COUNT
        assert ran(disk, terminal, "doctor")["ok"]


def test_failures_on_a_disk_that_fills(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    bad = (json.dumps({"id": f"d{n}", "title": "without text " * 50}) for n in range(COUNT))
    file.write_text("".join(f"{line}\n" for line in bad) + '{"id": "good", "text": "The lamp is red."}\n', "utf-8")
    with small_disk(tmp_path / "disk", "64k") as disk:
        kept = disk.folder / "failures.jsonl"
        terminal = Terminal(tmp_path / "data")
        error = ran(disk, terminal, "ingest", str(file), "--failures", str(kept), status=1)["error"]
        assert error["code"] == "config"
        assert f"{COUNT} failures cannot be written to {kept}: No space left on device" in error["message"]
        assert error["detail"]["counts"] == {"added": 1, "changed": 0, "unchanged": 0, "failed": COUNT}
        assert disk.run("ls", "-A", str(disk.folder)).stdout == "", "nothing half is left"
        disk.resize("16m")
        report = ran(disk, terminal, "ingest", str(file), "--failures", str(kept), status=1)
        assert report["counts"] == {"added": 0, "changed": 0, "unchanged": 1, "failed": COUNT}
        assert len(disk.run("cat", str(kept)).stdout.splitlines()) == COUNT
