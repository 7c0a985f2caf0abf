"""/v1/answers: ask, poll, follow, cancel."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from citewell.engine import Engine
from citewell.records import Answer
from citewell.service.state import EXTENSION
from tests.service.small import assert_error, sse


def ask(http: FlaskClient, question: str, **fields: object) -> str:
    response = http.post("/v1/answers", json={"question": question, **fields})
    assert response.status_code == 202, response.text
    return str(response.get_json()["id"])


def follow(http: FlaskClient, answer_id: str, after: str = "") -> TestResponse:
    """The whole stream, closed as a server closes it."""
    headers = {"Last-Event-ID": after} if after else {}
    return http.get(f"/v1/answers/{answer_id}/events", headers=headers, buffered=True)


def test_submit_answers_202_with_where_to_look(loaded: FlaskClient) -> None:
    response = loaded.post("/v1/answers", json={"question": "How long does the warranty of a lamp last?"})
    assert response.status_code == 202
    body = response.get_json()
    assert set(body) == {"id", "state", "links"}
    assert body["state"] == "queued"
    assert response.headers["Location"] == body["links"]["self"] == f"/v1/answers/{body['id']}"
    assert body["links"]["events"] == f"/v1/answers/{body['id']}/events"
    assert int(response.headers["Retry-After"]) >= 1


def test_long_poll_brings_the_answer_with_citations(loaded: FlaskClient) -> None:
    answer_id = ask(loaded, "How long does the warranty of a lamp last?")
    response = loaded.get(f"/v1/answers/{answer_id}?wait=20")
    answer = Answer.from_json(response.data)
    assert answer.state == "done"
    assert "two years" in answer.answer
    assert answer.citations[0].doc_id == "guides/warranty.md"
    assert {"embed", "legs", "queue", "generate", "cite", "total"} <= set(answer.timings_ms)
    assert "Retry-After" not in response.headers
    assert response.headers["Cache-Control"] == "no-store"


def test_generator_k_mode_lang_and_filters_reach_the_job(loaded: FlaskClient) -> None:
    answer_id = ask(
        loaded,
        "say: lamp warranty",
        generator="scripted",
        k=1,
        mode="bm25",
        lang="en",
        filters={"metadata.year": [2024], "doc_id": "guides/warranty.md"},
    )
    answer = Answer.from_json(loaded.get(f"/v1/answers/{answer_id}?wait=20").data)
    assert answer.generator == "scripted"
    assert answer.question.k == 1
    assert answer.evidence.mode == "bm25"
    assert [hit.passage.doc_id for hit in answer.evidence.hits] == ["guides/warranty.md"]
    assert answer.question.filters.metadata == {"year": (2024,)}


def test_unfinished_answers_say_when_to_come_again(http: FlaskClient) -> None:
    answer_id = ask(http, "sleep: 3; say: late", generator="scripted")
    started = time.monotonic()
    response = http.get(f"/v1/answers/{answer_id}?wait=0.3")
    assert 0.25 < time.monotonic() - started < 2.5
    assert response.get_json()["state"] in ("queued", "running")
    assert response.headers["Retry-After"] == "1"
    http.delete(f"/v1/answers/{answer_id}")


def test_wait_ends_with_the_answer_not_with_its_time(http: FlaskClient) -> None:
    answer_id = ask(http, "sleep: 0.5; say: soon", generator="scripted")
    started = time.monotonic()
    assert http.get(f"/v1/answers/{answer_id}?wait=30").get_json()["state"] == "done"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", "", "1e999", "0x10"])
def test_nonsense_as_wait_is_refused(http: FlaskClient, wait: str) -> None:
    answer_id = ask(http, "say: x", generator="scripted")
    assert "wait" in assert_error(http.get(f"/v1/answers/{answer_id}?wait={wait}"), 400, "bad_input")["message"]


def test_a_longer_wait_than_allowed_is_cut(http: FlaskClient) -> None:
    answer_id = ask(http, "say: x", generator="scripted")
    assert http.get(f"/v1/answers/{answer_id}?wait=1000000").get_json()["state"] == "done"


@pytest.mark.parametrize("method", ["get", "delete"])
def test_unknown_answers_are_404(http: FlaskClient, method: str) -> None:
    assert_error(getattr(http, method)("/v1/answers/nobody"), 404, "unknown_answer")
    assert_error(http.get("/v1/answers/nobody/events"), 404, "unknown_answer")


def test_cancel_stops_an_answer_for_good(http: FlaskClient) -> None:
    answer_id = ask(http, "sleep: 0.1; echo: 300", generator="scripted")
    response = http.delete(f"/v1/answers/{answer_id}")
    assert response.status_code == 200
    assert response.get_json()["state"] == "cancelled"
    assert http.delete(f"/v1/answers/{answer_id}").get_json()["state"] == "cancelled"
    assert http.get(f"/v1/answers/{answer_id}?wait=1").get_json()["state"] == "cancelled"


def test_cancel_leaves_a_final_answer_as_it_is(http: FlaskClient) -> None:
    answer_id = ask(http, "say: done", generator="scripted")
    http.get(f"/v1/answers/{answer_id}?wait=20")
    assert http.delete(f"/v1/answers/{answer_id}").get_json()["state"] == "done"


def test_a_failed_answer_is_a_record_not_an_http_error(http: FlaskClient) -> None:
    answer_id = ask(http, "fail: no words", generator="scripted")
    body = http.get(f"/v1/answers/{answer_id}?wait=20").get_json()
    assert body["state"] == "failed"
    assert body["error"] == {"code": "generation_failed", "message": "no words", "remedy": "Say something else."}


def test_a_question_is_asked_again(loaded: FlaskClient) -> None:
    answer_id = ask(loaded, "How long does the warranty of a lamp last?")
    first = Answer.from_json(loaded.get(f"/v1/answers/{answer_id}?wait=20").data)
    for recorded in (True, False):
        response = loaded.post(f"/v1/answers/{answer_id}/replay", json={"recorded": recorded})
        assert response.status_code == 202
        assert response.headers["Location"] == response.get_json()["links"]["self"]
        again = Answer.from_json(loaded.get(response.headers["Location"] + "?wait=20").data)
        assert again.replay_of == first.id
        assert (again.answer, again.provenance) == (first.answer, first.provenance)
    assert_error(loaded.post("/v1/answers/nobody/replay", json={}), 404, "unknown_answer")
    assert_error(loaded.post(f"/v1/answers/{answer_id}/replay", json={"recorded": 1}), 400, "bad_input")


# Several generators


def test_several_generators_answer_from_the_same_evidence(loaded: FlaskClient) -> None:
    names = ["scripted", "extractive"]
    body = {"question": "How long does the warranty of a lamp last?", "generators": names}
    response = loaded.post("/v1/answers", json=body)
    assert response.status_code == 202
    told = response.get_json()["answers"]
    assert [one["generator"] for one in told] == names
    answers = [Answer.from_json(loaded.get(one["links"]["self"] + "?wait=20").data) for one in told]
    assert [answer.generator for answer in answers] == names
    assert answers[1].answer.startswith("The warranty of every lamp lasts two years.")
    assert answers[0].evidence == answers[1].evidence


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"generators": []}, 400, "bad_input"),
        ({"generators": ["extractive", "extractive"]}, 400, "bad_input"),
        ({"generators": ["extractive"], "generator": "scripted"}, 400, "bad_input"),
        ({"generators": ["extractive", "nobody"]}, 404, "unknown_generator"),
    ],
)
def test_wrong_lists_of_generators(http: FlaskClient, body: dict[str, object], status: int, code: str) -> None:
    assert_error(http.post("/v1/answers", json={"question": "x", **body}), status, code)


def test_the_catalogue_tells_the_load(http: FlaskClient) -> None:
    def row(name: str) -> dict[str, object]:
        found: list[dict[str, object]] = http.get("/v1/generators").get_json()["generators"]
        return next(one for one in found if one["name"] == name)

    assert row("extractive") == {
        "name": "extractive", "kind": "extractive", "model": "", "default": True,
        "live": True, "workers": 1, "waiting": 0, "running": 0,
    }  # fmt: skip
    ids = [ask(http, "sleep: 0.05; echo: 600", generator="scripted") for _ in range(3)]
    until = time.monotonic() + 10
    while row("scripted")["running"] != 2:  # the threads of the small engine
        assert time.monotonic() < until
        time.sleep(0.02)
    assert row("scripted")["waiting"] == 1
    for answer_id in ids:
        http.delete(f"/v1/answers/{answer_id}")


# Events


def test_events_tell_the_answer_from_start_to_end(http: FlaskClient) -> None:
    answer_id = ask(http, "say: first line\\n|second \u2028 \u00fc|; sleep: 0.06", generator="scripted")
    response = follow(http, answer_id)
    assert response.mimetype == "text/event-stream"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-store"
    events = sse(response.text)
    assert [event["event"] for event in events][-1] == "final"
    assert [int(event["id"]) for event in events] == sorted({int(event["id"]) for event in events})
    deltas = [json.loads(event["data"]) for event in events if event["event"] == "delta"]
    assert "".join(delta["text"] for delta in deltas) == "first line\nsecond \u2028 \u00fc"
    assert {delta["attempt"] for delta in deltas} == {1}
    assert Answer.model_validate(json.loads(events[-1]["data"])["answer"]).state == "done"


def test_events_resume_strictly_after_the_last_seen(http: FlaskClient) -> None:
    answer_id = ask(http, "sleep: 0.05; echo: 5", generator="scripted")
    everything = sse(follow(http, answer_id).text)
    for number, event in enumerate(everything[:-1]):
        response = follow(http, answer_id, event["id"])
        assert sse(response.text) == everything[number + 1 :]


def test_nothing_follows_the_final_event(http: FlaskClient) -> None:
    answer_id = ask(http, "say: x", generator="scripted")
    last = sse(follow(http, answer_id).text)[-1]
    response = follow(http, answer_id, last["id"])
    assert response.status_code == 204
    assert response.text == ""


def test_an_event_id_of_nowhere_is_refused(http: FlaskClient) -> None:
    answer_id = ask(http, "say: x", generator="scripted")
    response = follow(http, answer_id, "yesterday")
    assert_error(response, 400, "bad_input")


def test_cancelling_ends_the_stream(http: FlaskClient) -> None:
    answer_id = ask(http, "sleep: 0.1; echo: 300", generator="scripted")
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(lambda: sse(follow(http, answer_id).text))
        time.sleep(0.5)
        http.delete(f"/v1/answers/{answer_id}")
        events = stream.result(timeout=10)
    assert json.loads(events[-1]["data"])["answer"]["state"] == "cancelled"


def test_heartbeats_keep_a_silent_stream_open(http: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citewell.service.answers.HEARTBEAT_S", 0.5)
    answer_id = ask(http, "sleep: 2.5; say: x", generator="scripted")
    text = follow(http, answer_id).text
    assert ": waiting\n\n" in text
    assert sse(text)[-1]["event"] == "final"


def test_a_store_that_goes_away_ends_the_stream_with_its_error(http: FlaskClient, engine: Engine) -> None:
    answer_id = ask(http, "sleep: 5; say: x", generator="scripted")
    response = http.get(f"/v1/answers/{answer_id}/events", buffered=False)
    stream = response.iter_encoded()
    next(stream)
    engine.store.close()
    events = sse(b"".join(stream).decode())
    response.close()
    engine.store.load()
    assert events[-1]["event"] == "error"
    assert json.loads(events[-1]["data"])["error"]["code"] == "store_unavailable"


# Places


def test_held_requests_leave_threads_for_short_ones(app: Flask, http: FlaskClient) -> None:
    places = app.extensions[EXTENSION].places
    count = 0
    while places.acquire(blocking=False):
        count += 1
    assert count == 6  # of 8 threads
    answer_id = ask(http, "sleep: 3; say: x", generator="scripted")
    started = time.monotonic()
    assert http.get(f"/v1/answers/{answer_id}?wait=30").headers["Retry-After"] == "1"
    assert time.monotonic() - started < 2
    response = follow(http, answer_id)
    assert_error(response, 503, "service_unavailable")
    assert response.headers["Retry-After"]
    for _ in range(count):
        places.release()
    http.delete(f"/v1/answers/{answer_id}")


def test_places_come_back(app: Flask, http: FlaskClient) -> None:
    answer_id = ask(http, "say: x", generator="scripted")
    places = app.extensions[EXTENSION].places
    for _ in range(10):
        assert http.get(f"/v1/answers/{answer_id}?wait=5").status_code == 200
        assert follow(http, answer_id).text
        http.head(f"/v1/answers/{answer_id}/events").close()
        http.get(f"/v1/answers/{answer_id}/events", buffered=False).close()  # never read
    assert all(places.acquire(blocking=False) for _ in range(6))


def test_stopping_ends_polls_and_streams(app: Flask, http: FlaskClient) -> None:
    answer_id = ask(http, "sleep: 8; say: x", generator="scripted")
    with ThreadPoolExecutor(2) as pool:
        poll = pool.submit(lambda: app.test_client().get(f"/v1/answers/{answer_id}?wait=30"))
        stream = pool.submit(lambda: follow(app.test_client(), answer_id).text)
        time.sleep(0.5)
        started = time.monotonic()
        app.extensions[EXTENSION].stopping.set()
        assert poll.result(timeout=5).get_json()["state"] == "running"
        assert "event: final" not in stream.result(timeout=5)
        assert time.monotonic() - started < 2.5
    http.delete(f"/v1/answers/{answer_id}")


def test_fifty_at_once(app: Flask, loaded: FlaskClient) -> None:
    def one(number: int) -> tuple[str, str]:
        http = app.test_client()
        answer_id = ask(http, f"say: answer {number}", generator="scripted")
        body = http.get(f"/v1/answers/{answer_id}?wait=60").get_json()
        while body["state"] not in ("done", "failed"):  # without a place the poll answers at once
            time.sleep(0.1)
            body = http.get(f"/v1/answers/{answer_id}?wait=60").get_json()
        return body["state"], body["answer"].strip()

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(one, range(50)))
    assert [state for state, _ in results] == ["done"] * 50
    assert all(f"answer {number}" in text for number, (_, text) in enumerate(results))
