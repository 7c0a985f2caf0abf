"""A real embedded engine that loads in a moment: LanceDB, SQLite and threads, with an embedder that has no model."""

from __future__ import annotations

from typing import Any

from werkzeug.test import TestResponse

from citewell.answers.sqlite import SqliteAnswers
from citewell.config import Settings, Tuned
from citewell.engine import Engine, Models
from citewell.generate.extractive import ExtractiveGenerator
from citewell.jobs import InlineQueue
from citewell.ports import Embedder
from citewell.quoting import Quoting
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.scripted import ScriptedGenerator

DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": "guides/warranty.md",
        "title": "Warranty",
        "text": "The warranty of every lamp lasts two years. Keep the receipt.",
        "metadata": {"year": 2024},
    },
    {"id": "guides/returns.md", "title": "Returns", "text": "You may return a kettle within thirty days of delivery."},
    {"id": "guides/garantia.md", "title": "Garantía", "text": "La garantía de la tienda de campaña dura cinco años."},
]


def small_engine(settings: Settings, embedder: Embedder | None = None) -> Engine:
    """Not yet loaded; its generators are `extractive` and `scripted`. English questions have both legs."""
    settings = settings.model_copy(update={"tuned": {"en": Tuned(fusion="minmax")}})
    embedder = embedder or HashingEmbedder()
    store = SqliteAnswers(settings)
    return Engine(
        settings,
        "all",
        models=Models(embedder, {"extractive": ExtractiveGenerator(embedder), "scripted": ScriptedGenerator()}),
        library=library(settings, embedder, quoting=Quoting(store)),
        store=store,
        make_queue=lambda engine: InlineQueue(engine.run, store.due, threads=settings.workers, beside=engine.post),
    )


def assert_error(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The response is the one error shape, as JSON and with a remedy; returns what is under `error`."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert "<" not in response.text, "HTML"
    assert "Traceback" not in response.text
    body = response.get_json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) - {"detail"} == {"code", "message", "remedy"}
    assert error["code"] == code
    assert error["message"]
    assert error["remedy"]
    return error


def sse(text: str) -> list[dict[str, str]]:
    """The events of a stream's text as fields; comments and retry hints left out."""
    blocks = [block for block in text.split("\n\n") if block]
    events = [dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":") for block in blocks]
    return [event for event in events if "event" in event]
