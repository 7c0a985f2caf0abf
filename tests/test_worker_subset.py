"""A worker process for some of the generators takes their questions alone; the others wait, and the service says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from citewell.client import Client
from citewell.config import load_settings
from citewell.errors import CitewellError
from citewell.priorities import queue_names
from citewell.records import AnswerState, Document, Question
from tests.cli.terminal import Terminal
from tests.servers.processes import free_port, wait_until

TABLES = {
    name: {"kind": "openai", "model": "any", "url": "http://127.0.0.1:9/v1", "retry_seconds": 0}
    for name in ("small", "large")
}
TEXT = "The lamp burns for nine hours on one charge."


def test_a_worker_takes_the_queues_of_its_generators_alone(
    elasticsearch_url: str, redis_db_url: str, index_name: str, tmp_path: Path
) -> None:
    port = free_port()
    given = {
        "stack": "served",
        "elasticsearch_url": elasticsearch_url,
        "redis_url": redis_db_url,
        "index_name": index_name,
        "generators": json.dumps(TABLES),
        "port": str(port),
        "metrics_port": str(free_port()),
        "lease_seconds": "2",
    }
    terminal = Terminal(tmp_path / "unused", **given)
    processes = []
    logs = [(tmp_path / f"{name}.log").open("w") for name in ("serve", "worker", "rest")]

    def start(log: int, *words: str, **more: str) -> None:
        where = Terminal(tmp_path / "unused", **(given | more))
        processes.append(where.start(*words, "--json", stdout=logs[log], stderr=logs[log]))

    try:
        start(0, "serve")
        with Client(f"http://127.0.0.1:{port}") as client:
            assert wait_until(lambda: _up(client), 90)
            (outcome,) = client.put([Document(id="lamp.md", text=TEXT)])
            assert outcome.status == "added"
            start(1, "worker", "--generators", "extractive,small")
            assert wait_until(lambda: _rows(client)["small"]["live"], 90), Path(logs[1].name).read_text()
            asked = client.submit_each(Question(text="How long does the lamp burn?"), ["extractive", "small", "large"])
            done = client.answer(asked[0].id, 60)
            assert (done.state, done.generator) == (AnswerState.DONE, "extractive")
            assert "nine hours" in done.answer
            failed = client.answer(asked[1].id, 60)
            assert failed.state is AnswerState.FAILED, "nothing listens there, and this worker has tried"
            waits = client.answer(asked[2].id, 3)
            assert (waits.state, waits.attempt) == (AnswerState.QUEUED, 0)
            assert waits.waiting is not None
            assert waits.waiting.starts_in_s is None, "nobody lives who would write it"
            told = {name: (row["live"], row["workers"], row["waiting"]) for name, row in _rows(client).items()}
            assert told == {"extractive": (True, 1, 0), "small": (True, 1, 0), "large": (False, 0, 1)}
            start(2, "worker", "--generators", "large", metrics_port="0")
            assert client.answer(asked[2].id, 90).state is AnswerState.FAILED, "it was kept, and is tried now"
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)
        for log in logs:
            log.close()
    settings = load_settings(index_name=index_name, generators=TABLES)
    ready = [json.loads(line) for line in Path(logs[1].name).read_text().splitlines() if "worker_ready" in line]
    assert ready[0]["queues"] == queue_names(settings.index_name, ("extractive", "small"))
    assert terminal.json("answers", "show", asked[0].id)["state"] == "done"


def _rows(client: Client) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.catalogue()}


def _up(client: Client) -> bool:
    try:
        return bool(client.check())
    except CitewellError:  # not yet
        return False
