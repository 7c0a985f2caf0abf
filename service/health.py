"""`/healthz`: the process answers. `/readyz`: its backends do. `/v1/info`, `/v1/generators`: what they are."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from citewell import __version__
from citewell.errors import Unavailable
from citewell.service.auth import authorized
from citewell.service.state import engine

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok", "version": __version__}


@blueprint.get("/readyz")
def readyz() -> dict[str, Any]:
    """503 with every backend that is down. Reasons hold addresses and paths, so they are for holders of the key."""
    checks = engine().check()
    down = [name for name, check in checks.items() if not check["ok"]]
    told = checks if authorized() else {name: {"ok": check["ok"]} for name, check in checks.items()}
    if not down:
        return {"status": "ok", "backends": told}
    reasons = "; ".join(f"{name}: {told[name].get('message', 'down')}" for name in down)
    remedies = " ".join(dict.fromkeys(told[name].get("remedy", "") for name in down)).strip()
    raise Unavailable(f"not ready: {reasons}", remedy=remedies, detail={"backends": told})


@blueprint.get("/v1/info")
def info() -> dict[str, Any]:
    return engine().info()


@blueprint.get("/v1/generators")
def generators() -> dict[str, Any]:
    """503 when the queue cannot say how it is."""
    return {"generators": engine().catalogue()}
