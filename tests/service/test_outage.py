"""A service whose servers are down: it starts, says what is wrong, and works once they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from citewell.answers.redis import RedisAnswers
from citewell.client import Client
from citewell.config import Settings
from citewell.engine import Engine, Models, Role
from citewell.generate.extractive import ExtractiveGenerator
from citewell.jobs import CeleryQueue
from citewell.records import AnswerState, JobMessage, Question
from citewell.service.app import create_app
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.service.small import DOCUMENTS, assert_error
from tests.service.wsgi import exact_path

CLOSED = "127.0.0.1:9"  # the discard port: nothing listens there


def served_engine(settings: Settings, role: Role) -> Engine:
    embedder = HashingEmbedder()
    return Engine(
        settings,
        role,
        models=Models(embedder, {"extractive": ExtractiveGenerator(embedder)}),
        library=library(settings, embedder),
        store=RedisAnswers(settings),
        make_queue=lambda _: CeleryQueue(settings, ("extractive",)),
    )


def test_it_starts_without_its_servers_and_names_them(tmp_path: Path) -> None:
    settings = Settings(
        stack="served", data_dir=tmp_path, elasticsearch_url=f"http://{CLOSED}", redis_url=f"redis://{CLOSED}/0"
    )
    with served_engine(settings, "api") as engine:
        http = create_app(settings, engine).test_client()
        assert http.get("/healthz").status_code == 200
        backends = assert_error(http.get("/readyz"), 503, "unavailable")["detail"]["backends"]
        assert {name: part["ok"] for name, part in backends.items()} == {
            "embedder": True, "index": False, "answers": False, "queue": False
        }  # fmt: skip
        assert_error(http.post("/v1/search", json={"question": "Why?"}), 503, "index_unavailable")
        assert_error(http.post("/v1/answers", json={"question": "Why?"}), 503, "index_unavailable")
        assert_error(http.get("/v1/answers/abc"), 503, "store_unavailable")
        assert_error(http.post("/v1/documents", json=DOCUMENTS), 503, "index_unavailable")


def test_the_whole_way_on_real_servers_and_through_an_outage_of_redis(
    tmp_path: Path, elasticsearch_url: str, index_name: str, local_redis: Callable[..., Any]
) -> None:
    redis = local_redis(appendonly=True)
    settings = Settings(
        stack="served",
        data_dir=tmp_path,
        elasticsearch_url=elasticsearch_url,
        index_name=index_name,
        redis_url=redis.url,
    )
    with served_engine(settings, "api") as engine:
        transport = httpx.WSGITransport(exact_path(create_app(settings, engine)))
        with Client("http://localhost", transport=transport) as client:
            http = create_app(settings, engine).test_client()
            assert http.post("/v1/documents", json=DOCUMENTS).get_json()["counts"]["added"] == len(DOCUMENTS)
            asked = client.submit(Question(text="How long does the warranty of a lamp last?"))
            assert asked.state is AnswerState.QUEUED
            redis.kill()
            assert_error(http.get(f"/v1/answers/{asked.id}"), 503, "store_unavailable")
            assert_error(http.post("/v1/answers", json={"question": "Who pays?"}), 503, "store_unavailable")
            assert http.post("/v1/search", json={"question": "lamp warranty"}).status_code == 200
            redis.start()
            assert client.answer(asked.id).state is AnswerState.QUEUED, "the accepted question survived the kill"
            with served_engine(settings, "worker") as worker:
                worker.run(JobMessage(answer_id=asked.id))
            done = client.answer(asked.id)
            assert done.state is AnswerState.DONE
            assert [c.doc_id for c in done.citations] == ["guides/warranty.md"]
