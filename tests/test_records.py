"""Records: frozen, JSON both ways, and understood by a neighbouring version."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from citewell.errors import BadInput, CitewellError, UnknownAnswer, all_errors, from_json
from citewell.records import Answer, AnswerState, Document, Evidence, Hit, Job, JobMessage, Passage, Question

PASSAGE = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=5, text="línea\n", lang="es", groups=("staff",))
JOB = Job(
    answer_id="a",
    question=Question(text="¿Qué?", lang="es", groups=("staff",)),
    evidence=Evidence(hits=(Hit(passage=PASSAGE, rank=1, score=0.5),)),
)


def test_a_job_survives_the_way_through_json() -> None:
    assert Job.from_json(JOB.to_json()) == JOB


def test_an_old_reader_takes_a_newer_message_and_the_reverse() -> None:
    newer = json.loads(JobMessage(answer_id="a").to_json()) | {"schema_version": 2, "priority": "batch"}
    assert JobMessage.from_json(json.dumps(newer)).answer_id == "a"
    assert JobMessage.from_json('{"answer_id": "a"}').generator == "extractive"
    older = {"answer_id": "a", "question": {"text": "q"}, "evidence": {}}
    assert Job.from_json(json.dumps(older)).max_attempts == 3


def test_an_answer_of_before_its_provenance_was_kept_is_read() -> None:
    older = json.loads(Answer.queued(JOB).to_json())
    del older["provenance"], older["replay_of"]
    answer = Answer.from_json(json.dumps(older))
    assert (answer.provenance.revision, answer.provenance.passages, answer.replay_of) == ("", (), "")
    assert answer.evidence == JOB.evidence


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError):
        JOB.answer_id = "b"  # type: ignore[misc]


def test_the_content_hash_sees_every_field_and_no_order() -> None:
    first = Document(id="d", text="t", metadata={"a": 1, "b": 2})
    assert first.content_hash() == Document(id="d", text="t", metadata={"b": 2, "a": 1}).content_hash()
    others = [
        Document(id="d", text="t2", metadata={"a": 1, "b": 2}),
        Document(id="d", text="t", metadata={"a": 1}),
        Document(id="d", text="t", metadata={"a": 1, "b": 2}, groups=("x",)),
        Document(id="d", text="t", metadata={"a": 1, "b": 2}, lang="en"),
    ]
    assert len({first.content_hash(), *(d.content_hash() for d in others)}) == 5


def test_a_queued_answer_says_what_was_asked() -> None:
    answer = Answer.queued(JOB)
    assert (answer.state, answer.question, answer.evidence) == (AnswerState.QUEUED, JOB.question, JOB.evidence)


def test_final_states() -> None:
    assert [state for state in AnswerState if not state.final] == [AnswerState.QUEUED, AnswerState.RUNNING]


@pytest.mark.parametrize("error", list(all_errors().values()), ids=lambda e: e.code)
def test_every_error_comes_back_from_json_as_itself(error: type[CitewellError]) -> None:
    sent = error("what happened", remedy="what to do", detail={"n": 1})
    back = from_json(sent.to_json(), sent.status)
    assert type(back) is error
    assert (back.message, back.remedy, back.detail) == ("what happened", "what to do", {"n": 1})
    assert 400 <= error.status < 600
    assert error("x").remedy, "every error has a remedy"


def test_codes_are_unique() -> None:
    def tree(cls: type[CitewellError]) -> list[type[CitewellError]]:
        return [cls, *(found for sub in cls.__subclasses__() for found in tree(sub))]

    codes = [cls.code for cls in tree(CitewellError) if cls.__module__ == "citewell.errors"]
    assert sorted(codes) == sorted(set(codes))


def test_an_error_of_a_newer_service_becomes_the_nearest() -> None:
    body = {"error": {"code": "brand_new", "message": "m", "remedy": "r"}}
    assert isinstance(from_json(body, 422), BadInput)
    assert from_json("<html>", 502).status == 503
    assert not isinstance(from_json(body, 404), UnknownAnswer)
