"""`citewell ingest --distributed` with real workers and the packaged model, one of them killed half-way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.terminal import Terminal
from tests.cli.test_cli_killed import DOCUMENTS, OLDER, Served, corpus

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")


class Workers:
    """`citewell worker --ingest` processes, ended with the test; their logs are read as they are written."""

    def __init__(self, terminal: Terminal, folder: Path) -> None:
        self._terminal = terminal
        self._folder = folder
        self._all: list[subprocess.Popen[str]] = []

    def start(self, *words: str) -> subprocess.Popen[str]:
        with (self._folder / f"worker-{len(self._all)}.log").open("wb") as log:
            process = self._terminal.start(
                "worker", "--ingest", "--json", *words, stdout=subprocess.DEVNULL, stderr=log
            )
        self._all.append(process)
        return process

    def events(self, process: subprocess.Popen[str]) -> list[str]:
        text = (self._folder / f"worker-{self._all.index(process)}.log").read_text("utf-8")
        return [json.loads(line)["event"] for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def close(self) -> None:
        for process in self._all:
            if process.poll() is None:
                process.kill()
            process.wait(30)


@pytest.fixture
def served(elasticsearch_url: str, redis_db_url: str, index_name: str, tmp_path: Path) -> Served:
    store = Served(tmp_path / "unused", elasticsearch_url, redis_db_url, index_name)
    store.terminal.env |= {"CITEWELL_LEASE_SECONDS": "4"}
    return store


@pytest.fixture
def workers(served: Served, tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(served.terminal, tmp_path)
    yield workers
    workers.close()


def until_ready(workers: Workers, *processes: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not all("worker_ready" in workers.events(process) for process in processes):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def interrupted_and_run_again(served: Served, workers: Workers, worker: subprocess.Popen[str], folder: Path) -> None:
    """Ctrl-C in the middle of a load counts what was loaded; the same command goes on."""
    file = folder / "more.jsonl"
    lines = [
        json.dumps({"_id": f"e{n:04}", "text": f"The rope number {n} is blue.", "lang": "en"}) for n in range(3000)
    ]
    file.write_text("\n".join(lines), "utf-8")
    before = workers.events(worker).count("batch_done")
    reader = served.terminal.start("ingest", str(file), "--distributed")
    while workers.events(worker).count("batch_done") < before + 3:
        assert reader.poll() is None, reader.communicate()
        time.sleep(0.02)
    reader.send_signal(signal.SIGINT)
    _, errors = reader.communicate(timeout=60)
    assert reader.returncode == 130, errors
    assert "run the same command again to go on" in errors
    counts = served.terminal.json("ingest", str(file), "--distributed")["counts"]
    assert counts["unchanged"] >= 128
    assert counts["added"] > 0
    assert counts["added"] + counts["unchanged"] == len(lines)


@pytest.mark.timeout(900)
def test_two_workers_of_which_one_is_killed_leave_what_one_process_leaves(
    served: Served, workers: Workers, elasticsearch_url: str, redis_db_url: str, index_name: str, tmp_path: Path
) -> None:
    older = corpus(tmp_path / "older.jsonl", older=True)
    now = corpus(tmp_path / "now.jsonl", older=False)
    calm = Served(tmp_path / "unused", elasticsearch_url, redis_db_url, f"{index_name}-calm")
    for file in (older, now):
        calm.terminal.json("ingest", str(file))

    killed, other = workers.start(), workers.start()
    until_ready(workers, killed, other)
    terminal = served.terminal
    assert terminal.json("ingest", str(older), "--distributed")["counts"]["added"] == OLDER
    before = {process: workers.events(process).count("batch_done") for process in (killed, other)}
    reader = terminal.start("ingest", str(now), "--distributed", "--json")
    while workers.events(killed).count("batch_done") < before[killed] + 3:
        assert reader.poll() is None, reader.communicate()
        time.sleep(0.02)
    killed.kill()
    output, errors = reader.communicate(timeout=400)
    assert reader.returncode == 0, errors
    counts = json.loads(output)["counts"]
    assert counts == {"added": DOCUMENTS - OLDER, "changed": OLDER, "unchanged": 0, "failed": 0}
    assert workers.events(other).count("batch_done") > before[other]

    wanted = {key: (text, vector, digest) for key, text, vector, digest in calm.rows()}
    found = {key: (text, vector, digest) for key, text, vector, digest in served.rows()}
    assert sorted(found) == sorted(wanted)
    assert {key: row[0] for key, row in found.items()} == {key: row[0] for key, row in wanted.items()}
    assert {key: row[2] for key, row in found.items()} == {key: row[2] for key, row in wanted.items()}
    keys = sorted(wanted)
    # Padding depends on which texts share a batch, and moves the last digits.
    np.testing.assert_allclose([found[key][1] for key in keys], [wanted[key][1] for key in keys], atol=1e-5)
    unchanged = terminal.json("ingest", str(now), "--distributed")["counts"]
    assert unchanged == {"added": 0, "changed": 0, "unchanged": DOCUMENTS, "failed": 0}
    interrupted_and_run_again(served, workers, other, tmp_path)
    report = terminal.json("doctor", status=1)  # no worker answers questions
    assert [check["name"] for check in report["checks"] if not check["ok"]] == ["workers"]
    assert report["findings"] == []


def test_what_is_refused_says_what_to_do(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "one.md"
    file.write_text("# One\n\nWords.\n", "utf-8")
    error = terminal.json("ingest", str(file), "--distributed", status=1)["error"]
    assert "the embedded stack has none" in error["message"]
    assert "citewell worker --ingest" in error["remedy"]
    refused = terminal.run("ingest", str(file), "--distributed", "--url", "http://127.0.0.1:1", status=2)
    assert "leave out --url" in " ".join(refused.output.split())
    refused = terminal.run("worker", "--ingest", status=1)
    assert "set `stack` to" in " ".join(refused.output.lower().split())


def test_every_with_workers_keeps_a_source_in_step(served: Served, workers: Workers, tmp_path: Path) -> None:
    """Rounds without a change send nothing; a change, a delete and a worker that was killed are made up for."""
    folder = tmp_path / "faq"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.md").write_text(f"# Rope {number}\n\nThe rope number {number} is blue.\n", "utf-8")
    worker = workers.start()
    until_ready(workers, worker)
    terminal = served.terminal
    process = terminal.start("ingest", str(folder), "--every", "1s", "--sync", "--distributed", "--json")
    try:
        assert _round(process)["added"] == 5
        done = workers.events(worker).count("batch_done")
        assert _round(process) == {"added": 0, "changed": 0, "unchanged": 5, "failed": 0, "deleted": 0}
        assert workers.events(worker).count("batch_done") == done, "what is unchanged is not sent"
        (folder / "1.md").write_text("# Rope 1\n\nThe rope number 1 is red now.\n", "utf-8")
        (folder / "new.md").write_text("# New\n\nThe new one is green.\n", "utf-8")
        (folder / "4.md").unlink()
        seen = _rounds(process, lambda total: total["added"] and total["changed"] and total["deleted"])
        assert (seen["added"], seen["changed"], seen["deleted"], seen["failed"]) == (1, 1, 1, 0)
        worker.kill()
        worker.wait(30)
        (folder / "late.md").write_text("# Late\n\nThe late one is grey.\n", "utf-8")
        other = workers.start()
        until_ready(workers, other)
        assert _rounds(process, lambda total: total["added"])["added"] == 1
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert "Traceback" not in stderr
    finally:
        process.kill()
        process.wait()
    texts = {key: text for key, text, _, _ in served.rows()}
    assert len(texts) == 6
    assert any("red now" in text for text in texts.values())
    assert terminal.json("doctor", status=1)["findings"] == []


def _round(process: subprocess.Popen[str]) -> dict[str, int]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended"
    counts: dict[str, int] = json.loads(line)["counts"]
    return counts


def _rounds(process: subprocess.Popen[str], enough: Callable[[dict[str, int]], object]) -> dict[str, int]:
    """The counts of rounds together, until they are enough. A change may fall between two files of one round."""
    total: Counter[str] = Counter()
    deadline = time.monotonic() + 120
    while not enough(total):
        assert time.monotonic() < deadline, total
        total.update(_round(process))
    return total
