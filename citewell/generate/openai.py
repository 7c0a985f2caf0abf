"""Answers from an OpenAI-compatible `POST /chat/completions`, streamed.

vLLM, NVIDIA NIM, Ollama, llama.cpp, Text Generation Inference and the hosted services speak it; request and events are
those of https://platform.openai.com/docs/api-reference/chat/streaming.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import httpx

from citewell import metrics
from citewell.catalogue import OpenAiTable
from citewell.config import Settings
from citewell.errors import ConfigError, GenerationFailed, GeneratorUnavailable
from citewell.ports import GeneratorCard
from citewell.prompt import PACKAGED, Template, messages
from citewell.records import Job, Piece, Tokens
from citewell.split import estimated_tokens

_BUSY = (408, 429, 500, 502, 503, 504)
# How servers refuse a field that they do not know; some say so without naming it.
_REFUSES = (400, 422)
_FIRST_PAUSE_S = 0.5
# How soon a pause, a wait for a place or a silent endpoint notices that nobody wants the answer any more.
_LOOK_S = 0.1


class _Unwanted(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class _Asked:
    """One answer that is asked for; what comes goes to `told`: text, None at its end, or the error.

    `counted` has the endpoint's own figures, as it tells them.
    """

    job: Job
    unwanted: Callable[[], bool]
    told: SimpleQueue[tuple[_Asked, str | Exception | None]]
    counted: list[Tokens] = field(default_factory=list)


class OpenAiGenerator:
    """A model behind an endpoint. At most `concurrency` requests are open; a cancelled answer closes its own."""

    def __init__(self, settings: Settings, name: str, table: OpenAiTable, template: Template = PACKAGED) -> None:
        self._called = name
        self._table = table
        self._template = template
        self._url = table.url.rstrip("/")
        self._limit = table.max_new_tokens or settings.max_new_tokens
        self._budget = settings.evidence_tokens
        self._places = threading.BoundedSemaphore(table.concurrency)
        # Whether the endpoint takes `stream_options`; None until it has answered once.
        self._counts: bool | None = None
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Open the connections; that the endpoint answers is found out with the first answer."""
        with self._lock:
            if self._client is None:
                key = self._table.api_key.get_secret_value()
                timeout = httpx.Timeout(self._table.timeout, pool=None)
                limits = httpx.Limits(max_connections=None)
                try:
                    self._client = httpx.Client(
                        headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=timeout, limits=limits
                    )
                    httpx.URL(self._url)
                except httpx.InvalidURL as error:
                    raise ConfigError(
                        f"setting `generators.{self._called}.url`: `{self._url}` is no address: {error}"
                    ) from None

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def info(self) -> dict[str, Any]:
        return {"name": self._called, "model": self._table.model, "url": self._url, "prompt": self._template.version}

    def describe(self) -> GeneratorCard:
        """The endpoint does not tell its weights: the revision stays empty."""
        table = self._table
        return GeneratorCard(
            self._called,
            "openai",
            model=table.model,
            prompt=self._template.version,
            wordings=self._template.hashes,
            sampling={
                "method": "sample" if table.temperature else "greedy",
                "temperature": table.temperature,
                "top_p": table.top_p,
                "max_new_tokens": self._limit,
                "evidence_tokens": self._budget,
                "url_hash": hashlib.sha256(self._url.encode()).hexdigest()[:16],
            },
            seed=table.seed,
        )

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """Pieces as the endpoint sends them; each job is a request of its own, in a thread."""
        self.load()
        told: SimpleQueue[tuple[_Asked, str | Exception | None]] = SimpleQueue()
        left = threading.Event()
        asked = [_Asked(job, lambda job=job: left.is_set() or cancelled(job.answer_id), told) for job in jobs]  # type: ignore[misc]
        threads = [threading.Thread(target=self._ask, args=(one,), name="openai") for one in asked]
        for thread in threads:
            thread.start()
        try:
            for _ in asked:
                yield from self._pieces(told)
        finally:
            left.set()
            for thread in threads:
                thread.join()

    def _pieces(self, told: SimpleQueue[tuple[_Asked, str | Exception | None]]) -> Iterator[Piece]:
        """What comes until one of the answers has ended."""
        while True:
            one, what = told.get()
            if isinstance(what, str):
                yield Piece(answer_id=one.job.answer_id, text=what)
            elif what is None:
                tokens = one.counted[-1] if one.counted else None
                if tokens:
                    metrics.tokens(self._called, tokens.written)
                yield Piece(answer_id=one.job.answer_id, last=True, tokens=tokens)
                return
            elif isinstance(what, _Unwanted):
                return
            else:
                raise what

    def _ask(self, one: _Asked) -> None:
        try:
            while not self._places.acquire(timeout=_LOOK_S):
                if one.unwanted():
                    raise _Unwanted
            try:
                self._patiently(one)
            finally:
                self._places.release()
            one.told.put((one, None))
        except Exception as error:  # noqa: BLE001 - handed to the reader of the pieces, which raises it
            one.told.put((one, error))

    def _patiently(self, one: _Asked) -> None:
        """The request, sent again while the endpoint is busy or away; never after a first bit of text."""
        deadline, pause = time.monotonic() + self._table.retry_seconds, _FIRST_PAUSE_S
        counts = self._counts is not False
        while True:
            try:
                return self._stream(one, counts)
            except _Uncounted:
                counts = False
            except _Busy as busy:
                wait = busy.retry_after_s or pause
                if time.monotonic() + wait > deadline:
                    raise busy.error from None
                pause = min(2 * pause, 8.0)
                until = time.monotonic() + wait
                while time.monotonic() < until:
                    if one.unwanted():
                        raise _Unwanted from None
                    time.sleep(min(_LOOK_S, max(0.0, until - time.monotonic())))

    def _stream(self, one: _Asked, counts: bool) -> None:
        assert self._client is not None
        begun = False
        body = self._body(one.job) | ({"stream_options": {"include_usage": True}} if counts else {})
        try:
            with self._client.stream("POST", f"{self._url}/chat/completions", json=body) as response:
                if counts and self._refuses_to_count(response):
                    raise _Uncounted
                if response.status_code != 200:
                    raise self._refused(response)
                self._counts = counts
                with _Watch(one.unwanted, response):
                    for text in self._texts(response, one):
                        begun = True
                        one.told.put((one, text))
        except (httpx.HTTPError, httpx.StreamError) as error:
            if one.unwanted():  # the watch has closed the stream under it
                raise _Unwanted from None
            gone = GeneratorUnavailable(
                f"the generator `{self._called}` at {self._url} does not answer: {str(error) or type(error).__name__}"
            )
            if begun or isinstance(error, httpx.ReadTimeout):
                raise gone from None
            raise _Busy(gone) from None

    def _refuses_to_count(self, response: httpx.Response) -> bool:
        """Whether a refusal may be of `stream_options`: it names them, or nothing was ever answered with them."""
        if response.status_code not in _REFUSES:
            return False
        response.read()
        return self._counts is None or "stream_options" in response.text

    def _texts(self, response: httpx.Response, one: _Asked) -> Iterator[str]:
        """The texts of the events, up to the one that says why it ended."""
        ended = False
        for line in response.iter_lines():
            if one.unwanted():
                raise _Unwanted
            data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if data == "[DONE]":
                break
            if data:
                text, over = self._event(data, one)
                ended = ended or over
                if text:
                    yield text
        if one.unwanted():
            raise _Unwanted
        if not ended:
            raise GenerationFailed(f"{self._url} ended the stream before the answer was complete")

    def _event(self, data: str, one: _Asked) -> tuple[str, bool]:
        """Its text, and whether it says why the answer ended; figures of usage, in whichever event, are kept."""
        try:
            body = json.loads(data)
            if "error" in body:
                raise GenerationFailed(f"{self._url} failed half-way: {_reason(body)}")
            if counted := _counted(body.get("usage")):
                one.counted.append(counted)
            choices = body.get("choices") if counted else body["choices"]
            if not choices:  # the event of usage
                return "", False
            return str(choices[0].get("delta", {}).get("content") or ""), bool(choices[0].get("finish_reason"))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise GenerationFailed(
                f"{self._url} sent something that is no chat completion",
                remedy=f"Correct `url` in [generators.{self._called}]; it ends with /v1.",
            ) from None

    def _body(self, job: Job) -> dict[str, Any]:
        table = self._table
        lang = job.evidence.lang or job.question.lang
        chat = messages(
            job.question,
            job.evidence,
            budget=self._budget,
            count=lambda text: estimated_tokens(text, lang),
            template=self._template,
        )
        return {
            "model": table.model,
            "messages": chat,
            "stream": True,
            "max_tokens": self._limit,
            "temperature": table.temperature,
            "top_p": table.top_p,
            "seed": table.seed,
        }

    def _refused(self, response: httpx.Response) -> Exception:
        response.read()
        try:
            reason = _reason(response.json())
        except ValueError:
            reason = response.text[:200]
        said = f"the generator `{self._called}` at {self._url} answered with status {response.status_code}: {reason}"
        if response.status_code in _BUSY:
            return _Busy(GeneratorUnavailable(said), _retry_after(response))
        table = f"[generators.{self._called}]"
        remedies = {401: "api_key", 403: "api_key", 404: "url` or `model"}
        named = remedies.get(response.status_code)
        remedy = (
            f"Correct `{named}` in {table}."
            if named
            else f"Look into the endpoint's log; lower `max_new_tokens` in {table} if the prompt was too long."
        )
        return GenerationFailed(said, remedy=remedy)


class _Uncounted(Exception):
    """The endpoint may answer without `stream_options`."""


class _Busy(Exception):
    """The endpoint may answer later; `error` is what to raise when it does not."""

    def __init__(self, error: Exception, retry_after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after_s = retry_after_s


class _Watch:
    """Closes a stream whose answer nobody wants any more, also while the endpoint says nothing."""

    def __init__(self, unwanted: Callable[[], bool], response: httpx.Response) -> None:
        self._unwanted = unwanted
        self._stream = response.extensions.get("network_stream")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="openai-watch")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_S):
            if self._unwanted():
                socket = self._stream.get_extra_info("socket") if self._stream is not None else None
                if socket is not None:
                    _shut(socket)
                return


def _shut(socket: Any) -> None:
    """Ends a read that waits in another thread; closing alone would not wake it."""
    import socket as sockets

    try:
        socket.shutdown(sockets.SHUT_RDWR)
    except OSError:  # the endpoint closed it at the same moment
        return


def _counted(usage: Any) -> Tokens | None:
    """An event's figures; None where it has none that can be read: they are no reason to lose an answer."""
    if not isinstance(usage, dict):
        return None
    figures = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    if not all(isinstance(figure, int) and figure >= 0 for figure in figures):
        return None
    return Tokens(read=figures[0], written=figures[1])


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the endpoint asks for; 0 when it does not say, or says it as a date."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0


def _reason(body: Any) -> str:
    """The endpoint's own words, in whichever of the usual places they stand."""
    error = body.get("error", body) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:200]
