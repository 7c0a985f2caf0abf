"""`POST /v1/search`: the passages that fit a question, without an answer."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from citewell.service.auth import view
from citewell.service.schemas import SearchBody, read_body
from citewell.service.state import service

blueprint = Blueprint("search", __name__, url_prefix="/v1")


@blueprint.post("/search")
def search() -> dict[str, Any]:
    return view().search(read_body(SearchBody).to_question(service().settings)).to_dict()
