"""`create_app`: the whole HTTP surface. docs/http-api.md has a heading for every route, which a test checks."""

from __future__ import annotations

from flask import Flask

from citewell.config import Settings
from citewell.engine import Engine, build
from citewell.service import answers, auth, documents, errors, feedback, health, metrics, requests, search
from citewell.service.state import EXTENSION, Request, Service


def create_app(settings: Settings, engine: Engine | None = None) -> Flask:
    """The app over a given engine, which its owner loads and closes, or over one that is built and loaded here."""
    if engine is None:
        engine = build(settings, "all" if settings.stack == "embedded" else "api").load()
    app = Flask("citewell.service", static_folder=None)
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = settings.request_limit
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    # Document ids hold slashes, doubled ones too; and a redirect would be a page of HTML.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    app.url_map.converters["document"] = documents.DocumentId
    app.extensions[EXTENSION] = Service(engine, settings)
    requests.register(app)
    auth.register(app)
    errors.register(app)
    for module in (answers, feedback, search, documents, health, *([metrics] if settings.metrics else [])):
        app.register_blueprint(module.blueprint)
    return app
