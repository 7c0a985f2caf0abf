"""Concurrent questions through API, Celery, Redis and one worker, against the same prompts in one offline batch.

    python -m bench.generate --elasticsearch-url http://127.0.0.1:9200 --redis-url redis://127.0.0.1:6379/0

A model with weights from a seed writes a fixed number of tokens for each question. In turn, round after round: all
questions at once through the service; the same prompts in one batch of `model.generate`, and in one of the engine
alone; some of them one at a time by `model.generate`. Then, one question after the other, what the way adds to
`extractive`, and how late a token is at the client: a generator in a worker writes the time as its text.

It runs on CUDA as it is, with `--size 1b` for a model of 1 billion weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from citewell.catalogue import TransformersTable
from citewell.client import Client
from citewell.config import Settings, load_settings
from citewell.engine import build
from citewell.generate.transformers import TransformersGenerator
from citewell.ports import GeneratorCard
from citewell.records import Answer, Document, Job, Piece, Question
from tests.tiny_models import _TEMPLATE, build_tokenizer

SIZES = {
    "20m": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
}
VOCABULARY = 8000
TOPICS = ("lamp", "kettle", "tent", "radio", "bicycle", "camera", "watch", "stove")


def make_model(folder: Path, size: str) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = _TEMPLATE
    # No token ends a text, so that all texts are equally long.
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, max_position_embeddings=4096, pad_token_id=0, bos_token_id=2,
            eos_token_id=VOCABULARY - 1, **SIZES[size],  # type: ignore[arg-type]
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Clock:
    """A generator that writes when it wrote; three pieces, far enough apart to be sent one by one."""

    def load(self) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to let go of."""

    def info(self) -> dict[str, Any]:
        return {"name": "clock"}

    def describe(self) -> GeneratorCard:
        return GeneratorCard("clock", "clock")

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        for job in jobs:
            for _ in range(3):
                time.sleep(0.1)
                yield Piece(answer_id=job.answer_id, text=f"{time.time()} ")
            yield Piece(answer_id=job.answer_id, last=True)


def work() -> int:
    """A worker of this bench: that of the product, with the clock under the name of a generator that is not asked."""
    from citewell.workers.app import Crew, run_worker

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = load_settings()
    engine = build(settings, "worker", generators=["extractive", "model"])
    engine.runner._generators["clock"] = Clock()
    threads = settings.threads_for(engine.runner.generators)
    crew = Crew(engine.runner, engine.queue, engine.store.due, engine.load, engine.close, threads=threads)
    return run_worker(settings, crew)


@contextlib.contextmanager
def process(settings: Settings, *words: str) -> Iterator[subprocess.Popen[str]]:
    names = ("stack", "index_name", "elasticsearch_url", "redis_url", "device", "threads", "max_new_tokens")
    environment = os.environ | {f"CITEWELL_{name.upper()}": str(getattr(settings, name)) for name in names}
    tables = {name: table.model_dump() for name, table in settings.generators.items()}
    environment["CITEWELL_GENERATORS"] = json.dumps(tables)
    started = subprocess.Popen([sys.executable, *words], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        started.terminate()
        started.communicate()


@contextlib.contextmanager
def served(settings: Settings) -> Iterator[Client]:
    """The service and one worker as processes, and a client once both are ready."""
    with (
        process(settings, "-m", "bench.generate", "--work") as worker,
        process(settings, "-c", "from citewell.cli import main; main()", "serve", "--port", "0") as service,
    ):
        assert service.stderr is not None and worker.stderr is not None
        address = next(found[0] for line in service.stderr if (found := re.search(r"http://[^\s/]+:\d+", line)))
        with ThreadPoolExecutor(2) as readers, Client(address) as client:
            for pipe in (service.stderr, worker.stderr):
                readers.submit(lambda pipe=pipe: [None for _ in pipe])  # type: ignore[misc]
            while not all(row["live"] for row in client.catalogue() if row["name"] != "clock"):
                time.sleep(0.2)
            yield client
            service.terminate()
            worker.terminate()


def questions(count: int, mark: str) -> list[Question]:
    asked = [f"How long does the warranty of {TOPICS[n % 8]} number {n} last? {mark}" for n in range(count)]
    return [Question(text=text, lang="en", k=3) for text in asked]


def through_the_service(client: Client, count: int, mark: str, tokens: int) -> tuple[float, list[Answer]]:
    """Tokens a second from the first question sent to the last answer read, and the answers."""
    with ThreadPoolExecutor(count) as pool:
        begun = time.perf_counter()
        answers = list(pool.map(lambda q: client.ask(q, "model", wait_s=600), questions(count, mark)))
        seconds = time.perf_counter() - begun
    assert all(answer.state == "done" for answer in answers), [answer.error for answer in answers]
    return count * tokens / seconds, answers


def by_the_library(writer: TransformersGenerator, jobs: Sequence[Job], tokens: int, *, together: bool) -> float:
    import torch

    model, prompts = writer._model, [writer._prompt(job) for job in jobs]
    begun = time.perf_counter()
    for some in [prompts] if together else [[prompt] for prompt in prompts]:
        width = max(map(len, some))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in some], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in some], device=model.device)
        with torch.inference_mode():
            model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
            )
    return len(prompts) * tokens / (time.perf_counter() - begun)


def by_the_engine(writer: TransformersGenerator, jobs: Sequence[Job], tokens: int) -> float:
    begun = time.perf_counter()
    ends = sum(piece.last for piece in writer.generate(jobs, lambda _: False))
    assert ends == len(jobs)
    return len(jobs) * tokens / (time.perf_counter() - begun)


def throughput(client: Client, writer: TransformersGenerator, arguments: argparse.Namespace) -> list[dict[str, float]]:
    count, tokens, rounds = arguments.questions, arguments.tokens, []
    through_the_service(client, count, "warm up", tokens)
    for number in range(arguments.rounds):
        service, answers = through_the_service(client, count, f"round {number}", tokens)
        jobs = [Job(answer_id=a.id, question=a.question, evidence=a.evidence, generator=a.generator) for a in answers]
        found = {
            "service": service,
            "offline": by_the_library(writer, jobs, tokens, together=True),
            "engine": by_the_engine(writer, jobs, tokens),
            "single": by_the_library(writer, jobs[: max(1, count // 8)], tokens, together=False),
        }
        rounds.append(found)
        print(json.dumps({name: round(value, 1) for name, value in found.items()}), file=sys.stderr)
    return rounds


def added(client: Client, count: int) -> list[float]:
    """Milliseconds from the answer to the request to the final record at the client, less the run's own steps."""
    found = []
    for question in questions(count + 5, "extractive"):
        answer = client.submit(question, "extractive")
        begun = time.perf_counter()
        answer = answer if answer.state.final else client.answer(answer.id, 30)
        waited = (time.perf_counter() - begun) * 1000
        whole = (answer.finished_at - answer.created_at) * 1000 if waited < 1 else waited
        found.append(whole - answer.timings_ms["generate"] - answer.timings_ms["cite"])
    return found[5:]


def late(client: Client, count: int) -> list[float]:
    """Milliseconds from the moment that the first token was made to its arrival at the client."""
    found = []
    for question in questions(count, "clock"):
        answer = client.submit(question, "clock")
        for event in client.events(answer.id):
            if event.kind == "delta":
                found.append((time.time() - float(event.data["text"].split()[0])) * 1000)
                break
        client.cancel(answer.id)
    return found


def spread(values: Sequence[float]) -> str:
    cut = statistics.quantiles(values, n=20)
    return f"p50 {statistics.median(values):.1f} ms, p95 {cut[18]:.1f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elasticsearch-url", default="http://127.0.0.1:9200")
    parser.add_argument("--redis-url", default="redis://127.0.0.1:6379/0")
    parser.add_argument("--size", choices=SIZES, default="20m")
    parser.add_argument("--questions", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=60, help="questions of which each is timed alone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--work", action="store_true", help="be the worker (used by the bench itself)")
    arguments = parser.parse_args()
    if arguments.work:
        return work()
    with tempfile.TemporaryDirectory() as folder:
        table = TransformersTable(
            kind="transformers",
            model=str(make_model(Path(folder), arguments.size)),
            max_new_tokens=arguments.tokens,
            batch=arguments.questions,
            dtype=arguments.dtype,
        )
        clock = TransformersTable(kind="transformers", model="clock", batch=1)
        settings = load_settings(
            stack="served",
            elasticsearch_url=arguments.elasticsearch_url,
            redis_url=arguments.redis_url,
            index_name=f"bench-{uuid.uuid4().hex[:8]}",
            device=arguments.device,
            threads=2 * arguments.questions,
            generators={"model": table, "clock": clock},
        )
        measured(settings, table, arguments)
    return 0


def measured(settings: Settings, table: TransformersTable, arguments: argparse.Namespace) -> None:
    engine = build(settings, "ingest").load()
    text = "The warranty of the {0} lasts {1} years from the day of delivery. Keep the receipt of the {0}. " * 4
    documents = [Document(id=t, title=t, text=text.format(t, n)) for n, t in enumerate(TOPICS, 2)]
    list(engine.put(documents))
    writer = TransformersGenerator(settings, "model", table)
    writer.load()
    try:
        with served(settings) as client:
            rounds = throughput(client, writer, arguments)
            print("| way | tokens/s | of the offline batch |\n|---|---:|---:|")
            for name in rounds[0]:
                middle = statistics.median(found[name] for found in rounds)
                ratio = statistics.median(found[name] / found["offline"] for found in rounds)
                print(f"| {name} | {middle:.0f} | {ratio:.2f} |")
            print(f"service / single: {statistics.median(f['service'] / f['single'] for f in rounds):.1f}")
            print(f"extractive, added to its run: {spread(added(client, arguments.singles))}")
            print(f"first token, late at the client: {spread(late(client, arguments.singles))}")
    finally:
        writer.close()
        engine.library.remove()
        engine.close()


if __name__ == "__main__":
    sys.exit(main())
