"""The client: Engine's verbs over HTTP, against the app in this process and against small servers that misbehave."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from flask import Flask

from citewell.client import Client
from citewell.config import Settings, load_settings
from citewell.engine import Engine
from citewell.errors import (
    BadInput,
    ConfigError,
    InvalidFilter,
    InvalidQuestion,
    ServiceUnavailable,
    Unauthorized,
    UnknownAnswer,
    UnknownDocument,
    UnknownGenerator,
)
from citewell.records import AnswerState, Document, Filters, Outcome, Question, Range, Rewriting, Turn
from citewell.service.app import create_app
from tests.service.small import DOCUMENTS
from tests.service.wsgi import exact_path

WARRANTY = Question(text="How long does the warranty of a lamp last?")


def documents() -> list[Document]:
    return [Document.model_validate(document) for document in DOCUMENTS]


def test_its_answers_are_those_of_the_engine(client: Client, engine: Engine) -> None:
    assert [outcome.status for outcome in client.put(documents())] == ["added"] * 3
    assert client.document("guides/returns.md") == engine.document("guides/returns.md")
    found, expected = client.search(WARRANTY), engine.search(WARRANTY)
    assert found.hits == expected.hits
    answer = client.ask(WARRANTY, wait_s=20)
    assert answer == engine.answer(answer.id)
    assert answer.state is AnswerState.DONE
    assert list(client.events(answer.id)) == engine.events(answer.id)
    assert client.info() == engine.info()
    assert client.check() == engine.check()


def test_loads_go_in_batches_and_outcomes_keep_their_order(client: Client) -> None:
    unreadable = Outcome(doc_id="bad.pdf", status="failed", reason="no text")
    items: list[Document | Outcome] = [Document(id=f"d/{n}", text=f"Number {n}.") for n in range(300)]
    items.insert(150, unreadable)
    outcomes = client.put(iter(items))
    first = next(outcomes)
    assert first.doc_id == "d/0"
    rest = list(outcomes)
    assert [o.doc_id for o in (first, *rest)] == [i.id if isinstance(i, Document) else i.doc_id for i in items]
    assert rest[149] == unreadable
    assert client.info()["index"]["documents"] == 300
    assert list(client.put([])) == []


def test_ids_and_text_of_every_kind_survive(client: Client) -> None:
    ids = ["a/b", "..", "日本語/ガイド.md", "https://example.org/a//b?c#d", "line\u2028separator", "%2F"]
    assert [o.doc_id for o in client.put([Document(id=i, text="words\u2028\u0085\n here") for i in ids])] == ids
    for doc_id in ids:
        entry = client.document(doc_id)
        assert entry.doc_id == doc_id
        assert entry.document is not None
        assert entry.document.text == "words\u2028\u0085\n here"
    assert [outcome.status for outcome in client.delete([*ids, "nobody"])] == ["deleted"] * 6 + ["failed"]


def test_a_delete_has_its_receipt(client: Client) -> None:
    list(client.put([Document(id="long", text="The lamp is red. " * 100)]))
    held = client.document("long").passages
    assert held > 1
    (outcome,) = client.delete(["long"])
    receipt = {"passages_removed": held, "passages_left": 0, "in_ledger": False, "answers_removed": 0}
    assert outcome.receipt == receipt


def test_delete_tells_what_the_engine_tells(client: Client, engine: Engine) -> None:
    theirs, ours = engine.delete(["nobody"])[0], client.delete(["nobody"])[0]
    assert (ours.doc_id, ours.status, ours.code) == (theirs.doc_id, theirs.status, theirs.code)


def test_questions_arrive_whole(client: Client, engine: Engine) -> None:
    list(client.put(documents()))
    question = Question(
        text="warranty",
        lang="en",
        k=2,
        mode="bm25",
        filters=Filters(doc_id=("guides/warranty.md",), metadata={"year": (2024, "2025")}),
    )
    answer = client.submit(question, "scripted")
    assert answer.question == question
    assert client.search(question).hits == engine.search(question).hits


# A value for every field of a question and of its filters, none of them the default; a filter alone finds one document.
FIELDS: dict[str, Any] = {
    "text": "warranty",
    "lang": "en",
    "k": 2,
    "mode": "bm25",
    "filters": Filters(lang=("en",)),
    "conversation": (Turn(question="Which lamp is there?", answer="A red one."), Turn(question="And a tent?")),
}
UNSENT: dict[str, Any] = {"groups": ("staff",), "rewriting": Rewriting(text="lamp warranty", by="rules-1")}
FILTERS: dict[str, Any] = {
    "lang": ("es", "ja"),
    "doc_id": ("guides/warranty.md",),
    "url": ("https://shop.example/returns",),
    "url_prefix": ("https://shop.example/r", "https://nowhere.example/"),
    "metadata": {"year": (2024, "2025")},
    "ranges": {"year": Range(gt=2023, lte="2024")},
}


def test_every_field_of_a_question_is_sent_or_refused(client: Client, engine: Engine) -> None:
    """A field that is new to a record fails here, until the client and the service know it."""
    assert set(FIELDS) | set(UNSENT) == set(Question.model_fields)
    for name, value in FIELDS.items():
        question = Question(**({"text": "lamp"} | {name: value}))
        assert getattr(question, name) != getattr(Question(text="lamp"), name)
        asked = client.submit(question, "scripted").question
        if name == "conversation":
            assert [turn.question for turn in asked.conversation] == [turn.question for turn in value]
            assert asked.rewriting == engine.submit(question, "scripted").question.rewriting
        else:
            assert getattr(asked, name) == value
    for name, value in UNSENT.items():
        with pytest.raises(BadInput, match=name):
            client.search(Question.model_validate({"text": "x", name: value}))


@pytest.mark.parametrize("name", Filters.model_fields)
def test_every_filter_is_sent(client: Client, engine: Engine, name: str) -> None:
    whole = [
        document.model_copy(update={"url": f"https://shop.example/{document.id[7:-3]}"}) for document in documents()
    ]
    list(client.put(whole))
    filters = Filters(**{name: FILTERS[name]})
    question = Question(text="How long may a lamp be returned?", lang="en", filters=filters)
    assert client.submit(question, "scripted").question.filters == filters
    found, expected = client.search(question), engine.search(question)
    assert found.filters == filters
    assert found.hits == expected.hits
    everything = engine.search(question.model_copy(update={"filters": Filters()}))
    assert 0 < len(found.hits) < len(everything.hits), "the filter leaves something out"


def test_values_beside_bounds_cannot_be_sent(client: Client) -> None:
    for filters in (
        Filters(url=("https://a/",), url_prefix=("https://b/",)),
        Filters(metadata={"year": (1,)}, ranges={"year": Range(gt=0)}),
    ):
        with pytest.raises(InvalidFilter, match="no request can say"):
            client.search(Question(text="x", filters=filters))


def test_errors_come_back_as_what_they_were(client: Client) -> None:
    with pytest.raises(UnknownAnswer, match="nobody") as caught:
        client.answer("nobody")
    assert "answer_ttl" in caught.value.remedy
    with pytest.raises(UnknownAnswer):
        list(client.events("nobody"))
    with pytest.raises(UnknownDocument):
        client.document("nobody")
    with pytest.raises(InvalidQuestion):
        client.search(Question(text=" "))
    with pytest.raises(UnknownGenerator):
        client.submit(WARRANTY, "oracle")
    with pytest.raises(InvalidFilter):
        client.search(Question(text="x", filters=Filters(lang=("x",) * 1001)))


def test_cancel_and_waiting(client: Client) -> None:
    answer = client.submit(Question(text="sleep: 6; say: x"), "scripted")
    started = time.monotonic()
    assert client.answer(answer.id, wait_s=0.4).state in (AnswerState.QUEUED, AnswerState.RUNNING)
    assert 0.3 < time.monotonic() - started < 3
    assert client.cancel(answer.id).state is AnswerState.CANCELLED
    assert client.answer(answer.id, wait_s=5).state is AnswerState.CANCELLED


def test_the_key_is_sent(settings: Settings, engine: Engine) -> None:
    locked = create_app(load_settings(**{**settings.model_dump(), "api_key": "a key"}), engine)
    transport = httpx.WSGITransport(exact_path(locked))
    with Client("http://localhost", "a key", transport=transport) as client:
        assert client.info()["version"]
    for key in ("", "wrong"):
        with Client("http://localhost", key, transport=transport) as client, pytest.raises(Unauthorized):
            client.info()


def test_a_backend_that_is_down_shows_in_check(client: Client, engine: Engine) -> None:
    engine.queue.close()
    checks = client.check()
    assert checks["queue"]["code"] == "queue_unavailable"
    assert checks["index"]["ok"] is True


def test_nobody_at_the_address() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with Client(url) as client, pytest.raises(ServiceUnavailable, match=url) as caught:
            client.info()
    assert "citewell serve" in caught.value.remedy


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="address"), Client(url) as client:
        client.info()


# Servers that misbehave: httpx's own mock transport stands for the wire, not for the service.


def served_by(handler: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://localhost", transport=httpx.MockTransport(handler))


def test_something_else_at_the_address() -> None:
    with (
        served_by(lambda _: httpx.Response(200, text="<html>hello</html>")) as client,
        pytest.raises(ServiceUnavailable, match="no JSON"),
    ):
        client.info()
    with (
        served_by(lambda _: httpx.Response(502, text="<html>bad gateway</html>")) as client,
        pytest.raises(ServiceUnavailable, match="502"),
    ):
        client.info()


class Broken(httpx.SyncByteStream):
    """A stream that breaks off."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts
        raise httpx.RemoteProtocolError("peer closed the connection")


def event(number: int, kind: str = "delta") -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps({'text': str(number)})}\n\n".encode()


def test_a_dropped_stream_is_taken_up_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citewell.client._FIRST_PAUSE_S", 0.001)
    seen: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Last-Event-ID"))
        match len(seen):
            case 1:  # in the middle of an event, in the middle of a character
                return httpx.Response(200, stream=Broken(b": hi\n\n" + event(1)[:9], event(1)[9:], event(2)[:-1]))
            case 2:
                return httpx.Response(503, json={"error": {"code": "store_unavailable", "message": "m", "remedy": "r"}})
            case 3:
                frame = b'event: error\ndata: {"error": {"code": "store_unavailable", "message": "m"}}\n\n'
                return httpx.Response(200, content=event(2) + frame)
            case 4:
                return httpx.Response(200, content=b"")
        return httpx.Response(200, content=event(3) + event(4, "final") + event(5))

    with served_by(handle) as client:
        assert [found.id for found in client.events("a")] == ["1", "2", "3", "4"]
    assert seen == [None, "1", "1", "2", "2"]


def test_reconnecting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citewell.client._FIRST_PAUSE_S", 0.001)
    calls: list[int] = []

    def handle(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(200, stream=Broken())

    with served_by(handle) as client, pytest.raises(ServiceUnavailable, match="broke"):
        list(client.events("a"))
    assert len(calls) == 7


def test_a_defect_in_the_stream_is_raised_at_once() -> None:
    frame = b'event: error\ndata: {"error": {"code": "unknown_answer", "message": "gone", "remedy": "r"}}\n\n'
    with served_by(lambda _: httpx.Response(200, content=frame)) as client, pytest.raises(UnknownAnswer, match="gone"):
        list(client.events("a"))


def test_a_final_answer_has_no_more_events() -> None:
    with served_by(lambda _: httpx.Response(204)) as client:
        assert list(client.events("a", after="9")) == []


def test_a_load_that_breaks_off_raises() -> None:
    lines = (
        Outcome(doc_id="a", status="added").to_json() + '\n{"error": {"code": "index_unavailable", "message": "m"}}\n'
    )
    with served_by(lambda _: httpx.Response(200, text=lines)) as client:
        outcomes = client.put([Document(id="a", text="x"), Document(id="b", text="y")])
        assert next(outcomes).doc_id == "a"
        with pytest.raises(ServiceUnavailable.__base__, match="m"):  # type: ignore[arg-type]
            next(outcomes)


def test_a_service_that_says_nothing_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout=0.3) as client, pytest.raises(ServiceUnavailable, match="too long"):
            client.info()


def test_threads_share_one_client(app: Flask, client: Client) -> None:
    list(client.put(documents()))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(client.search(WARRANTY).hits))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 8


def test_every_kind_of_line_break_survives_the_stream_and_its_resumption(client: Client) -> None:
    """CRLF, a lone CR, empty lines, U+2028 and U+0085 mean something to frames of events or to readers."""
    text = "one\r\ntwo\rthree\n\n\nfour\u2028five\u2029six\x85seven\x0b\x0ceight\r\n\r\n"
    middle = len(text) // 2
    question = Question(text=f"sleep: 0.06; say: {text[:middle]}|{text[middle:]}|end")
    asked = client.submit(question, "scripted")
    events = list(client.events(asked.id))
    assert "".join(event.data["text"] for event in events if event.kind == "delta") == text + "end"
    assert len({event.id for event in events}) == len(events)
    for place, event in enumerate(events[:-1]):
        assert list(client.events(asked.id, after=event.id)) == events[place + 1 :], "exactly the rest"
    assert list(client.events(asked.id, after=events[-1].id)) == []
