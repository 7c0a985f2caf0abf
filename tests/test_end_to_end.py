"""The whole way on both stacks: real processes, a real collection, questions through HTTP.

`squad1-en-dev` of the shared corpora where they are, else `examples/shop`. The figures are printed; what is asserted is
quality, never time. `pytest tests/test_end_to_end.py -s` shows them at once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ir_measures
import pytest
from ir_measures import Qrel, R, ScoredDoc, nDCG

from citewell.client import Client
from citewell.errors import CitewellError
from citewell.records import Answer, AnswerState, Evidence, Question
from tests.judged import SHARED, SHOP, Collection

CITEWELL = Path(sys.executable).with_name("citewell")
SEARCHED, ASKED = 300, 100
SQUAD = SHARED / "squad1-en-dev"
# What each collection must reach: nDCG@10, recall@10, share of questions that get an answer, and of those answers the
# share that cite a relevant document. The shop's customers paraphrase, which `extractive` often has to refuse.
TARGETS = {"squad1-en-dev": (0.94, 0.99, 0.8, 0.8), "shop": (0.8, 0.9, 0.3, 0.8)}


@dataclass
class Stack:
    """Environment of one stack and how many processes serve it."""

    name: str
    environment: dict[str, str]
    processes: tuple[str, ...]


@pytest.fixture(params=["embedded", "served"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Stack:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CITEWELL_")}
    environment |= {"HF_HUB_OFFLINE": "1", "CITEWELL_PORT": str(port), "CITEWELL_DATA_DIR": str(tmp_path / "data")}
    if request.param == "embedded":
        return Stack("embedded", environment, ("serve",))
    environment |= {
        "CITEWELL_STACK": "served",
        "CITEWELL_ELASTICSEARCH_URL": request.getfixturevalue("elasticsearch_url"),
        "CITEWELL_INDEX_NAME": request.getfixturevalue("index_name"),
        "CITEWELL_REDIS_URL": request.getfixturevalue("redis_db_url"),
    }
    return Stack("served", environment, ("serve", "worker"))


@pytest.fixture
def start(tmp_path: Path, stack: Stack) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts `citewell COMMAND`; ended by its own process id after the test."""
    started = []

    def begin(command: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{command}.log").open("wb")
        process = subprocess.Popen([CITEWELL, command], env=stack.environment, stdout=log, stderr=log)
        log.close()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ingest(stack: Stack, folder: Path) -> dict[str, Any]:
    result = subprocess.run(
        [CITEWELL, "ingest", str(folder), "--json"], env=stack.environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    outcome: dict[str, Any] = json.loads(result.stdout)
    return outcome


def when_ready(stack: Stack, log_folder: Path) -> Client:
    client = Client(f"http://127.0.0.1:{stack.environment['CITEWELL_PORT']}", timeout=120)
    deadline = time.monotonic() + 180
    while True:
        try:
            state = client.check()
            if all(part["ok"] for part in state.values()):
                return client
        except CitewellError as error:
            state = {"service": {"ok": False, "message": error.message}}
        if time.monotonic() > deadline:
            logs = "\n".join(file.read_text()[-2000:] for file in log_folder.glob("*.log"))
            client.close()
            raise AssertionError(f"not ready: {state}\n{logs}")
        time.sleep(0.5)


def timed(call: Callable[[Question], Any], question: Question) -> tuple[Any, float]:
    begun = time.perf_counter()
    result = call(question)
    return result, (time.perf_counter() - begun) * 1e3


def p50_p95(durations: list[float]) -> str:
    cuts = statistics.quantiles(durations, n=20)
    return f"p50 {statistics.median(durations):.0f} ms, p95 {cuts[18]:.0f} ms"


def best_of_documents(evidence: Evidence) -> dict[str, float]:
    """A document is as good as its best passage."""
    scores: dict[str, float] = {}
    for hit in evidence.hits:
        scores.setdefault(hit.passage.doc_id, 1.0 / hit.rank)
    return scores


@pytest.mark.timeout(1500)
def test_questions_through_http_are_answered_from_the_right_passage(
    stack: Stack, start: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collection = Collection(SQUAD if SQUAD.is_dir() else SHOP)
    questions, relevant = collection.questions(SEARCHED), collection.relevant()
    loaded = ingest(stack, collection.folder)
    assert loaded["counts"]["failed"] == 0
    for command in stack.processes:
        start(command)
    with when_ready(stack, tmp_path) as client:
        client.ask(Question(text=questions[0]["text"]))  # models load on first use
        run: list[ScoredDoc] = []
        searching: list[float] = []
        for q in questions:
            evidence, took = timed(client.search, Question(text=q["text"], k=10))
            searching.append(took)
            run += [ScoredDoc(q["_id"], doc, score) for doc, score in best_of_documents(evidence).items()]
        answers: list[Answer] = []
        answering: list[float] = []
        for q in questions[:ASKED]:
            answer, took = timed(client.ask, Question(text=q["text"]))
            answering.append(took)
            answers.append(answer)
    asked = {q["_id"] for q in questions}
    qrels = [Qrel(q, doc, score) for q, docs in relevant.items() if q in asked for doc, score in docs.items()]
    figures = ir_measures.calc_aggregate([nDCG @ 10, R @ 10], qrels, run)
    right = [cites_relevant(a, relevant[q["_id"]]) for a, q in zip(answers, questions, strict=False)]
    with capsys.disabled():
        print(
            f"\n{stack.name}, {collection.name}: nDCG@10 {figures[nDCG @ 10]:.3f}, recall@10 {figures[R @ 10]:.3f}; "
            f"{loaded['documents_per_second']:.0f} documents/s; search {p50_p95(searching)}; "
            f"submit to answer {p50_p95(answering)}; {sum(right)} of {len(right)} answers cite a relevant document, "
            f"{sum(a.abstained for a in answers)} abstain"
        )
    ndcg, recall, answered, cited = TARGETS[collection.name]
    given = [a for a in answers if not a.abstained]
    assert figures[nDCG @ 10] >= ndcg
    assert figures[R @ 10] >= recall
    assert all(a.state is AnswerState.DONE for a in answers)
    assert len(given) >= answered * len(answers)
    assert sum(right) >= cited * len(given)
    assert all(c.quote in passage_text(a, c.passage_id) for a in answers for c in a.citations)
    assert all(s.supported for a in answers for s in a.sentences)


def cites_relevant(answer: Answer, relevant: dict[str, int]) -> bool:
    return any(citation.doc_id in relevant for citation in answer.citations)


def passage_text(answer: Answer, passage_id: str) -> str:
    return next(hit.passage.text for hit in answer.evidence.hits if hit.passage.id == passage_id)


def test_many_at_once_and_a_worker_that_is_killed(
    stack: Stack, start: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Every accepted question gets one final answer, also when the process that answers is killed on the way."""
    stack.environment["CITEWELL_LEASE_SECONDS"] = "2"
    assert ingest(stack, SHOP)["counts"]["failed"] == 0
    running = [start(command) for command in stack.processes]
    questions = [q["text"] for q in Collection(SHOP).questions(24)]
    with when_ready(stack, tmp_path) as client:
        client.ask(Question(text=questions[0]))
        with ThreadPoolExecutor(8) as pool:
            ids = [a.id for a in pool.map(lambda text: client.submit(Question(text=text)), questions)]
        running[-1].kill()
        running[-1].wait()
    start(stack.processes[-1])
    with when_ready(stack, tmp_path) as client:
        answers = [client.answer(answer_id, wait_s=60) for answer_id in ids]
    assert [a.state for a in answers] == [AnswerState.DONE] * len(answers)
    assert {a.id for a in answers} == set(ids)
