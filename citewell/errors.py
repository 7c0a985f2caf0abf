"""Every error that Citewell raises on purpose.

    CitewellError                       500 internal
    ├── ConfigError                     500 config            a setting is unknown, wrong or missing
    ├── MissingDependency               500 missing_dependency
    ├── BadInput                        400 bad_input         the caller can mend it
    │   ├── InvalidQuestion             400 invalid_question
    │   ├── InvalidFilter               400 invalid_filter
    │   ├── InvalidCallback             400 invalid_callback
    │   ├── InvalidDocument             400 invalid_document
    │   ├── UnsupportedMedia            415 unsupported_media
    │   └── TooLarge                    413 too_large
    ├── AuthError
    │   ├── Unauthorized                401 unauthorized      no key, or none that is known
    │   └── Forbidden                   403 forbidden         the key has not the scope for this
    ├── NotFound                        404 not_found
    │   ├── UnknownAnswer               404 unknown_answer
    │   ├── UnknownDocument             404 unknown_document
    │   ├── UnknownGenerator            404 unknown_generator
    │   ├── UnknownVersion              404 unknown_version
    │   └── Gone                        410 gone              its source says that a document is no more
    ├── Conflict                        409 conflict
    │   ├── FingerprintMismatch         409 fingerprint_mismatch
    │   ├── KeyReused                   409 key_reused        an idempotency key came with another request before
    │   ├── DeletesRefused              409 deletes_refused   a sync found gone more than it may delete
    │   └── LeaseLost                   409 lease_lost        another worker holds the answer, or nobody waits for it
    ├── Unavailable                     503 unavailable       a backend is down; trying again can help
    │   ├── IndexUnavailable            503 index_unavailable
    │   ├── StoreUnavailable            503 store_unavailable
    │   ├── QueueUnavailable            503 queue_unavailable
    │   ├── ServiceUnavailable          503 service_unavailable
    │   ├── Overloaded                  503 overloaded        more waits than can be answered in time
    │   ├── EmbedderUnavailable         503 embedder_unavailable
    │   ├── RerankerUnavailable         503 reranker_unavailable
    │   ├── EntailmentUnavailable       503 entailment_unavailable
    │   ├── GeneratorUnavailable        503 generator_unavailable   a generator's endpoint does not answer, or is busy
    │   ├── ReaderUnavailable           503 reader_unavailable
    │   └── SourceUnavailable           503 source_unavailable    where documents come from does not answer
    ├── TrainingFailed                  500 training_failed
    └── GenerationFailed                502 generation_failed

An error says what happened, to what, and what to do: `message` holds the first two, `remedy` the third.
Adapters translate their library's exceptions into these at the edge; the HTTP shell and the command line
show them and never a traceback.
"""

from __future__ import annotations

from typing import Any


class CitewellError(Exception):
    """The root: `code` is stable for programs, `status` is the HTTP status, `remedy` tells a person what to do."""

    code = "internal"
    status = 500
    default_remedy = "This is a defect: please report it with the log lines around it."

    def __init__(self, message: str, *, remedy: str = "", detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy or self.default_remedy
        self.detail = detail or {}

    def to_json(self) -> dict[str, Any]:
        """The one error shape of the product: `{"error": {"code", "message", "remedy"}}`."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "remedy": self.remedy}
        if self.detail:
            body["detail"] = self.detail
        return {"error": body}


class ConfigError(CitewellError):
    code = "config"
    default_remedy = "Correct the setting; `citewell config` lists them all with their values."


class MissingDependency(CitewellError):
    code = "missing_dependency"
    default_remedy = "Install the package that the message names."


class BadInput(CitewellError):
    code = "bad_input"
    status = 400
    default_remedy = "Correct the request and send it again."


class InvalidQuestion(BadInput):
    code = "invalid_question"


class InvalidFilter(BadInput):
    code = "invalid_filter"


class InvalidCallback(BadInput):
    code = "invalid_callback"


class InvalidDocument(BadInput):
    code = "invalid_document"


class UnsupportedMedia(BadInput):
    code = "unsupported_media"
    status = 415


class TooLarge(BadInput):
    code = "too_large"
    status = 413


class AuthError(CitewellError):
    code = "auth"
    status = 403


class Unauthorized(AuthError):
    code = "unauthorized"
    status = 401
    default_remedy = "Send the header `Authorization: Bearer KEY` with a key that the service knows."


class Forbidden(AuthError):
    code = "forbidden"
    default_remedy = "Use a key that has this scope; the setting `keys` gives scopes to keys."


class NotFound(CitewellError):
    code = "not_found"
    status = 404
    default_remedy = "Check the address; docs/http-api.md lists every route."


class UnknownAnswer(NotFound):
    code = "unknown_answer"
    default_remedy = "Check the id. Answers are kept for `answer_ttl` seconds; ask again if it is gone."


class UnknownDocument(NotFound):
    code = "unknown_document"
    default_remedy = "Check the id: for files it is the path below the folder that was loaded."


class UnknownGenerator(NotFound):
    code = "unknown_generator"
    default_remedy = "Choose one of the generators that /v1/generators lists."


class UnknownVersion(NotFound):
    code = "unknown_version"
    default_remedy = "`citewell index status` lists the versions."


class Gone(NotFound):
    code = "gone"
    status = 410
    default_remedy = (
        "Nothing, if it was removed on purpose: `--sync` deletes it from the index. Else correct the address."
    )


class Conflict(CitewellError):
    code = "conflict"
    status = 409


class FingerprintMismatch(Conflict):
    code = "fingerprint_mismatch"


class KeyReused(Conflict):
    code = "key_reused"
    default_remedy = "Send another question with an `Idempotency-Key` of its own, or exactly the first request again."


class DeletesRefused(Conflict):
    code = "deletes_refused"


class LeaseLost(Conflict):
    code = "lease_lost"
    default_remedy = "Nothing: the answer belongs to another attempt, or is in a final state."


class Unavailable(CitewellError):
    code = "unavailable"
    status = 503
    default_remedy = "Check that the server runs and is reachable, then try again; `citewell doctor` tells which."


class IndexUnavailable(Unavailable):
    code = "index_unavailable"


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class QueueUnavailable(Unavailable):
    code = "queue_unavailable"


class ServiceUnavailable(Unavailable):
    code = "service_unavailable"


class Overloaded(Unavailable):
    code = "overloaded"
    default_remedy = "Ask again after the time in `Retry-After`, or start more workers."


class EmbedderUnavailable(Unavailable):
    code = "embedder_unavailable"


class RerankerUnavailable(Unavailable):
    code = "reranker_unavailable"
    default_remedy = (
        "Give `reranker` the folder or name of a cross-encoder with one label. Models are not downloaded unless "
        "HF_HUB_OFFLINE=0 is set."
    )


class ReaderUnavailable(Unavailable):
    code = "reader_unavailable"
    default_remedy = "Check the folder that the setting `reader` names, or train one: citewell train reader."


class EntailmentUnavailable(Unavailable):
    code = "entailment_unavailable"
    default_remedy = (
        "Give `entailment` the folder or name of a cross-encoder for natural language inference, one label of it "
        "`entailment`. Models are not downloaded unless HF_HUB_OFFLINE=0 is set."
    )


class GeneratorUnavailable(Unavailable):
    code = "generator_unavailable"
    default_remedy = "Start the endpoint, or correct `url` of the generator's table; then ask again."


class SourceUnavailable(Unavailable):
    code = "source_unavailable"
    default_remedy = "Check that the source is reachable, then run the load again: what was loaded stays."


class TrainingFailed(CitewellError):
    code = "training_failed"
    default_remedy = "Mend the cause, then run the same command with --resume."


class GenerationFailed(CitewellError):
    code = "generation_failed"
    status = 502
    default_remedy = "See the worker's log for the cause, then ask again."


def all_errors() -> dict[str, type[CitewellError]]:
    """Code to class, for clients that turn a JSON error back into an exception."""
    found: dict[str, type[CitewellError]] = {}
    pending: list[type[CitewellError]] = [CitewellError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found


def from_json(body: Any, status: int) -> CitewellError:
    """Turn an error body of the HTTP API back into the exception that caused it.

    An unknown code (a newer service) or a body of another shape (a proxy's page) becomes the nearest general error.
    """
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        cls: type[CitewellError] = ServiceUnavailable if status >= 500 else BadInput
        return cls(f"the service answered with status {status} and no JSON error")
    known = all_errors()
    fallback = Unavailable if status == 503 else CitewellError if status >= 500 else BadInput
    cls = known.get(str(error.get("code")), fallback)
    return cls(
        str(error.get("message", "")),
        remedy=str(error.get("remedy", "")),
        detail=error.get("detail") if isinstance(error.get("detail"), dict) else None,
    )
