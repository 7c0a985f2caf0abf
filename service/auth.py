"""Who may call, for what: keys by setting, or, without any, this machine alone.

Without a key the service listens on loopback only (server.py sees to that) and answers only requests for a loopback
host name: a web page whose own name resolves to 127.0.0.1 would otherwise be let in by the browser.
"""

from __future__ import annotations

import hashlib
import ipaddress

from flask import Flask, g, request

from citewell.errors import BadInput, Forbidden, Unauthorized
from citewell.keys import OPERATOR, Caller, Scope, caller_of
from citewell.service.state import engine, service
from citewell.view import View

# Probes ask these without a key; /readyz then leaves out reasons.
_OPEN = ("/healthz", "/readyz")
# What a key must be for, by endpoint or else by blueprint. What stands in neither wants `admin`.
SCOPES: dict[str, Scope] = {
    "answers": "query",
    "search": "query",
    "feedback.give": "query",
    "feedback.read": "admin",
    "documents.load": "ingest",
    "documents.read": "query",
    "documents.delete": "ingest",
    "health.generators": "query",
    "health.info": "admin",
    "metrics": "admin",
}


def register(app: Flask) -> None:
    """Check every request, also those for unknown routes, before anything else looks at it."""
    app.before_request(_check)


def scope_of(endpoint: str) -> Scope:
    """What a key must be for to call an endpoint."""
    return SCOPES.get(endpoint) or SCOPES.get(endpoint.partition(".")[0], "admin")


def authorized() -> bool:
    """Whether the request may see how the service is; always so when no key is set."""
    known = _known()
    return known is not None and "admin" in known.scopes


def caller() -> str:
    """What tells the holders of different keys apart, and does not tell the key; "" when no key is set."""
    if not service().settings.keys_wanted():
        return ""
    return hashlib.sha256(f"citewell.caller\0{_given()}".encode()).hexdigest()


def view() -> View:
    """The product as this request's caller sees it."""
    found: Caller = g.caller
    return View(engine(), found.groups)


def _check() -> None:
    if not service().settings.keys_wanted() and not _asks_loopback():
        raise BadInput(
            "without an API key this service answers for localhost alone",
            remedy="Ask for localhost or 127.0.0.1, or set `keys` or `api_key`: they open the service to other names.",
        )
    if request.path in _OPEN:
        return
    known = _known()
    if known is None:
        if "Authorization" in request.headers:
            raise Unauthorized("the API key is wrong")
        raise Unauthorized("the request carries no API key")
    g.caller = known
    if request.endpoint is not None and (wanted := scope_of(request.endpoint)) not in known.scopes:
        raise Forbidden(f"the API key `{known.name}` has not the scope `{wanted}`, which this wants")


def _known() -> Caller | None:
    settings = service().settings
    if not settings.keys_wanted():
        return OPERATOR
    if request.headers.get("Authorization", "").partition(" ")[0].lower() != "bearer":
        return None
    # Header values arrive as Latin-1.
    return caller_of(_given().encode("latin-1", "replace"), settings.api_key.get_secret_value(), settings.keys)


def _given() -> str:
    return request.headers.get("Authorization", "").partition(" ")[2].strip()


def _asks_loopback() -> bool:
    """Whether the name that the caller used is a loopback one; a client too old to send one is no browser."""
    host = request.headers.get("Host", "localhost").lower()
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
