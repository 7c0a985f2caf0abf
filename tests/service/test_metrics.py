"""What operators scrape: counted where it happens, with few labels, and nothing of what people ask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from citewell.answers.redis import RedisAnswers
from citewell.config import Settings, load_settings
from citewell.engine import Engine
from citewell.jobs import CeleryQueue
from citewell.records import Evidence, Job, JobMessage, Question
from citewell.service.app import create_app
from tests.servers.processes import free_port, wait_until
from tests.service.small import DOCUMENTS, assert_error
from tests.stacks import Workers

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(http: FlaskClient) -> Samples:
    response = http.get("/metrics")
    assert response.status_code == 200
    assert response.mimetype == "text/plain"
    return samples(response.text)


def grown(before: Samples, after: Samples) -> Callable[..., float]:
    """By how much a sample has grown, by its name and labels."""

    def by(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    return by


def test_each_step_of_an_answer_is_counted(http: FlaskClient) -> None:
    before = scraped(http)
    assert http.post("/v1/documents", json=[*DOCUMENTS, {"id": "bad"}]).status_code == 200
    http.delete(f"/v1/documents/{DOCUMENTS[2]['id']}")
    http.post("/v1/search", json={"question": "peculiar lamp", "lang": "en"})
    for _ in range(2):
        body = {"question": "How long does the warranty of a lamp last?", "cache": "exact"}
        asked = http.post("/v1/answers", json=body).get_json()["id"]
        assert http.get(f"/v1/answers/{asked}?wait=30", buffered=True).get_json()["state"] == "done"
    body = {"question": "sleep: 9; say: a", "generator": "scripted", "lang": "en"}
    slow = http.post("/v1/answers", json=body).get_json()["id"]
    http.delete(f"/v1/answers/{slow}", buffered=True)
    by = grown(before, scraped(http))
    assert by("citewell_documents_total", status="added") == len(DOCUMENTS)
    assert by("citewell_documents_total", status="failed") == 1
    assert by("citewell_documents_total", status="deleted") == 1
    assert by("citewell_answer_moves_total", generator="extractive", state="queued") == 2
    assert by("citewell_answer_moves_total", generator="extractive", state="done") == 2
    assert by("citewell_answer_moves_total", generator="scripted", state="cancelled") == 1
    assert by("citewell_cache_questions_total", outcome="miss") == 1
    assert by("citewell_cache_questions_total", outcome="exact") == 1
    for name in ("queue", "first_token", "generate"):
        assert by(f"citewell_{name}_seconds_count", generator="extractive") == 1, name
    for step in ("bm25", "dense", "legs", "retrieve"):
        assert by("citewell_retrieval_seconds_count", step=step) == 4, step
    assert by("citewell_http_seconds_count", route="/v1/answers/<answer_id>", status="200") == 3


def test_the_queue_is_looked_at_when_it_is_asked_for(http: FlaskClient, engine: Engine) -> None:
    found = scraped(http)
    for name in ("waiting", "running", "workers"):
        assert (f"citewell_{name}", (("generator", "extractive"),)) in found
    assert found["citewell_queue_up", ()] == 1
    engine.queue.close()
    found = scraped(http)
    assert found["citewell_queue_up", ()] == 0
    assert ("citewell_waiting", (("generator", "extractive"),)) not in found


def test_what_people_ask_for_makes_no_labels(loaded: FlaskClient) -> None:
    def provoke(word: str) -> None:
        loaded.post("/v1/search", json={"question": f"{word} lamp", "lang": "es"})
        loaded.get(f"/{word}", headers={"X-Request-ID": word})
        loaded.open("/v1/search", method=word.upper())
        loaded.get(f"/v1/documents/{word}")
        loaded.post("/v1/answers", json={"question": f"{word}?", "generator": word})

    provoke("peculiar")
    before = scraped(loaded)
    for number in range(20):
        provoke(f"peculiar{'abcdefghijklmnopqrstuvwxyz'[number]}")
    assert scraped(loaded).keys() == before.keys()
    assert "peculiar" not in loaded.get("/metrics").text


def test_it_can_be_switched_off(settings: Settings, engine: Engine) -> None:
    http = create_app(settings.model_copy(update={"metrics": False}), engine).test_client()
    assert_error(http.get("/metrics"), 404, "not_found")


def test_every_metric_is_on_the_page_for_operators(loaded: FlaskClient) -> None:
    families = [f.name for f in text_string_to_metric_families(loaded.get("/metrics").text)]
    own = {name for name in families if name.startswith("citewell_") and not name.endswith("_created")}
    assert len(own) >= 12
    told = set(re.findall(r"^\| `(citewell_\w+?)(?:_total)?(?:\{[^`]*\})?` \|", OPERATIONS, re.MULTILINE))
    assert told == own


class TestWorker:
    @pytest.fixture
    def given(self, redis_db_url: str) -> dict[str, Any]:
        return {"redis_url": redis_db_url, "lease_seconds": 2.0, "metrics_port": free_port()}

    @pytest.fixture
    def workers(self, tmp_path: Path, given: dict[str, Any]) -> Iterator[Workers]:
        made = Workers(tmp_path, **given)
        yield made
        made.close()

    def test_a_worker_shows_what_it_writes(self, workers: Workers, given: dict[str, Any]) -> None:
        settings = load_settings(**given)
        store, queue = RedisAnswers(settings), CeleryQueue(settings)
        process = workers.start()
        url = f"http://127.0.0.1:{settings.metrics_port}/metrics"
        try:
            assert wait_until(lambda: queue.slots("extractive") > 0, 60), workers.logs()
            for name in ("a1", "a2"):
                store.create(Job(answer_id=name, question=Question(text="say: secret"), evidence=Evidence()))
                queue.submit(JobMessage(answer_id=name))
                assert wait_until(lambda name=name: store.get(name).state.final, 30), workers.logs()  # type: ignore[misc]
            text = httpx.get(url).text
            found = samples(text)
            moves = {dict(labels)["state"]: v for (n, labels), v in found.items() if n == "citewell_answer_moves_total"}
            assert moves == {"running": 2, "done": 2}
            assert found["citewell_first_token_seconds_count", (("generator", "extractive"),)] == 2
            assert "secret" not in text
            second = workers.start()
            assert second.wait(60) != 0
            assert "cannot listen on 127.0.0.1 port" in workers.logs()
            process.terminate()
            assert process.wait(60) == 0
            with pytest.raises(httpx.ConnectError):
                httpx.get(url)
        finally:
            queue.close()
            store.close()
