"""Request bodies. An unknown field is refused, because a misspelt one would otherwise be ignored in silence."""

from __future__ import annotations

from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from citewell.config import Settings
from citewell.errors import BadInput, UnsupportedMedia
from citewell.index.filters import parse_filters
from citewell.records import BEST, WORST, CacheMode, Mode, Opinion, Priority, Question, Terms, Turn
from citewell.service.state import service

# Bodies that hold one question: room for the longest with every character escaped, and for many filters.
QUESTION_BODY_BYTES = 2_000_000
MAX_EXPIRES_S = 7 * 86_400
# Of a conversation that is sent; how many of them are looked at is a setting.
MAX_TURNS = 100


class TurnBody(BaseModel):
    """A turn of `conversation`, oldest first."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: str = Field(max_length=100_000)
    answer: str = Field("", max_length=100_000)


class SearchBody(BaseModel):
    """`POST /v1/search`. `k` and `lang` that are left out come from the settings and the question's text."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: str
    k: int | None = Field(None, ge=1, le=1000)
    mode: Mode = "hybrid"
    filters: dict[str, Any] | None = None
    lang: str = Field("", max_length=35)
    conversation: list[TurnBody] = Field([], max_length=MAX_TURNS)

    def to_question(self, settings: Settings) -> Question:
        """Raises `InvalidFilter`."""
        return Question(
            text=self.question,
            lang=self.lang,
            k=settings.k if self.k is None else self.k,
            mode=self.mode,
            filters=parse_filters(self.filters or {}),
            conversation=tuple(Turn(question=turn.question, answer=turn.answer) for turn in self.conversation),
        )


class AnswerBody(SearchBody):
    """`POST /v1/answers`. An empty `generator` means the service's own choice; `generators` asks each of several."""

    generator: str = Field("", max_length=100)
    generators: list[str] | None = Field(None, min_length=1, max_length=8)
    expires_in: float | None = Field(None, gt=0, le=MAX_EXPIRES_S)
    priority: Priority = "interactive"
    callback_url: str = Field("", max_length=2000)
    cache: CacheMode | None = None

    def to_terms(self, idempotency_key: str, caller: str) -> Terms:
        return Terms(
            idempotency_key=idempotency_key,
            caller=caller,
            expires_in=self.expires_in or 0.0,
            priority=self.priority,
            callback_url=self.callback_url,
            cache=self.cache,
        )


class ReplayBody(BaseModel):
    """`POST /v1/answers/ID/replay`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    recorded: bool = False


class FeedbackBody(BaseModel):
    """`POST /v1/answers/ID/feedback`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rating: int = Field(ge=WORST, le=BEST)
    comment: str = ""
    correct_passages: list[str] = Field(default_factory=list)

    def to_opinion(self) -> Opinion:
        return Opinion(rating=self.rating, comment=self.comment, correct_passages=tuple(self.correct_passages))


Body = TypeVar("Body", bound=BaseModel)


def read_body(cls: type[Body]) -> Body:
    """The request's JSON body; raises `UnsupportedMedia`, `TooLarge` or `BadInput` that names the field."""
    if not request.is_json:
        raise UnsupportedMedia(
            f"the body's content type is {request.mimetype or 'missing'}", remedy="Send Content-Type: application/json."
        )
    request.max_content_length = min(QUESTION_BODY_BYTES, service().settings.request_limit)
    try:
        return cls.model_validate_json(request.get_data(cache=False))
    except ValidationError as error:
        problems = "; ".join(_explain(item) for item in error.errors(include_url=False))
        known = ", ".join(cls.model_fields)
        raise BadInput(problems, remedy=f"Send one JSON object with the fields: {known}.") from None


def _explain(item: Any) -> str:
    """One of pydantic's errors as a sentence that names the field, never the question's text."""
    field = ".".join(str(part) for part in item["loc"])
    match item["type"]:
        case "extra_forbidden":
            return f"`{field}` is no field"
        case "missing":
            return f"the field `{field}` is missing"
        case "json_invalid":
            return f"the body is no JSON: {item['ctx']['error']}"
    reason = item["msg"][0].lower() + item["msg"][1:]
    found = item["input"]
    seen = f", found {type(found).__name__}" if not isinstance(found, int | float) else f", found {found}"
    return f"`{field}`: {reason}{seen}" if field else f"the body: {reason}{seen}"
