"""The real app over a real embedded engine."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient

from citewell.client import Client
from citewell.config import Settings, load_settings
from citewell.engine import Engine
from citewell.service.app import create_app
from tests.service.small import DOCUMENTS, small_engine
from tests.service.wsgi import exact_path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        data_dir=tmp_path,
        question_limit=300,
        document_limit=2000,
        request_limit=300_000,
        threads=8,
        lease_seconds=1.5,  # a cancelled answer stops its generator within a third of this
    )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with small_engine(settings) as loaded:
        yield loaded


@pytest.fixture
def app(settings: Settings, engine: Engine) -> Flask:
    return create_app(settings, engine)


@pytest.fixture
def http(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def loaded(http: FlaskClient) -> FlaskClient:
    """The client of a service that holds the sample documents."""
    assert http.post("/v1/documents", json=DOCUMENTS).get_json()["counts"]["added"] == len(DOCUMENTS)
    return http


@pytest.fixture
def client(app: Flask) -> Iterator[Client]:
    """The product's own client, against the app in this process."""
    with Client("http://localhost", transport=httpx.WSGITransport(exact_path(app))) as client:
        yield client
