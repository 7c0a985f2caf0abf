"""Loads whose work is done by other processes: real workers, a real Redis and a real Elasticsearch.

Workers have a small embedder that obeys words in the texts (`tests/scripted_ingest.py`).
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from citewell.checkup import look
from citewell.config import Settings, load_settings
from citewell.errors import LeaseLost, QueueUnavailable
from citewell.ingest.distributed_inspection import NO_BATCH
from citewell.ingest.distributed_queue import IngestQueue, ingest_queues
from citewell.ingest.distributed_sender import Waits
from citewell.ingest.distributed_store import BatchLease, RedisBatches, new_run
from citewell.ingest.failures import document_again
from citewell.ingest.load import Loading, load_sources
from citewell.ingest.sources import Item, Known, Tell
from citewell.library import Library
from citewell.records import Batch, BatchMessage, BatchResult, Document, Outcome, SourceMessage
from tests.libraries import library
from tests.scripted_ingest import Obedient, shelf

ROOT = Path(__file__).parents[1]
LEASE_S = 2.0
_PLAIN = Loading()

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"), pytest.mark.timeout(300)]


def until(holds: Callable[[], object], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def documents(count: int, words: str = "", first: int = 0) -> list[Document]:
    """Documents of one to three passages."""
    return [
        Document(
            id=f"d{number:05}",
            text="\n\n".join(
                f"Part {part} of document {number} stands here. {words}" for part in range(number % 3 + 1)
            ),
            lang="en",
        )
        for number in range(first, first + count)
    ]


class Listed:
    """A source that has these documents; `read` counts how many were taken."""

    size = 0

    def __init__(self, items: Iterable[Item], name: str = "list") -> None:
        self._items = items
        self.name = name
        self.read = 0

    def items(self, known: Known, tell: Tell) -> Iterator[Item]:
        for item in self._items:
            self.read += 1
            yield item


class Processes:
    """Processes of one test; all are ended with it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._given = settings.model_dump(mode="json", exclude_defaults=True)
        self.all: list[subprocess.Popen[str]] = []

    def start(self, part: str = "worker", **more: Any) -> subprocess.Popen[str]:
        with (self._folder / f"process-{len(self.all)}.log").open("wb") as log:
            command = [sys.executable, "-m", "tests.scripted_ingest", part, json.dumps(self._given | more)]
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        self.all.append(process)
        return process

    def keep_up(self, stop: threading.Event) -> threading.Thread:
        """A service manager: a worker that died is started again, until `stop`."""

        def look() -> None:
            while not stop.wait(0.1):
                if self.all[-1].poll() is not None:
                    self.start()

        thread = threading.Thread(target=look)
        thread.start()
        return thread

    def logs(self) -> str:
        return "\n".join(file.read_text("utf-8", "replace") for file in sorted(self._folder.glob("process-*.log")))

    def leased(self, process: subprocess.Popen[str], batch: int) -> bool:
        """Whether a worker has told that it has that batch."""
        log = self._folder / f"process-{self.all.index(process)}.log"
        return re.search(rf"batch_leased\b.*\bbatch={batch}\b", log.read_text("utf-8", "replace")) is not None

    def close(self) -> None:
        for process in self.all:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=30)


@pytest.fixture
def settings(elasticsearch_url: str, redis_db_url: str, index_name: str, tmp_path: Path) -> Settings:
    return load_settings(
        stack="served",
        elasticsearch_url=elasticsearch_url,
        redis_url=redis_db_url,
        index_name=index_name,
        embedder="hashing",
        passage_tokens=16,
        lease_seconds=LEASE_S,
        data_dir=tmp_path,
    )


@pytest.fixture
def processes(settings: Settings, tmp_path: Path) -> Iterator[Processes]:
    processes = Processes(tmp_path, settings)
    yield processes
    processes.close()
    print(processes.logs())


@pytest.fixture
def into(settings: Settings) -> Iterator[Library]:
    opened = library(settings, Obedient())
    yield opened
    opened.close()


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
        yield client


def load(settings: Settings, into: Library, source: Listed, plan: Loading = _PLAIN) -> Iterator[Outcome]:
    return load_sources(shelf(settings, into, [source.name]), [source], plan, lambda _: None)


def loaded(settings: Settings, into: Library, items: Iterable[Item], **plan: Any) -> list[Outcome]:
    return list(load(settings, into, Listed(items), Loading(**plan)))


def waiting(settings: Settings, client: redis.Redis) -> int:
    """Messages for ingest workers."""
    return sum(int(str(client.llen(name))) for name in ingest_queues(settings.index_name))


def counted(outcomes: Iterable[Outcome]) -> Counter[str]:
    return Counter(outcome.status for outcome in outcomes)


def held(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every passage and every ledger entry, by id, without time and place; vectors as they were sent."""
    import httpx

    def all_of(index: str) -> list[dict[str, Any]]:
        body = {"size": 10_000, "_source": {"exclude_vectors": False}}
        address = f"{settings.elasticsearch_url}/{index}"
        httpx.post(f"{address}/_refresh", timeout=60).raise_for_status()
        found = httpx.post(f"{address}/_search", json=body, timeout=60).raise_for_status().json()
        assert found["hits"]["total"]["value"] < 10_000, "one page does not hold it all"
        return [hit["_source"] for hit in found["hits"]["hits"]]

    entries = {entry["doc_id"]: entry for entry in all_of(f"{settings.index_name}-documents")}
    rows = all_of(settings.index_name)
    passages = {row["id"]: row for row in rows}
    assert len(passages) == len(rows), "a passage is there twice"
    for entry in entries.values():
        del entry["indexed_at"]
    for row in (*entries.values(), *passages.values()):
        row.pop("slot", None)  # which of two places holds it: a write that was killed leaves the next one the other
    return passages, entries


def assert_same(one: Settings, other: Settings) -> None:
    """Both indices hold the same: passages, texts, vectors and ledger."""
    (passages, entries), (wanted, wanted_entries) = held(one), held(other)
    assert sorted(passages) == sorted(wanted)
    assert sorted(entries) == sorted(wanted_entries)
    differing = {
        key: (entries[key], wanted_entries[key]) for key in wanted_entries if entries[key] != wanted_entries[key]
    }
    assert not differing, f"{len(differing)}, such as {next(iter(differing.values()))}"
    vectors = [[rows[key].pop("vector") for key in sorted(rows)] for rows in (passages, wanted)]
    assert passages == wanted
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


class TestStore:
    """What the keys in Redis promise."""

    @pytest.fixture
    def settings(self, redis_db_url: str) -> Settings:
        return load_settings(redis_url=redis_db_url, lease_seconds=0.5)

    @pytest.fixture
    def store(self, settings: Settings) -> Iterator[RedisBatches]:
        store = RedisBatches(settings)
        yield store
        store.close()

    @staticmethod
    def run(store: RedisBatches, *numbers: int) -> str:
        run = new_run(["list"])
        for number in numbers:
            store.put(Batch(run=run.id, number=number, documents=tuple(documents(1))))
        store.beat(run, numbers, {"sent": len(numbers)})
        return run.id

    @staticmethod
    def leased(store: RedisBatches, run: str, number: int = 1, owner: str = "w") -> BatchLease:
        lease = store.lease(run, number, owner)
        assert isinstance(lease, BatchLease)
        return lease

    def test_a_batch_has_one_worker_at_a_time(self, store: RedisBatches) -> None:
        run = self.run(store, 1)
        lease = self.leased(store, run)
        assert [document.id for document in lease.batch.documents] == ["d00000"]
        assert store.lease(run, 1, "other") == "busy"
        store.finish(lease, BatchResult(outcomes=(Outcome(doc_id="d00000", status="added"),)))
        assert store.lease(run, 1, "other") == "gone"
        assert store.ended(run, "", 0)[0] == [1]
        result = store.result(run, 1)
        assert result is not None
        assert [outcome.status for outcome in result.outcomes] == ["added"]

    def test_a_worker_that_was_overtaken_writes_nothing_more(self, store: RedisBatches) -> None:
        run = self.run(store, 1)
        late = self.leased(store, run)
        until(lambda: store.states(run, [1])[1].late)
        lease = self.leased(store, run, owner="other")
        assert (lease.attempt, lease.spent) == (2, 2)
        for write in (store.renew, store.release, lambda lease: store.finish(lease, BatchResult())):
            with pytest.raises(LeaseLost):
                write(late)
        store.renew(lease, {"at": "0"})

    def test_a_lease_that_ran_out_comes_back_unless_somebody_took_it(self, store: RedisBatches) -> None:
        run = self.run(store, 1)
        lease = self.leased(store, run)
        until(lambda: store.states(run, [1])[1].late)
        store.renew(lease)
        assert not store.states(run, [1])[1].late
        assert store.lease(run, 1, "other") == "busy"

    def test_what_is_given_back_does_not_count_and_fences_all_the_same(self, store: RedisBatches) -> None:
        run = self.run(store, 1)
        lease = self.leased(store, run)
        store.renew(lease, {"at": "0", "out:1": "x"})
        store.release(lease)
        assert store.states(run, [1])[1].returned
        again = self.leased(store, run)
        assert (again.attempt, again.spent) == (2, 1)
        assert again.trail == {"at": "", "out:1": "x"}
        assert not store.states(run, [1])[1].returned

    def test_nothing_is_begun_or_written_once_the_reader_is_gone(self, store: RedisBatches) -> None:
        run = self.run(store, 1, 2)
        lease = self.leased(store, run)
        assert [found.id for found in store.runs()] == [run]
        until(lambda: not store.runs())  # no sign of life for three leases
        assert store.lease(run, 2, "w") == "gone"
        with pytest.raises(LeaseLost):
            store.renew(lease)

    def test_every_key_has_a_time_to_live(self, store: RedisBatches, settings: Settings) -> None:
        run = self.run(store, 1, 2)
        store.finish(self.leased(store, run), BatchResult())
        store.renew(self.leased(store, run, 2), {"at": "0"})
        with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
            keys = sorted(client.scan_iter("citewell:*"))
            assert len(keys) == 5, keys
            assert all(int(str(client.ttl(key))) > 0 for key in keys)
            store.forget(run, [1, 2], whole=True)
            assert list(client.scan_iter("citewell:*")) == []

    def test_messages_of_neighbouring_versions_are_understood(self) -> None:
        batch = Batch(run="r", number=1, documents=tuple(documents(1)))
        newer = json.loads(batch.to_json()) | {"schema_version": 2, "something": "new"}
        assert Batch.from_json(json.dumps(newer)).documents == batch.documents
        assert BatchMessage.model_validate({"run": "r", "number": 1}).schema_version == 1


class TestDoctor:
    def test_messages_of_a_killed_load_are_found_and_taken_off(self, redis_db_url: str) -> None:
        """Other messages, and those of a load that is alive, are left alone."""
        settings = load_settings(stack="served", redis_url=redis_db_url, lease_seconds=5)
        store, queue = RedisBatches(settings), IngestQueue(settings)
        alive, dead = TestStore.run(store, 1), TestStore.run(store, 1, 2)
        for run, number in ((alive, 1), (dead, 1), (dead, 2), (dead, 3)):
            queue.send(BatchMessage(run=run, number=number))
        queue.send(SourceMessage(name="faq"))

        def found(*, fix: bool = False) -> list[tuple[str, str, bool]]:
            results = look(store.inspection(), fix=fix)
            return sorted((result.finding.kind, result.finding.name, result.fixed) for result in results)

        assert found() == [(NO_BATCH, f"{dead}:3", False)]
        store.forget(dead, [], whole=True)
        assert found() == [(NO_BATCH, f"{dead}:{number}", False) for number in (1, 2, 3)]
        assert queue.depth() == 5
        assert found(fix=True) == [(NO_BATCH, f"{dead}:{number}", True) for number in (1, 2, 3)]
        assert queue.depth() == 2
        assert found() == []
        queue.close()
        store.close()


class TestLoads:
    def test_a_killed_workers_batches_are_done_by_the_other(
        self, settings: Settings, processes: Processes, into: Library, client: redis.Redis
    ) -> None:
        """Two workers, one killed half-way: the index holds what a load in one process leaves there."""
        older, now = documents(300, "as it was before"), documents(2500, "SLOW")
        first = processes.start()
        processes.start()
        assert counted(loaded(settings, into, older)) == {"added": 300}
        outcomes: list[Outcome] = []
        for outcome in load(settings, into, Listed(now)):
            outcomes.append(outcome)
            if len(outcomes) == 1000:
                assert "batch_leased" in processes.logs()
                first.kill()
        assert [outcome.doc_id for outcome in outcomes] == [document.id for document in now]
        assert counted(outcomes) == {"added": 2200, "changed": 300}
        assert counted(loaded(settings, into, now)) == {"unchanged": 2500}

        calm = settings.model_copy(update={"index_name": f"{settings.index_name}-calm"})
        with closing(library(calm, Obedient())) as local:
            for documents_ in (older, now):
                list(load_sources(local, [Listed(documents_)], Loading(), lambda _: None))
            assert_same(settings, calm)
        assert list(client.scan_iter(f"{settings.index_name}:load*")) == []
        assert waiting(settings, client) == 0

    def test_a_killed_workers_batch_runs_again_within_two_leases(
        self, settings: Settings, processes: Processes, into: Library
    ) -> None:
        """Nothing but the lease can bring it back that soon: the broker alone takes a minute."""
        first = processes.start()
        done: list[Outcome] = []
        thread = threading.Thread(
            target=lambda: done.extend(load(settings, into, Listed(documents(100, "SLOW SLOW SLOW"))))
        )
        thread.start()
        until(lambda: "batch_leased" in processes.logs())
        first.kill()
        killed = time.monotonic()
        processes.start()
        thread.join(60)
        assert counted(done) == {"added": 100}
        assert time.monotonic() - killed < 30  # a worker's start and a lease and a half, on a busy machine

    def test_a_killed_workers_batch_goes_ahead_of_what_waits(
        self, settings: Settings, processes: Processes, into: Library, client: redis.Redis
    ) -> None:
        """Behind a window of batches on one worker it would come last."""
        first = processes.start(workers=1)
        done: list[Outcome] = []
        items = [Document(id="hangs", text="HANG a little", lang="en"), *documents(4000, "SLOW")]
        thread = threading.Thread(target=lambda: done.extend(load(settings, into, Listed(items))))
        thread.start()
        until(lambda: "batch_leased" in processes.logs() and waiting(settings, client) >= 30)
        first.kill()
        processes.start(workers=1)
        thread.join(120)
        assert counted(done) == {"added": 4001}
        log = (settings.data_dir / "process-1.log").read_text("utf-8")
        order = [int(number) for number in re.findall(r"batch_leased .*batch=(\d+)", log)]
        assert set(order) | {1, 2} == set(range(1, 34))
        assert order.index(1) < 20, order

    def test_a_document_that_ends_its_workers_fails_alone(
        self, settings: Settings, processes: Processes, into: Library
    ) -> None:
        items = [*documents(40), Document(id="poison", text="DIE at once", lang="en"), *documents(40, first=40)]
        processes.start()
        stop = threading.Event()
        manager = processes.keep_up(stop)
        try:
            outcomes = loaded(settings, into, items)
        finally:
            stop.set()
            manager.join()
        assert [outcome.doc_id for outcome in outcomes] == [item.id for item in items]
        assert counted(outcomes) == {"added": 80, "failed": 1}
        (bad,) = [outcome for outcome in outcomes if outcome.status == "failed"]
        assert bad.doc_id == "poison"
        assert bad.exact
        assert bad.reason.startswith("loading it failed 3 times: its worker died of it")
        assert "ingest workers" in bad.remedy
        assert sum(process.poll() == -signal.SIGKILL for process in processes.all) == 3

    def test_a_document_that_raises_fails_alone_and_kills_nobody(
        self, settings: Settings, processes: Processes, into: Library, tmp_path: Path
    ) -> None:
        items = [*documents(40), Document(id="poison", text="RAISE at once", lang="en"), *documents(40, first=40)]
        processes.start()
        outcomes = loaded(settings, into, items, failures=tmp_path / "failures.jsonl")
        assert counted(outcomes) == {"added": 80, "failed": 1}
        (line,) = (tmp_path / "failures.jsonl").read_text("utf-8").splitlines()
        record = json.loads(line)
        assert record["id"] == "poison"
        assert "told to raise" in record["reason"]
        mended = document_again(record).model_copy(update={"text": "mended"})
        assert counted(loaded(settings, into, [mended])) == {"added": 1}
        assert processes.all[0].poll() is None

    def test_the_reader_stops_when_enough_is_under_way(
        self, settings: Settings, processes: Processes, into: Library, client: redis.Redis
    ) -> None:
        """With a window of two, and workers that do nothing yet, no more than two batches lie in Redis."""
        settings = settings.model_copy(update={"ingest_window": 2})
        source = Listed(documents(3000))
        worker = processes.start()
        until(lambda: "worker_ready" in processes.logs())
        worker.send_signal(signal.SIGSTOP)
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.extend(load(settings, into, source)))
        thread.start()
        pattern = f"{settings.index_name}:load:*}}:[0-9]*"
        until(lambda: len(list(client.scan_iter(pattern))) == 2)
        time.sleep(1.0)
        assert len(list(client.scan_iter(pattern))) == 2
        assert source.read < 1100, "it went on reading"  # a thousand are looked up in the ledger together
        assert not outcomes
        worker.send_signal(signal.SIGCONT)
        most = 0
        while thread.is_alive():
            most = max(most, len(list(client.scan_iter(pattern))))
            time.sleep(0.01)
        assert most <= 2
        assert counted(outcomes) == {"added": 3000}

    def test_messages_that_come_twice_are_done_once(
        self, settings: Settings, processes: Processes, into: Library
    ) -> None:
        processes.start()
        processes.start()
        queue, stop = IngestQueue(settings), threading.Event()

        def double() -> None:
            """Each batch that is there is offered again and again."""
            with redis.Redis.from_url(settings.redis_url, decode_responses=True) as client:
                while not stop.wait(0.05):
                    for key in client.scan_iter(f"{settings.index_name}:load:*}}:[0-9]*"):
                        run, number = str(key).rsplit("{", 1)[1].split("}:")
                        queue.send(BatchMessage(run=run, number=int(number)))

        thread = threading.Thread(target=double)
        thread.start()
        items = documents(1000, "SLOW")
        outcomes = loaded(settings, into, items)
        stop.set()
        thread.join()
        queue.close()
        assert [outcome.doc_id for outcome in outcomes] == [item.id for item in items]
        assert counted(outcomes) == {"added": 1000}
        logs = processes.logs()
        assert logs.count("batch_leased") == 8
        assert logs.count("batch_set_aside") > 0

    def test_an_id_that_comes_twice_ends_as_the_last_one_has_it(
        self, settings: Settings, processes: Processes, into: Library
    ) -> None:
        processes.start()
        items = [*documents(300, "SLOW"), *documents(200, "the last one")]
        outcomes = loaded(settings, into, items)
        assert counted(outcomes) == {"added": 300, "changed": 200}
        assert all("the last one wins" in outcome.reason for outcome in outcomes[300:])
        entry = into.index().ledger(["d00007"], with_document=True)["d00007"]
        assert entry.document is not None
        assert "the last one" in entry.document.text

    def test_a_document_that_is_no_text_fails_before_it_is_sent(
        self, settings: Settings, processes: Processes, into: Library
    ) -> None:
        processes.start()
        items = [*documents(3), Document(id="half", text="half a \ud83d character"), *documents(3, first=3)]
        outcomes = loaded(settings, into, items)
        assert [outcome.status for outcome in outcomes] == ["added"] * 3 + ["failed"] + ["added"] * 3
        assert "no Unicode text" in outcomes[3].reason

    def test_sync_deletes_what_the_source_no_longer_has(
        self, settings: Settings, processes: Processes, into: Library
    ) -> None:
        processes.start()
        assert counted(loaded(settings, into, documents(200))) == {"added": 200}
        outcomes = loaded(settings, into, documents(190), sync=True)
        assert counted(outcomes) == {"unchanged": 190, "deleted": 10}
        assert len(held(settings)[1]) == 190

    def test_no_worker_is_an_error_that_says_what_to_do(self, settings: Settings, into: Library) -> None:
        source = shelf(settings, into, ["list"])
        source._sending = type(source._sending)(2, 3, Waits(workers=1.0))
        with pytest.raises(QueueUnavailable, match="no ingest worker is ready after 1 s") as caught:
            list(source.put(documents(1), ""))
        assert "citewell worker --ingest" in caught.value.remedy

    def test_an_interrupted_load_leaves_nothing_behind(
        self, settings: Settings, processes: Processes, into: Library, client: redis.Redis
    ) -> None:
        processes.start()
        outcomes = load(settings, into, Listed(documents(2000, "SLOW")))
        first = list(itertools.islice(outcomes, 200))
        outcomes.close()  # type: ignore[attr-defined]
        assert counted(first) == {"added": 200}
        assert list(client.scan_iter(f"{settings.index_name}:load*")) == []
        until(lambda: waiting(settings, client) == 0)
        again = counted(loaded(settings, into, documents(2000, "SLOW")))
        assert again["unchanged"] >= 200
        assert again["added"] + again["unchanged"] == 2000

    def test_a_worker_that_is_told_to_leave_ends_its_batch_first(
        self, settings: Settings, processes: Processes, into: Library
    ) -> None:
        leaving = processes.start()
        done: list[Outcome] = []
        thread = threading.Thread(target=lambda: done.extend(load(settings, into, Listed(documents(600, "SLOW")))))
        thread.start()
        until(lambda: "batch_leased" in processes.logs())
        leaving.send_signal(signal.SIGTERM)
        processes.start()
        assert leaving.wait(60) == 0
        thread.join(60)
        assert counted(done) == {"added": 600}


class TestSince:
    """The greatest revision in the ledger says that everything below is loaded, whoever is killed."""

    ROWS = 3000

    @pytest.fixture
    def database(self, tmp_path: Path) -> str:
        with closing(sqlite3.connect(tmp_path / "rows.db")) as connection, connection:
            connection.execute("create table rows (id text, text text, n integer)")
            rows = ((f"r{n:05}", f"Row {n} says SLOW things.", n) for n in range(self.ROWS))
            connection.executemany("insert into rows values (?, ?, ?)", rows)
        return f"sqlite:///{tmp_path}/rows.db"

    def test_a_killed_reader_goes_on_where_everything_before_is_loaded(
        self, settings: Settings, processes: Processes, client: redis.Redis, database: str
    ) -> None:
        options = {"source": database, "query": "select id, text, n from rows", "since": "n"}
        processes.start(workers=3)
        processes.start(workers=1)
        for lines in (300, 700, 400):
            reader = processes.start("reader", **options)
            assert reader.stdout is not None
            for _ in range(lines):
                assert reader.stdout.readline(), processes.logs()
            reader.kill()
            reader.wait()
            entries = held(settings)[1]
            known = [int(e["revision"].split(":")[1]) for e in entries.values() if e.get("revision")]
            lacking = [n for n in range(max(known)) if f"r{n:05}" not in entries]
            assert lacking == [], "the next run would not ask for these"
        reader = processes.start("reader", **options)
        output = reader.communicate(timeout=120)[0].splitlines()
        assert reader.returncode == 0
        assert len(output) < self.ROWS, "it began from nothing"
        entries = held(settings)[1]
        assert len(entries) == self.ROWS
        assert all(entry["content_hash"] and entry["revision"] for entry in entries.values())
        until(lambda: waiting(settings, client) == 0)
        for key in client.scan_iter(f"{settings.index_name}:*"):
            assert int(str(client.ttl(key))) > 0, key

    def test_batches_that_overtake_leave_no_revision_behind_a_gap(
        self, settings: Settings, tmp_path: Path, database: str
    ) -> None:
        """The first batch hangs, later ones are done, the reader is killed: the next run asks for everything again."""
        settings = settings.model_copy(update={"lease_seconds": 10.0, "workers": 1})
        processes = Processes(tmp_path, settings)
        options = {"source": database, "query": "select id, text, n from rows", "since": "n"}
        with closing(sqlite3.connect(tmp_path / "rows.db")) as connection, connection:
            connection.execute("update rows set text = 'HANG a little' where n = 0")
        try:
            workers = [processes.start(), processes.start()]
            until(lambda: processes.logs().count("worker_ready") == 2)
            reader = processes.start("reader", **options)
            until(lambda: any(processes.leased(worker, 1) for worker in workers))
            hangs = next(worker for worker in workers if processes.leased(worker, 1))
            hangs.send_signal(signal.SIGSTOP)  # within the 3 s for which the first batch hangs
            until(lambda: processes.logs().count("batch_done") >= 3)
            reader.kill()
            hangs.kill()
            entries = held(settings)[1]
            assert "r00000" not in entries
            assert len(entries) > 128
            assert not any(entry.get("revision") for entry in entries.values())
            output = processes.start("reader", **options).communicate(timeout=120)[0].splitlines()
            assert len(output) == self.ROWS
            entries = held(settings)[1]
            assert {entry["revision"] for entry in entries.values()} == {f"number:{n}" for n in range(self.ROWS)}
        finally:
            processes.close()
            print(processes.logs())


class TestRedisAway:
    @pytest.mark.parametrize("kept", [True, False], ids=["kept", "lost"])
    def test_some_seconds_without_redis_cost_nothing_but_time(
        self,
        settings: Settings,
        local_redis: Callable[..., Any],
        tmp_path: Path,
        kept: bool,
    ) -> None:
        """Killed in the middle and started again, with all that was in it or with nothing."""
        server = local_redis(appendonly=kept)
        settings = settings.model_copy(update={"redis_url": server.url})
        processes = Processes(tmp_path, settings)
        try:
            with closing(library(settings, Obedient())) as into:
                processes.start()
                outcomes: list[Outcome] = []
                thread = threading.Thread(
                    target=lambda: outcomes.extend(load(settings, into, Listed(documents(2500, "SLOW SLOW"))))
                )
                thread.start()
                until(lambda: processes.logs().count("batch_done") > 2)
                server.kill()
                time.sleep(3)
                server.start()
                thread.join(120)
                assert not thread.is_alive()
                assert counted(outcomes) == {"added": 2500}
                assert len(held(settings)[1]) == 2500
        finally:
            processes.close()
            print(processes.logs())


class TestElasticsearchAway:
    def test_a_load_outlives_it_and_leaves_what_an_undisturbed_one_leaves(
        self, settings: Settings, local_elasticsearch: Callable[..., Any], tmp_path: Path
    ) -> None:
        """Killed in the middle of a spread load, away for some seconds, and started again with what was on its disk."""
        server = local_elasticsearch()
        settings = settings.model_copy(update={"elasticsearch_url": server.url, "elasticsearch_timeout": 150.0})
        processes = Processes(tmp_path, settings)
        try:
            with closing(library(settings, Obedient())) as into:
                for _ in range(2):
                    processes.start()
                outcomes: list[Outcome] = []
                thread = threading.Thread(
                    target=lambda: outcomes.extend(load(settings, into, Listed(documents(2500, "SLOW SLOW"))))
                )
                thread.start()
                until(lambda: processes.logs().count("batch_done") > 2)
                server.kill()
                time.sleep(3)
                server.start()
                thread.join(200)
                assert not thread.is_alive()
                assert {outcome.reason for outcome in outcomes} == {""}
                assert counted(outcomes) == {"added": 2500}
                calm = settings.model_copy(update={"index_name": f"{settings.index_name}-calm"})
                with closing(library(calm, Obedient())) as other:
                    undisturbed = load_sources(other, [Listed(documents(2500, "SLOW SLOW"))], Loading(), lambda _: None)
                    assert counted(undisturbed) == {"added": 2500}
                assert_same(settings, calm)
        finally:
            processes.close()
            print(processes.logs())
