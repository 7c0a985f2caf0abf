"""`Client`: a running service with `Engine`'s verbs, records in and out, and the same exceptions.

    with Client("http://127.0.0.1:8080", api_key="...") as client:
        answer = client.ask(Question(text="How long is the warranty?"))

`transport=httpx.WSGITransport(create_app(settings, engine))` runs the same client against the app in this process.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from citewell.errors import (
    BadInput,
    CitewellError,
    ConfigError,
    ServiceUnavailable,
    Unavailable,
    UnknownDocument,
    from_json,
)
from citewell.index.filters import spelt
from citewell.records import Answer, Document, Event, Evidence, LedgerEntry, Opinion, Outcome, Question, Terms

if TYPE_CHECKING:
    from citewell.ingest.sources import Item

_NDJSON = "application/x-ndjson"
# One request of a load: its outcomes come before the next is sent, so that neither side ever waits for the other.
_BATCH_DOCUMENTS = 128
_BATCH_BYTES = 2_000_000
# A batch of long documents takes an embedder on a CPU minutes.
_LOAD_TIMEOUT_S = 600.0
# The service sends a heartbeat every 10 seconds.
_SILENCE_S = 35.0
_LONGEST_POLL_S = 50.0
_RECONNECTS = 6
# A request that broke off is sent again under the same idempotency key, this often.
_RESENDS = 2
_FIRST_PAUSE_S = 0.2
_TERMS = Terms()


class Client:
    """Safe to share between threads. `timeout` is seconds without a byte, where nothing is waited for on purpose."""

    def __init__(
        self, url: str, api_key: str = "", timeout: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        headers = {b"authorization": b"Bearer " + api_key.encode()} if api_key else {}
        try:
            self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout, transport=transport)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{url!r} is no address of a service: {error}", remedy=_ADDRESS_REMEDY) from error

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Documents

    def put(self, documents: Iterable[Item]) -> Iterator[Outcome]:
        """Load documents; outcomes in order, as they come. What a source could not read passes through as it is.

        A load that breaks off raises; running it again resumes it, because unchanged documents are skipped.
        """
        batch: list[bytes] = []
        size = 0
        for item in documents:
            if isinstance(item, Document):
                batch.append(item.to_json().encode())
                size += len(batch[-1])
            if len(batch) >= _BATCH_DOCUMENTS or size >= _BATCH_BYTES or isinstance(item, Outcome):
                yield from self._load(batch)
                batch, size = [], 0
            if isinstance(item, Outcome):
                yield item
        yield from self._load(batch)

    def document(self, doc_id: str) -> LedgerEntry:
        """A document as it was loaded, with what the ledger knows of it; raises `UnknownDocument`."""
        return LedgerEntry.model_validate(self._ask("GET", _document_path(doc_id)))

    def delete(self, doc_ids: Sequence[str]) -> list[Outcome]:
        """Remove documents; an unknown id is a failed outcome."""
        outcomes = []
        for doc_id in doc_ids:
            try:
                outcomes.append(Outcome.model_validate(self._ask("DELETE", _document_path(doc_id))))
            except UnknownDocument as error:
                outcomes.append(Outcome(doc_id=doc_id, status="failed", code=error.code, reason=error.message))
        return outcomes

    # Questions

    def search(self, question: Question) -> Evidence:
        """The passages that fit a question best, with both legs' ranks and scores."""
        return Evidence.model_validate(self._ask("POST", "/v1/search", body=_question_body(question)))

    def submit(self, question: Question, generator: str = "", terms: Terms = _TERMS) -> Answer:
        """The record, `queued` or further; the question is safe once this returns.

        Without an idempotency key of yours it has one of its own, so that a connection that broke costs no second
        answer. Raises `KeyReused`.
        """
        asked = {"generator": generator} if generator else {}
        return self.answer(self._submit(_question_body(question) | asked, terms)["id"])

    def submit_each(self, question: Question, generators: Sequence[str], terms: Terms = _TERMS) -> list[Answer]:
        """One question to several generators, with the same evidence; a record each, in their order."""
        if len(generators) == 1:
            return [self.submit(question, generators[0], terms)]
        told = self._submit(_question_body(question) | {"generators": list(generators)}, terms)
        return [self.answer(one["id"]) for one in told["answers"]]

    def _submit(self, body: dict[str, Any], terms: Terms) -> dict[str, Any]:
        body |= terms.model_dump(exclude_defaults=True, exclude={"idempotency_key", "caller"})
        headers = {"Idempotency-Key": terms.idempotency_key or uuid.uuid4().hex}
        for pause in [_FIRST_PAUSE_S * 2**n for n in range(_RESENDS)]:
            try:
                return self._ask("POST", "/v1/answers", body=body, headers=headers)
            except ServiceUnavailable:
                time.sleep(pause)
        return self._ask("POST", "/v1/answers", body=body, headers=headers)

    def rate(self, answer_id: str, opinion: Opinion) -> dict[str, Any]:
        """Judge an answer; a later judgement of the same caller takes the place of the earlier."""
        return self._ask("POST", _answer_path(answer_id) + "/feedback", body=opinion.model_dump(mode="json"))

    def replay(self, answer_id: str, *, recorded: bool = False) -> Answer:
        """Ask an answer's question again, with the index as it is now, or on the evidence of then; a new record."""
        body = {"recorded": recorded}
        return self.answer(self._ask("POST", _answer_path(answer_id) + "/replay", body=body)["id"])

    def ask(self, question: Question, generator: str = "", wait_s: float = 60.0, terms: Terms = _TERMS) -> Answer:
        """`submit`, then wait for the final record, or for the record as it is after `wait_s` seconds."""
        return self.answer(self.submit(question, generator, terms).id, wait_s)

    def answer(self, answer_id: str, wait_s: float = 0.0) -> Answer:
        """The record; waits up to `wait_s` seconds for a final state. Raises `UnknownAnswer`."""
        deadline = time.monotonic() + wait_s
        while True:
            wait = min(_LONGEST_POLL_S, max(0.0, deadline - time.monotonic()))
            asked_at = time.monotonic()
            body = self._ask("GET", _answer_path(answer_id), wait_s=wait)
            answer = Answer.model_validate(body)
            left = deadline - time.monotonic()
            if answer.state.final or left <= 0:
                return answer
            # A busy service does not hold the poll; asking again at once would make it busier.
            if time.monotonic() - asked_at < min(wait, 1.0):
                time.sleep(min(left, 1.0))

    def events(self, answer_id: str, after: str = "") -> Iterator[Event]:
        """Events as they come, up to the final one. A dropped connection is taken up again where it broke off.

        Raises `ServiceUnavailable` when that fails several times in a row.
        """
        failures = 0
        while True:
            try:
                for event in self._stream(answer_id, after):
                    yield event
                    after, failures = event.id, 0
                    if event.kind == "final":
                        return
                dropped: CitewellError = ServiceUnavailable(f"{self._url} ended the stream of answer {answer_id}")
            except _NothingLeft:
                return
            except Unavailable as error:
                dropped = error
            failures += 1
            if failures > _RECONNECTS:
                raise dropped
            time.sleep(_FIRST_PAUSE_S * 2 ** (failures - 1))

    def cancel(self, answer_id: str) -> Answer:
        """Stop an answer that is not final; the record either way."""
        return Answer.model_validate(self._ask("DELETE", _answer_path(answer_id)))

    # State

    def info(self) -> dict[str, Any]:
        """Versions, counts and fingerprints of the service."""
        return self._ask("GET", "/v1/info")

    def catalogue(self) -> list[dict[str, Any]]:
        """Every generator with what it is, whether a worker lives that runs it, what waits and what runs."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/generators")["generators"]
        return found

    def check(self) -> dict[str, dict[str, Any]]:
        """Every backend of the service with `ok`, or the reason and remedy why it is not."""
        try:
            backends: dict[str, dict[str, Any]] = self._ask("GET", "/readyz")["backends"]
        except Unavailable as error:
            if "backends" not in error.detail:
                raise
            backends = error.detail["backends"]
        return backends

    # HTTP

    def _ask(
        self, method: str, path: str, *, body: Any = None, wait_s: float = 0.0, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The JSON object that the service answers with; an error comes back as the exception it was there."""
        timeout = httpx.Timeout(self._timeout, read=self._timeout + wait_s)
        query = {"wait": f"{wait_s:.3f}"} if wait_s else {}
        with self._translated():
            response = self._http.request(method, path, json=body, params=query, timeout=timeout, headers=headers)
        return self._object(response)

    def _object(self, response: httpx.Response) -> dict[str, Any]:
        try:
            found = response.json()
        except ValueError:
            found = None
        if response.status_code >= 400:
            raise from_json(found, response.status_code)
        if not isinstance(found, dict):
            raise ServiceUnavailable(
                f"{self._url} answered with status {response.status_code} and no JSON object", remedy=_ADDRESS_REMEDY
            )
        return found

    def _load(self, batch: Sequence[bytes]) -> Iterator[Outcome]:
        if not batch:
            return
        with self._streaming(
            "POST",
            "/v1/documents",
            content=b"\n".join(batch),
            headers={"Content-Type": _NDJSON, "Accept": _NDJSON},
            timeout=httpx.Timeout(self._timeout, read=max(self._timeout, _LOAD_TIMEOUT_S)),
        ) as response:
            for line in _lines(response):
                found = json.loads(line)
                if "error" in found:
                    raise from_json(found, 500)
                yield Outcome.model_validate(found)

    def _stream(self, answer_id: str, after: str) -> Iterator[Event]:
        with self._streaming(
            "GET",
            _answer_path(answer_id) + "/events",
            headers={"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {}),
            timeout=httpx.Timeout(self._timeout, read=max(self._timeout, _SILENCE_S)),
        ) as response:
            if response.status_code == 204:
                raise _NothingLeft
            yield from _events(_lines(response))

    @contextlib.contextmanager
    def _streaming(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        with self._translated(), self._http.stream(method, path, **options) as response:
            if response.status_code >= 400:
                response.read()
                self._object(response)
            yield response

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """httpx's errors as ours."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ServiceUnavailable(f"no service answers at {self._url}: {error}", remedy=_START_REMEDY) from error
        except httpx.TimeoutException as error:
            raise ServiceUnavailable(
                f"{self._url} took too long to answer", remedy="Try again, or raise the client's timeout."
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise ConfigError(f"{self._url!r} is no address of a service: {error}", remedy=_ADDRESS_REMEDY) from error
        except httpx.HTTPError as error:
            raise ServiceUnavailable(f"the connection to {self._url} broke: {error}", remedy=_START_REMEDY) from error


_ADDRESS_REMEDY = "Give the service's address, for example http://127.0.0.1:8080."
_START_REMEDY = "Start the service with `citewell serve`, or correct the address."


class _NothingLeft(Exception):
    """The service said that no event can follow."""


def _answer_path(answer_id: str) -> str:
    return f"/v1/answers/{quote(answer_id, safe='')}"


def _document_path(doc_id: str) -> str:
    """The id as one segment; `.` and `..` are spelt so that nothing on the way takes them for steps."""
    segment = quote(doc_id, safe="")
    return "/v1/documents/" + (segment.replace(".", "%2E") if set(segment) == {"."} else segment)


def _question_body(question: Question) -> dict[str, Any]:
    """The request body of a question, with every field that the service takes.

    Groups come from the caller's key, and the service makes a conversation's question self-contained by itself: neither
    can be sent, and to drop them in silence would show more than was asked for, or something else.
    """
    if question.groups is not None:
        raise BadInput("a question's groups cannot be sent to a service", remedy="Leave `groups` as None.")
    if question.rewriting is not None:
        raise BadInput(
            "a question's rewriting cannot be sent to a service",
            remedy="Leave `rewriting` as None and send the conversation, or replay the answer that has it.",
        )
    body = question.model_dump(mode="json", exclude={"text", "filters", "groups", "rewriting"})
    unset = [name for name in ("lang", "conversation") if not body[name]]
    filters = spelt(question.filters)
    sent = {name: value for name, value in body.items() if name not in unset}
    return {"question": question.text, **sent} | ({"filters": filters} if filters else {})


def _lines(response: httpx.Response) -> Iterator[str]:
    """Lines that end with a line feed alone; text inside them may hold every other separator that Unicode has."""
    rest = b""
    for data in response.iter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()
    if rest:
        yield rest.decode()


def _events(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events of their lines; an `error` event is raised. An event without its blank line is not one yet."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.removesuffix("\r").partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if fields.get("event") == "error":
            raise from_json(json.loads(fields["data"]), 500)
        if "data" in fields:
            yield Event.model_validate(
                {"id": fields["id"], "kind": fields["event"], "data": json.loads(fields["data"])}
            )
        fields = {}
