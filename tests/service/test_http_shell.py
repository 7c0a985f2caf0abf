"""What every route has in common: one error shape, request ids, the key, methods, backends that are down."""

import hmac
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from citewell.config import Settings
from citewell.engine import Engine
from citewell.errors import IndexUnavailable, QueueUnavailable
from citewell.library import Access, Library
from citewell.service import errors
from citewell.service.app import create_app
from tests.service.small import assert_error

KEY = "schlüssel-42"


@pytest.fixture
def locked(settings: Settings, engine: Engine) -> FlaskClient:
    return create_app(settings.model_copy(update={"api_key": _secret(KEY)}), engine).test_client()


def _secret(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)


def _every_route(app: Flask) -> Iterator[tuple[str, str]]:
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<answer_id>", "some").replace("<document:doc_id>", "some/where")
        for method in sorted(rule.methods or ()):
            yield method, path


# Errors


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/v1", "/v1/answer", "/v1/answers/a/b", "/static/x", "/v1//info", "/%00"]
)
def test_unknown_routes(http: FlaskClient, path: str) -> None:
    assert_error(http.get(path), 404, "not_found")


def test_wrong_methods_name_the_right_ones(app: Flask, http: FlaskClient) -> None:
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<answer_id>", "some").replace("<document:doc_id>", "some")
        response = http.patch(path)
        error = assert_error(response, 405, "method_not_allowed")
        assert rule.methods is not None
        assert rule.methods & set(response.headers["Allow"].split(", "))
        assert response.headers["Allow"].split(", ")[0] in error["remedy"]


def test_no_route_ever_answers_html(app: Flask, http: FlaskClient) -> None:
    for method, path in _every_route(app):
        for suffix in ("", "/"):
            response = http.open(path + suffix, method=method)
            assert response.mimetype != "text/html" or not response.data, (method, path)
            assert not 300 <= response.status_code < 400, (method, path)
            assert response.status_code < 500, (method, path)


def test_head_and_options(http: FlaskClient) -> None:
    assert http.head("/healthz").status_code == 200
    assert http.head("/healthz").data == b""
    response = http.options("/v1/search")
    assert response.status_code == 200
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


def test_the_unforeseen_is_logged_and_not_shown(http: FlaskClient, engine: Engine) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret internals")

    engine.search = broken  # type: ignore[method-assign,assignment]
    with capture_logs() as logs:
        response = http.post("/v1/search", json={"question": "x"}, headers={"X-Request-ID": "trace-1"})
    error = assert_error(response, 500, "internal")
    assert "secret" not in response.text
    assert "trace-1" in error["message"]
    crash = next(line for line in logs if line["event"] == "request_crashed")
    assert isinstance(crash["exc_info"], RuntimeError)


def test_an_error_of_http_that_has_no_words_of_ours(app: Flask) -> None:
    from werkzeug.exceptions import BadGateway, Gone

    with app.test_request_context():
        assert errors.translated(Gone(), "x").status == 410
        assert errors.translated(BadGateway(), "x").code == "internal"
    assert errors.translated(Gone(), "x").code == "bad_input"


# Request ids and the log


def test_request_ids_are_taken_over_or_made(http: FlaskClient) -> None:
    assert http.get("/healthz", headers={"X-Request-ID": "abc-123"}).headers["X-Request-ID"] == "abc-123"
    for odd in ("", "a b", "x" * 129, "<script>"):
        made = http.get("/healthz", headers={"X-Request-ID": odd}).headers["X-Request-ID"]
        assert len(made) == 32
    assert http.get("/nope").headers["X-Request-ID"]


def test_the_access_log_has_no_questions(loaded: FlaskClient) -> None:
    out = io.StringIO()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    try:
        loaded.post("/v1/search", json={"question": "peculiar words"}, headers={"X-Request-ID": "r1"}, buffered=True)
        loaded.get("/nope?q=peculiar", buffered=True)
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert "peculiar" not in out.getvalue()
    first = next(line for line in lines if line["event"] == "request")
    assert (first["method"], first["path"], first["status"], first["request_id"]) == ("POST", "/v1/search", 200, "r1")
    assert first["ms"] >= 0


# The key


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x", f"Bearer {KEY[:-1]}"],
)
def test_without_the_key_nothing_is_answered(locked: FlaskClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode().decode("latin-1")}
    for method, path in [("GET", "/v1/info"), ("POST", "/v1/search"), ("DELETE", "/v1/documents/a"), ("GET", "/nope")]:
        response = locked.open(path, method=method, headers=headers)
        assert_error(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert KEY not in response.text


def test_the_key_opens(locked: FlaskClient) -> None:
    for scheme in ("Bearer", "bearer"):
        header = f"{scheme} {KEY}".encode().decode("latin-1")
        assert locked.get("/v1/info", headers={"Authorization": header}).status_code == 200


def test_the_key_is_compared_in_constant_time(locked: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, bytes]] = []

    def recording(left: bytes, right: bytes) -> bool:
        seen.append((left, right))
        return compare(left, right)

    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", recording)
    locked.get("/v1/info", headers={"Authorization": "Bearer guess"})
    assert seen == [(b"guess", KEY.encode())]


def test_probes_need_no_key(locked: FlaskClient) -> None:
    assert locked.get("/healthz").status_code == 200
    backends = locked.get("/readyz").get_json()["backends"]
    assert backends["index"] == {"ok": True}
    with_key = locked.get("/readyz", headers={"Authorization": f"Bearer {KEY}".encode().decode("latin-1")})
    assert with_key.get_json()["backends"]["index"]["documents"] == 0


def test_without_a_key_only_loopback_names_are_answered(http: FlaskClient, locked: FlaskClient) -> None:
    for host in ("localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "LOCALHOST", "127.0.0.2"):
        assert http.get("/healthz", headers={"Host": host}).status_code == 200
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "10.0.0.1",
        "[::2]:80",
        "[",
        "a b",
        "",
    ):
        assert_error(http.get("/healthz", headers={"Host": host}), 400, "bad_input")
        assert locked.get("/healthz", headers={"Host": host}).status_code == 200


# Backends


@contextmanager
def index_down(engine: Engine) -> Iterator[None]:
    """The engine as it is while its index cannot be reached."""
    library = engine.library

    def refuse(*_: object) -> Any:
        raise IndexUnavailable("the index at /secret/path is away", remedy="Bring it back.")

    engine.library = Library(engine.settings, engine.embedder, Access(refuse, refuse, refuse))
    yield
    engine.library = library


def test_readiness_names_every_backend(http: FlaskClient) -> None:
    body = http.get("/readyz").get_json()
    assert body["status"] == "ok"
    assert set(body["backends"]) == {"embedder", "index", "answers", "queue"}
    assert all(check["ok"] for check in body["backends"].values())


def test_a_backend_that_is_down(http: FlaskClient, locked: FlaskClient, engine: Engine) -> None:
    with index_down(engine):
        error = assert_error(http.get("/readyz"), 503, "unavailable")
        assert "index: the index at /secret/path is away" in error["message"]
        assert error["remedy"] == "Bring it back."
        assert error["detail"]["backends"]["index"]["code"] == "index_unavailable"
        assert error["detail"]["backends"]["answers"]["ok"] is True
        assert "secret" not in locked.get("/readyz").text
        assert http.get("/healthz").status_code == 200
        assert http.get("/v1/info").get_json()["index"]["ok"] is False
        for method, path, body in [
            ("POST", "/v1/search", {"question": "x"}),
            ("POST", "/v1/answers", {"question": "x"}),
            ("POST", "/v1/documents", [{"id": "a", "text": "b"}]),
            ("GET", "/v1/documents/a", None),
            ("DELETE", "/v1/documents/a", None),
        ]:
            response = http.open(path, method=method, json=body)
            assert_error(response, 503, "index_unavailable")
            assert response.headers["Retry-After"] == "5"
    assert http.get("/readyz").status_code == 200


def test_a_queue_and_a_store_that_are_down(http: FlaskClient, engine: Engine) -> None:
    engine.queue.close()
    assert_error(http.post("/v1/answers", json={"question": "a question"}), 503, QueueUnavailable.code)
    engine.queue.load()
    engine.store.close()
    assert_error(http.get("/v1/answers/x?wait=5"), 503, "store_unavailable")
    assert_error(http.get("/v1/answers/x/events"), 503, "store_unavailable")
    engine.store.load()


def test_info_tells_versions_counts_and_fingerprints(loaded: FlaskClient) -> None:
    info = loaded.get("/v1/info").get_json()
    assert info["version"]
    assert info["index"]["documents"] == 3
    assert info["index"]["fingerprint"]["embedder"] == "hashing"
    assert info["generators"] == ["extractive", "scripted"]
