"""Feedback: judge an answer, and see the figures."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from flask import Blueprint, Response, jsonify, request

from citewell.errors import BadInput
from citewell.feedback import PERIODS, Period, figures
from citewell.service.auth import caller, view
from citewell.service.schemas import FeedbackBody, read_body
from citewell.service.state import engine

blueprint = Blueprint("feedback", __name__, url_prefix="/v1")

_DAY_S = 86_400


@blueprint.post("/answers/<answer_id>/feedback")
def give(answer_id: str) -> tuple[Response, int]:
    """201, or 200 where it takes the place of what this caller said before."""
    feedback, first = view().rate(answer_id, read_body(FeedbackBody).to_opinion(), caller())
    return jsonify(feedback.told()), 201 if first else 200


@blueprint.get("/feedback")
def read() -> Response:
    """`?by=day|week|month|all` and `?days=N`, of what was given in the last N days."""
    asked = _Asked.of(request.args.get("by", "day"), request.args.get("days", ""))
    found = figures(engine().feedback.given(asked.since), asked.by)
    return jsonify({"by": asked.by, "figures": [row.to_dict() for row in found]})


@dataclass(frozen=True)
class _Asked:
    by: Period
    since: float

    @classmethod
    def of(cls, by: str, days: str) -> _Asked:
        if by not in PERIODS:
            raise BadInput(f"`by`: there is no period `{by}`", remedy=f"Ask by {', '.join(PERIODS)}.")
        try:
            wanted = float(days) if days else math.inf
        except ValueError:
            wanted = math.nan
        if not wanted > 0:
            raise BadInput("`days` must be a number above 0", remedy="Leave it out for all feedback that is kept.")
        return cls(by, 0.0 if math.isinf(wanted) else time.time() - wanted * _DAY_S)
