"""Who may call: one API key by setting, or, without one, this machine alone.

Without a key the service listens on loopback only (server.py sees to that) and answers only requests for a loopback
host name: a web page whose own name resolves to 127.0.0.1 would otherwise be let in by the browser.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

from flask import Flask, request

from citewell.errors import BadInput, Unauthorized
from citewell.service.state import service

# Probes ask these without a key; /readyz then leaves out reasons.
_OPEN = ("/healthz", "/readyz")


def register(app: Flask) -> None:
    """Check every request, also those for unknown routes, before anything else looks at it."""
    app.before_request(_check)


def authorized() -> bool:
    """Whether the request may see everything; always so when no key is set."""
    wanted = service().settings.api_key.get_secret_value()
    if not wanted:
        return True
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # Header values arrive as Latin-1; the time of the comparison must not tell how much of a guess is right.
    same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), wanted.encode())
    return same and scheme.lower() == "bearer"


def caller() -> str:
    """What tells the holders of different keys apart, and does not tell the key; "" when no key is set."""
    if not service().settings.api_key.get_secret_value():
        return ""
    given = request.headers.get("Authorization", "").partition(" ")[2].strip()
    return hashlib.sha256(f"citewell.caller\0{given}".encode()).hexdigest()


def _check() -> None:
    if not service().settings.api_key.get_secret_value() and not _asks_loopback():
        raise BadInput(
            "without an API key this service answers for localhost alone",
            remedy="Ask for localhost or 127.0.0.1, or set `api_key`, which opens the service to other names.",
        )
    if request.path in _OPEN or authorized():
        return
    if "Authorization" in request.headers:
        raise Unauthorized("the API key is wrong")
    raise Unauthorized("the request carries no API key")


def _asks_loopback() -> bool:
    """Whether the name that the caller used is a loopback one; a client too old to send one is no browser."""
    host = request.headers.get("Host", "localhost").lower()
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
