"""The `openai` generator against a small real endpoint, and the ways in which such endpoints fail."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from citewell.answers.sqlite import SqliteAnswers
from citewell.catalogue import OpenAiTable
from citewell.cite import cite
from citewell.config import Settings
from citewell.errors import GenerationFailed, GeneratorUnavailable
from citewell.evaluate.questions import AnswerQuestion
from citewell.evaluate.scoring import score
from citewell.feedback import FeedbackDesk
from citewell.generate.openai import OpenAiGenerator
from citewell.metrics import REGISTRY
from citewell.records import Job, JobMessage, Opinion, Question, Tokens
from citewell.run import Runner
from tests import tiny_models
from tests.completions_endpoint import KEY, Endpoint, endpoint

TEXT = "The shop opens at nine. [1]"


@pytest.fixture
def served() -> Iterator[Endpoint]:
    with endpoint() as served:
        yield served


def generator(served: Endpoint, **options: Any) -> OpenAiGenerator:
    given = {"url": served.url, "model": "tiny", "api_key": KEY, "timeout": 5, "retry_seconds": 3} | options
    return OpenAiGenerator(Settings(), "remote", OpenAiTable.model_validate({"kind": "openai", **given}))


def job(answer_id: str = "a") -> Job:
    question = Question(text="When does the shop open?", lang="en")
    return Job(answer_id=answer_id, question=question, evidence=tiny_models.EVIDENCE)


def text_of(writer: OpenAiGenerator, answer_id: str = "a") -> str:
    pieces = list(writer.generate([job(answer_id)], lambda _: False))
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    return "".join(piece.text for piece in pieces)


def test_it_asks_with_the_prompt_and_answers_in_pieces(served: Endpoint) -> None:
    writer = generator(served, max_new_tokens=77, temperature=0.5, seed=3)
    pieces = list(writer.generate([job()], lambda _: False))
    assert [piece.text for piece in pieces] == [*served.words, ""]
    (request,) = served.requests
    assert {key: request[key] for key in ("model", "stream", "max_tokens", "temperature", "seed")} == {
        "model": "tiny", "stream": True, "max_tokens": 77, "temperature": 0.5, "seed": 3,
    }  # fmt: skip
    assert "The shop opens at nine." in request["messages"][1]["content"]
    card = writer.describe()
    assert (card.kind, card.model, card.seed, card.sampling["temperature"]) == ("openai", "tiny", 3, 0.5)
    assert KEY not in str(writer.info())
    writer.close()


@pytest.mark.parametrize("plans", [[429], [503, 502], ["drop"], [500, "drop", 429]])
def test_a_busy_endpoint_is_asked_again(served: Endpoint, plans: list[int | str]) -> None:
    served.plans = list(plans)
    writer = generator(served)
    assert text_of(writer) == TEXT
    assert len(served.requests) == len(plans) + 1
    writer.close()


@pytest.mark.parametrize(
    ("plans", "options", "error", "said"),
    [
        ([503] * 50, {"retry_seconds": 0.5}, GeneratorUnavailable, "status 503: planned 503"),
        ([400, 400], {}, GenerationFailed, "planned 400"),
        ([422, 400], {}, GenerationFailed, "planned 400"),
        ([], {"api_key": "wrong"}, GenerationFailed, "401"),
        (["cut"], {}, GenerationFailed, "before the answer was complete"),
        (["page"], {}, GenerationFailed, "no chat completion"),
    ],
)
def test_what_it_cannot_mend_is_told(
    served: Endpoint, plans: list[int | str], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    served.plans = plans
    writer = generator(served, **options)
    with pytest.raises(error, match=said):
        text_of(writer)
    writer.close()


def counted(writer: OpenAiGenerator) -> Tokens | None:
    *pieces, last = writer.generate([job()], lambda _: False)
    assert "".join(piece.text for piece in pieces) == TEXT
    assert not any(piece.tokens for piece in pieces)
    return last.tokens


def test_tokens_are_those_that_the_endpoint_counted(served: Endpoint) -> None:
    writer = generator(served)
    assert counted(writer) == Tokens(read=120, written=9)
    assert served.requests[0]["stream_options"] == {"include_usage": True}
    line = 'citewell_tokens_total{generator="remote"}'
    before = metric(line)
    served.usage = {"prompt_tokens": 7, "completion_tokens": 5}
    several = [job(str(number)) for number in range(3)]
    told = [piece.tokens for piece in writer.generate(several, lambda _: False) if piece.last]
    assert told == [Tokens(read=7, written=5)] * 3
    assert metric(line) - before == 15
    writer.close()


def metric(line: str) -> float:
    shown = generate_latest(REGISTRY).decode()
    return next(float(row.split()[-1]) for row in shown.splitlines() if row.startswith(line))


@pytest.mark.parametrize(
    "usage",
    [
        {},
        {"prompt_tokens": "many", "completion_tokens": 3},
        {"prompt_tokens": 3},
        {"prompt_tokens": -1, "completion_tokens": 3},
        {"prompt_tokens": None, "completion_tokens": None},
    ],
)
def test_an_endpoint_that_counts_nothing_of_use_answers_all_the_same(served: Endpoint, usage: dict[str, Any]) -> None:
    served.usage = usage
    writer = generator(served)
    assert counted(writer) is None
    writer.close()


@pytest.mark.parametrize("refusal", ["Unrecognized request argument: stream_options", "bad request"])
def test_an_endpoint_that_refuses_to_count_is_asked_without_from_then_on(served: Endpoint, refusal: str) -> None:
    served.refusal = refusal
    writer = generator(served, retry_seconds=0)
    assert [counted(writer), counted(writer)] == [None, None]
    assert ["stream_options" in request for request in served.requests] == [True, False, False]
    without = {key: value for key, value in served.requests[0].items() if key != "stream_options"}
    assert without == served.requests[1]
    writer.close()


def test_after_an_answer_with_tokens_a_refusal_counts_as_one_unless_it_names_them(served: Endpoint) -> None:
    writer = generator(served)
    assert counted(writer)
    served.refusal = "the prompt is too long"
    with pytest.raises(GenerationFailed, match="too long"):
        text_of(writer)
    assert len(served.requests) == 2
    served.refusal = "stream_options: extra inputs are not permitted"
    assert counted(writer) is None
    writer.close()


def test_the_record_and_the_figures_have_what_was_counted(served: Endpoint, tmp_path: Path) -> None:
    store = SqliteAnswers(Settings(data_dir=tmp_path))
    store.load()
    runner = Runner(store, {"remote": generator(served)}, cite, owner="w", lease_seconds=5)
    for answer_id, usage in (("counted", {"prompt_tokens": 120, "completion_tokens": 9}), ("not", {})):
        served.usage = usage
        store.create(job(answer_id).model_copy(update={"generator": "remote"}))
        assert runner.run(JobMessage(answer_id=answer_id, generator="remote")).status == "done"
    found, estimated = store.get("counted"), store.get("not")
    assert (found.tokens, estimated.tokens) == (Tokens(read=120, written=9), None)
    asked = AnswerQuestion(id="q", text=found.question.text)
    one, other = score(asked, found), score(asked, estimated)
    assert (one.read, one.written, one.counted) == (120, 9, True)
    assert other.counted is False
    assert 0 < other.read < 60 and 0 < other.written < 20, "as they are estimated"
    desk = FeedbackDesk(store, lambda doc_id: pytest.fail(f"{doc_id} is not asked for"))
    kept = [desk.give(answer_id, Opinion(rating=5))[0] for answer_id in ("counted", "not")]
    assert (kept[0].tokens_read, kept[0].tokens_written) == (120, 9)
    assert kept[1].tokens_read == other.read
    assert 0 < kept[1].tokens_written < 9
    store.close()


def test_a_wrong_address_and_nobody_there(served: Endpoint) -> None:
    wrong = generator(served, url=served.url.removesuffix("/v1"))
    with pytest.raises(GenerationFailed, match="404") as caught:
        text_of(wrong)
    assert "[generators.remote]" in caught.value.remedy
    nobody = generator(served, url="http://127.0.0.1:9/v1", retry_seconds=0)
    with pytest.raises(GeneratorUnavailable, match="does not answer"):
        text_of(nobody)
    wrong.close()
    nobody.close()


def test_silence_has_its_limit(served: Endpoint) -> None:
    served.silent_s = 30
    writer = generator(served, timeout=0.5)
    with pytest.raises(GeneratorUnavailable, match="does not answer"):
        text_of(writer)
    writer.close()


@pytest.mark.parametrize(("silent_s", "pause_s"), [(0.0, 0.1), (20.0, 0.0)])
def test_cancel_closes_the_stream_also_of_a_silent_endpoint(served: Endpoint, silent_s: float, pause_s: float) -> None:
    served.silent_s, served.pause_s, served.words = silent_s, pause_s, ["word "] * 200
    writer = generator(served, timeout=60)
    stop = threading.Event()
    threading.Timer(0.6, stop.set).start()
    begun = time.monotonic()
    pieces = list(writer.generate([job()], lambda _: stop.is_set()))
    assert time.monotonic() - begun < 15
    assert not any(piece.last for piece in pieces)
    served.silent_s = 0.0
    served.words = ["again"]
    assert text_of(writer) == "again"
    writer.close()


def test_no_more_requests_than_its_places_are_open(served: Endpoint) -> None:
    served.pause_s = 0.05
    writer = generator(served, concurrency=2)
    with ThreadPoolExecutor(6) as pool:
        texts = list(pool.map(lambda number: text_of(writer, str(number)), range(6)))
    assert texts == [TEXT] * 6
    assert served.most_open == 2
    several = [job(str(number)) for number in range(3)]
    found = {str(number): "" for number in range(3)}
    for piece in writer.generate(several, lambda _: False):
        found[piece.answer_id] += piece.text
    assert list(found.values()) == [TEXT] * 3
    writer.close()


def test_a_real_server_of_that_api(tmp_path: Path) -> None:
    """`transformers serve` with a small model that has learnt to answer."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    pytest.importorskip("openai")
    model = tiny_models.build_causal(tmp_path / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["from transformers.cli.transformers import main; main()", "serve", str(model), "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", *words, "--device", "cpu", "--dtype", "float32"],
            env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        table = OpenAiTable(kind="openai", url=f"http://127.0.0.1:{port}/v1", model=str(model), retry_seconds=120)
        writer = OpenAiGenerator(Settings(max_new_tokens=40), "remote", table)
        for question, answer in tiny_models.LESSONS.items():
            asked = Job(answer_id="a", question=Question(text=question, lang="en"), evidence=tiny_models.EVIDENCE)
            pieces = list(writer.generate([asked], lambda _: False))
            assert "".join(piece.text for piece in pieces).strip() == answer
            assert len(pieces) > 3, "the text came in one piece"
            assert pieces[-1].last
        writer.close()
    finally:
        server.terminate()
        server.wait(30)
        print((tmp_path / "log").read_text("utf-8", "replace")[-3000:])
