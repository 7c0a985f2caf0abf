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

from citewell.catalogue import OpenAiTable
from citewell.config import Settings
from citewell.errors import GenerationFailed, GeneratorUnavailable
from citewell.generate.openai import OpenAiGenerator
from citewell.records import Job, Question
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
        ([400], {}, GenerationFailed, "planned 400"),
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
