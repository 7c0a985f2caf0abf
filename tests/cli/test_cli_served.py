"""The commands on the served stack: the same words, with Elasticsearch, Redis and a Celery worker behind them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def test_the_served_stack(elasticsearch_url: str, redis_db_url: str, index_name: str, tmp_path: Path) -> None:
    terminal = Terminal(
        tmp_path / "unused",
        stack="served",
        elasticsearch_url=elasticsearch_url,
        redis_url=redis_db_url,
        index_name=index_name,
        lease_seconds="2",
    )
    file = tmp_path / "lamp.md"
    file.write_text("# Lamp\n\nThe lamp burns for nine hours on one charge.\n", "utf-8")
    assert terminal.json("ingest", str(file))["counts"]["added"] == 1
    assert terminal.json("ingest", str(file))["counts"]["unchanged"] == 1
    hits = terminal.json("search", "How long does the lamp burn?")["hits"]
    assert [hit["passage"]["doc_id"] for hit in hits] == ["lamp.md"]

    answer_id = terminal.run("ask", "How long does the lamp burn?", "--no-wait").stdout.strip()
    assert terminal.json("answers", "show", answer_id)["state"] == "queued"
    problems = {check["name"]: check for check in terminal.json("doctor", status=1)["checks"] if not check["ok"]}
    assert list(problems) == ["workers"]
    assert "citewell worker" in problems["workers"]["remedy"]

    worker = terminal.start("worker", "--json", stdout=subprocess.DEVNULL)
    assert worker.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(worker.stderr or ()))
    reader.start()
    assert terminal.json("answers", "show", answer_id, "--wait", "90")["state"] == "done"
    text = terminal.run("ask", "How long does the lamp burn?").stdout
    assert "nine hours" in text
    assert "[1] Lamp" in text
    report = terminal.json("doctor")
    details = {check["name"]: check["detail"] for check in report["checks"]}
    assert "1 documents" in details["index"]
    assert details["workers"].startswith("1 ready for extractive")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    reader.join()
    worker.stderr.close()
    assert {"worker_ready", "answer_finished"} <= {json.loads(line)["event"] for line in lines}
    assert not (tmp_path / "unused").exists()
