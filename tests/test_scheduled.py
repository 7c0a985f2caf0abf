"""Sources that are loaded when they are due: real beat processes, real workers, a real Redis and Elasticsearch."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from citewell.config import Settings, load_settings
from citewell.errors import QueueUnavailable
from citewell.ingest.distributed_queue import IngestQueue
from citewell.ingest.scheduled import RedisSources, fire_due
from citewell.records import SourceMessage
from citewell.schedule import SourceTable
from tests.test_distributed import Processes, held, until

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="signals"), pytest.mark.timeout(300)]


class TestSlots:
    """What the keys in Redis promise."""

    @pytest.fixture
    def settings(self, redis_db_url: str) -> Settings:
        return load_settings(redis_url=redis_db_url, lease_seconds=0.5)

    @pytest.fixture
    def slots(self, settings: Settings) -> Iterator[RedisSources]:
        slots = RedisSources(settings)
        yield slots
        slots.close()

    def test_a_run_is_sent_once_whoever_asks(self, slots: RedisSources) -> None:
        sent: list[str] = []
        threads = [
            threading.Thread(target=lambda: [fire_due({"a": 60.0, "b": 0.5}, slots, sent.append) for _ in range(5)])
            for _ in range(8)
        ]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sent.count("a") == 1
        assert 1 <= sent.count("b") <= 1 + (time.monotonic() - started) / 0.5
        until(lambda: slots.due_in("b") == 0)
        assert 50 < slots.due_in("a") <= 60

    def test_a_message_that_was_not_sent_frees_its_slot(self, slots: RedisSources) -> None:
        def refuse(name: str) -> None:
            raise QueueUnavailable("away")

        with pytest.raises(QueueUnavailable):
            fire_due({"a": 60.0}, slots, refuse)
        sent: list[str] = []
        assert fire_due({"a": 60.0}, slots, sent.append) <= 5
        assert sent == ["a"]

    def test_one_holder_at_a_time_for_as_long_as_it_lives(self, slots: RedisSources) -> None:
        with slots.held("a", "one") as lost:
            time.sleep(1.0)  # two leases
            with slots.held("a", "two") as other:
                assert other is None
            assert lost is not None
            assert not lost.is_set()
        with slots.held("a", "two") as other:
            assert other is not None

    def test_a_lock_that_another_has_taken_is_told(self, slots: RedisSources, settings: Settings) -> None:
        with slots.held("a", "one") as lost:
            assert lost is not None
            with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
                client.set("citewell:source:a:lock", "two", px=5000)
                assert lost.wait(5)
        assert slots.last("a") == {}

    def test_every_key_has_a_time_to_live(self, slots: RedisSources, settings: Settings) -> None:
        slots.claim("a", 60)
        slots.record("a", {"counts": {}})
        with (
            slots.held("a", "one"),
            redis.Redis.from_url(settings.redis_url, decode_responses=True) as client,
        ):
            keys = list(client.scan_iter("citewell:*"))
            assert len(keys) == 3
            assert all(int(str(client.ttl(key))) > 0 or int(str(client.pttl(key))) > 0 for key in keys)


class Beats:
    """`celery -A citewell.workers.app beat` processes, ended with the test."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        given = settings.model_dump(mode="json", exclude_defaults=True)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("CITEWELL_")} | {
            f"CITEWELL_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in given.items()
        }
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        with (self._folder / f"beat-{len(self._all)}.log").open("wb") as log:
            command = [sys.executable, "-m", "celery", "-A", "citewell.workers.app", "beat", "--pidfile="]
            process = subprocess.Popen(
                command, cwd=self._folder, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._all.append(process)
        return process

    def logs(self) -> str:
        return "\n".join(file.read_text("utf-8") for file in sorted(self._folder.glob("beat-*.log")))

    def sent(self) -> list[str]:
        """The log lines of the runs that were sent, by any of the processes."""
        return [line for line in self.logs().splitlines() if "source_due" in line]

    def close(self) -> None:
        for process in self._all:
            if process.poll() is None:
                process.kill()
            process.wait(30)
        print(self.logs())


EVERY_S = 3.0


@pytest.fixture
def settings(elasticsearch_url: str, redis_db_url: str, index_name: str, tmp_path: Path) -> Settings:
    (tmp_path / "faq").mkdir()
    for number in range(3):
        (tmp_path / "faq" / f"q{number}.md").write_text(f"# Question {number}\n\nAn answer.\n", "utf-8")
    return load_settings(
        stack="served",
        elasticsearch_url=elasticsearch_url,
        redis_url=redis_db_url,
        index_name=index_name,
        embedder="hashing",
        passage_tokens=16,
        lease_seconds=2.0,
        data_dir=tmp_path,
        sources={
            "faq": SourceTable(source=str(tmp_path / "faq"), every=EVERY_S, sync=True, max_delete="100%"),
            "by hand": SourceTable(source=str(tmp_path / "none.md")),
        },
    )


@pytest.fixture
def processes(settings: Settings, tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path, settings)
    yield processes
    processes.close()
    print(processes.logs())


@pytest.fixture
def beats(settings: Settings, tmp_path: Path) -> Iterator[Beats]:
    beats = Beats(tmp_path, settings)
    yield beats
    beats.close()


def test_two_beats_keep_a_source_in_step_and_send_each_run_once(
    settings: Settings, processes: Processes, beats: Beats, tmp_path: Path
) -> None:
    processes.start()
    processes.start()
    until(lambda: processes.logs().count("worker_ready") == 2)
    started = time.monotonic()
    first, _ = beats.start(), beats.start()
    until(lambda: "source_loaded" in processes.logs())
    assert sorted(held(settings)[1]) == ["q0.md", "q1.md", "q2.md"]
    (tmp_path / "faq" / "q1.md").unlink()
    (tmp_path / "faq" / "new.md").write_text("# New\n\nAnother answer.\n", "utf-8")
    until(lambda: sorted(held(settings)[1]) == ["new.md", "q0.md", "q2.md"])
    first.kill()  # the other one goes on alone
    before = len(beats.sent())
    until(lambda: len(beats.sent()) >= before + 2)
    most = 1 + (time.monotonic() - started) / EVERY_S
    assert 3 <= len(beats.sent()) <= most, "a run was sent twice"
    assert "by hand" not in "".join(beats.sent())
    assert not list(tmp_path.glob("celerybeat*")), "beat keeps its state in Redis"
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
        for key in client.scan_iter(f"{settings.index_name}:*"):
            assert int(str(client.pttl(key))) != -1, key
        last = json.loads(str(client.get(f"{settings.index_name}:source:faq:last")))
    assert last["error"] == ""
    assert last["counts"]["unchanged"] >= 2


def test_a_restarted_beat_neither_repeats_nor_forgets(settings: Settings, beats: Beats) -> None:
    """What was sent last is in Redis, so that a restart does not begin the waiting anew."""
    slots = RedisSources(settings)
    slot = slots.claim("faq", 60.0)
    beats.start()
    until(lambda: "is starting" in beats.logs())
    time.sleep(3)
    assert beats.sent() == []
    slots.free("faq", slot)
    until(beats.sent)
    slots.close()


def test_one_run_of_a_source_at_a_time_and_messages_that_come_again_are_dropped(
    settings: Settings, processes: Processes, tmp_path: Path
) -> None:
    lines = [json.dumps({"_id": f"d{n}", "text": f"Document {n} SLOW SLOW", "lang": "en"}) for n in range(1500)]
    (tmp_path / "faq" / "many.jsonl").write_text("\n".join(lines), "utf-8")
    processes.start()
    processes.start()
    until(lambda: processes.logs().count("worker_ready") == 2)
    queue, slots = IngestQueue(settings), RedisSources(settings)
    assert slots.claim("faq", 600.0)
    for _ in range(4):
        queue.send(SourceMessage(name="faq"))
    until(lambda: processes.logs().count("source_set_aside") == 3)
    until(lambda: "source_loaded" in processes.logs())
    queue.send(SourceMessage(name="faq"))
    until(lambda: processes.logs().count("source_set_aside") == 4)
    assert processes.logs().count("source_begun") == 1
    assert re.search(r"source_set_aside .*status=dropped", processes.logs())
    assert slots.last("faq")["counts"]["added"] == 1503
    queue.send(SourceMessage(name="nobody knows it"))
    until(lambda: "this worker has no `nobody knows it`" in processes.logs())
    queue.close()
    slots.close()


def test_a_killed_workers_run_is_made_up_for_by_the_next(
    settings: Settings, processes: Processes, beats: Beats, tmp_path: Path
) -> None:
    lines = [json.dumps({"_id": f"d{n}", "text": f"Document {n} SLOW SLOW", "lang": "en"}) for n in range(1500)]
    (tmp_path / "faq" / "many.jsonl").write_text("\n".join(lines), "utf-8")
    first = processes.start()
    until(lambda: "worker_ready" in processes.logs())
    beats.start()
    until(lambda: "source_begun" in processes.logs())
    first.kill()
    processes.start()
    until(lambda: "source_loaded" in processes.logs(), within_s=120)
    assert len(held(settings)[1]) == 1503


def test_a_worker_that_leaves_hands_its_source_on(settings: Settings, processes: Processes, tmp_path: Path) -> None:
    lines = [json.dumps({"_id": f"d{n}", "text": f"Document {n} SLOW SLOW SLOW", "lang": "en"}) for n in range(4000)]
    (tmp_path / "faq" / "many.jsonl").write_text("\n".join(lines), "utf-8")
    worker = processes.start(drain_s=0.5)
    until(lambda: "worker_ready" in processes.logs())
    queue, slots = IngestQueue(settings), RedisSources(settings)
    assert slots.claim("faq", 600.0)
    queue.send(SourceMessage(name="faq"))
    until(lambda: "source_begun" in processes.logs())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert "source_stopped" in processes.logs()
    assert slots.due_in("faq") == 0, "beat sends it again at once"
    with redis.Redis.from_url(settings.redis_url) as client:
        assert client.exists(f"{settings.index_name}:source:faq:lock") == 0
    assert queue.depth() == 0
    queue.close()
    slots.close()
