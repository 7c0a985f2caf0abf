"""Answers go with the documents that they quote: on LanceDB with SQLite, and on Elasticsearch with Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citewell.answers.redis import RedisAnswers
from citewell.answers.sqlite import SqliteAnswers
from citewell.config import Settings
from citewell.engine import Engine, Models
from citewell.errors import Conflict, StoreUnavailable, UnknownAnswer
from citewell.ingest.load import Loading
from citewell.jobs import InlineQueue
from citewell.ports import Answers
from citewell.quoting import Quoting, create_fresh, still_there
from citewell.records import Answer, Document, Evidence, Hit, Job, Outcome, Passage, Question
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.scripted import ScriptedGenerator


def made(settings: Settings) -> tuple[Engine, Answers]:
    embedder = HashingEmbedder()
    store: Answers = RedisAnswers(settings) if settings.stack == "served" else SqliteAnswers(settings)
    engine = Engine(
        settings,
        "all",
        models=Models(embedder, {"scripted": ScriptedGenerator()}),
        library=library(settings, embedder, quoting=Quoting(store)),
        store=store,
        make_queue=lambda engine: InlineQueue(engine.run, store.due, threads=2, poll_s=0.1),
    )
    return engine, store


@pytest.fixture(params=["embedded", "served"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    named: dict[str, Any] = {"stack": request.param, "data_dir": tmp_path / "data", "generator": "scripted"}
    if request.param == "served":
        named |= {name: request.getfixturevalue(name) for name in ("elasticsearch_url", "index_name")}
        named["redis_url"] = request.getfixturevalue("redis_db_url")
    return Settings.model_validate(named)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine, _ = made(settings)
    with engine:
        yield engine


def put(engine: Engine, **texts: str) -> dict[str, str]:
    documents = [Document(id=name, text=text, lang="en") for name, text in texts.items()]
    return {outcome.doc_id: outcome.status for outcome in engine.put(documents)}


def ask(engine: Engine, text: str, k: int = 1) -> Answer:
    found = engine.ask(Question(text=text, lang="en", k=k), wait_s=30)
    assert found.state == "done"
    return found


def gone(engine: Engine, *answers: Answer) -> list[bool]:
    found = []
    for answer in answers:
        try:
            engine.answer(answer.id)
            found.append(False)
        except UnknownAnswer:
            found.append(True)
    return found


def test_a_deleted_document_takes_its_answers_along(engine: Engine) -> None:
    put(engine, lamp="The lamp has a warranty of two years.", tent="The tent is green and large.")
    lamps = [ask(engine, "say: lamp warranty"), ask(engine, "say: lamp")]
    both = ask(engine, "say: lamp warranty, tent green", k=2)
    tent = ask(engine, "say: tent green")
    assert set(both.evidence.documents()) == {"lamp", "tent"}
    outcome = engine.delete(["lamp"])[0]
    assert outcome.receipt == {"passages_removed": 1, "passages_left": 0, "in_ledger": False, "answers_removed": 3}
    assert gone(engine, *lamps, both, tent) == [True, True, True, False]
    with pytest.raises(UnknownAnswer):
        engine.events(both.id)
    assert engine.delete(["tent"])[0].receipt["answers_removed"] == 1  # type: ignore[index]


def test_an_answer_that_is_being_written_is_stopped_and_removed(engine: Engine) -> None:
    put(engine, lamp="The lamp has a warranty of two years.")
    running = engine.submit(Question(text="sleep: 0.1; echo: 200; say: lamp warranty", lang="en"))
    assert running.evidence.documents() == ("lamp",)
    receipt = engine.delete(["lamp"])[0].receipt
    assert receipt is not None
    assert receipt["answers_removed"] == 1
    assert gone(engine, running) == [True]
    assert engine.runner.stop(grace_s=20), "its generator has stopped"
    assert gone(engine, running) == [True], "nothing brought it back"


def test_a_changed_document_takes_the_answers_whose_proof_is_gone(engine: Engine) -> None:
    put(engine, lamp="The lamp has a warranty of two years.", tent="The tent is green.")
    lamp, tent = ask(engine, "say: lamp warranty"), ask(engine, "say: tent green")
    assert put(engine, lamp="The lamp has a warranty of three years.", tent="The tent is green. It is large.") == {
        "lamp": "changed",
        "tent": "changed",
    }
    held = tent.evidence.hits[0].passage
    assert held.text == "The tent is green."
    assert gone(engine, lamp, tent) == [True, False], "the tent's passage still stands where it was quoted"
    assert ask(engine, "say: lamp warranty").evidence.hits[0].passage.text.endswith("three years.")


def test_documents_that_a_sync_deletes(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "source.jsonl"
    file.write_text('{"id": "lamp", "text": "The lamp is bright."}\n{"id": "tent", "text": "The tent is green."}\n')
    assert {outcome.status for outcome in engine.ingest([str(file)])} == {"added"}
    lamp, tent = ask(engine, "say: lamp bright"), ask(engine, "say: tent green")
    file.write_text('{"id": "lamp", "text": "The lamp is bright."}\n')
    outcomes = {o.doc_id: o for o in engine.ingest([str(file)], Loading(sync=True, max_delete="1"))}
    assert outcomes["tent"].status == "deleted"
    assert outcomes["tent"].receipt is not None
    assert outcomes["tent"].receipt["answers_removed"] == 1
    assert gone(engine, lamp, tent) == [False, True]


def test_the_role_that_loads_reaches_the_answers(engine: Engine, settings: Settings) -> None:
    """It has no store open until something goes."""
    put(engine, lamp="The lamp is bright.", tent="The tent is green.")
    lamp = ask(engine, "say: lamp bright")
    loader, store = made(settings)
    try:
        assert [o.status for o in loader.library.put([Document(id="new", text="New words.")], "api")] == ["added"]
        assert loader.library.delete(["lamp"])[0].receipt["answers_removed"] == 1  # type: ignore[index]
    finally:
        loader.library.close()
        store.close()
    assert gone(engine, lamp) == [True]


def test_a_store_that_is_away_stops_deletes_and_changes_before_they_happen(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    put(engine, lamp="The lamp is bright.")
    (tmp_path / "file").touch()
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0", "data_dir": tmp_path / "file" / "data"})
    store: Answers = RedisAnswers(away) if settings.stack == "served" else SqliteAnswers(away)
    cut_off = library(settings, HashingEmbedder(), quoting=Quoting(store))
    with pytest.raises(StoreUnavailable):
        cut_off.delete(["lamp"])
    with pytest.raises(StoreUnavailable):
        list(cut_off.put([Document(id="lamp", text="The lamp is dark.")], "api"))
    assert [o.status for o in cut_off.put([Document(id="new", text="New words.")], "api")] == ["added"]
    cut_off.close()
    store.close()
    assert engine.document("lamp").document == Document(id="lamp", text="The lamp is bright.", lang="en")


def test_what_a_killed_process_left_is_settled_by_the_next(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(engine, lamp="The lamp is bright.", tent="The tent is green.")
    lamp, tent = ask(engine, "say: lamp bright"), ask(engine, "say: tent green")
    # As a kill between the delete in the index and the look for answers leaves it, with an announcement of the other.
    engine.store.quotes().announce(["lamp", "tent"])
    engine.library.index().delete(["lamp"])
    engine.library.index().flush()
    assert gone(engine, lamp) == [False]
    assert engine.store.quotes().unsettled(60) == [], "somebody may be at it"
    monkeypatch.setattr("citewell.quoting._LEFT_AFTER_S", 0.0)
    Quoting(engine.store).catch_up(engine.library.index())
    assert gone(engine, lamp, tent) == [True, False]
    assert engine.store.quotes().unsettled(0) == []


def test_a_document_that_goes_while_its_question_is_asked(engine: Engine) -> None:
    """Deleted after the search and before the answer is stored: the question is searched again."""
    put(engine, lamp="The lamp is bright.", other="A lamp with another light.")
    searches = []
    question = Question(text="say: lamp bright", lang="en", k=1)

    def search() -> list[Job]:
        evidence = engine._retriever().gather(question)
        searches.append(evidence.documents())
        if len(searches) == 1:
            assert engine.delete(["lamp"])[0].status == "deleted"
        return [Job(answer_id="a", question=question, evidence=evidence, created_at=float(len(searches)))]

    ((_, answer),) = create_fresh(engine.store, search)
    assert searches == [("lamp",), ("other",)]
    assert answer.evidence.documents() == ("other",)
    assert engine.store.get("a").evidence.documents() == ("other",)


def test_documents_that_never_stand_still(engine: Engine) -> None:
    passage = Passage(id="d#0", doc_id="d", ordinal=0, start=0, end=1, text="x")
    evidence = Evidence(hits=(Hit(passage=passage, rank=1, score=1.0),))

    def search() -> list[Job]:
        engine.store.quotes().went(["d"])
        return [Job(answer_id="a", question=Question(text="q"), evidence=evidence, created_at=1.0)]

    with pytest.raises(Conflict, match="change faster"):
        create_fresh(engine.store, search)
    with pytest.raises(UnknownAnswer):
        engine.store.get("a")


def test_no_answer_outlives_its_document_whoever_is_first(engine: Engine) -> None:
    """Questions and deletes at the same moments: afterwards no record holds a document that is not there."""
    names = [f"d{n}" for n in range(12)]
    put(engine, **{name: f"The lamp {name} is bright." for name in names})
    answers: list[Answer] = []
    errors: list[Exception] = []
    over = threading.Event()

    def questions() -> None:
        try:
            while not over.is_set():
                answers.append(engine.submit(Question(text="say: lamp bright", lang="en", k=4)))
        except Exception as error:  # noqa: BLE001 - the test reads it
            errors.append(error)

    threads = [threading.Thread(target=questions) for _ in range(3)]
    for thread in threads:
        thread.start()
    outcomes: list[Outcome] = []
    for name in names[:10]:
        outcomes += engine.delete([name])
    over.set()
    for thread in threads:
        thread.join(60)
    assert not [error for error in errors if not isinstance(error, Conflict)]
    assert {outcome.status for outcome in outcomes} == {"deleted"}
    assert len(answers) > 5
    for answer in answers:
        try:
            left = engine.store.get(answer.id)
        except UnknownAnswer:
            continue
        assert set(left.evidence.documents()) <= set(names[10:]), "it holds a deleted document"


def test_departures_that_are_too_old_to_remember(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("redis_quotes", "sqlite_quotes"):
        monkeypatch.setattr(f"citewell.answers.{module}.REMEMBERED", 3)
    quotes = engine.store.quotes()
    start = quotes.went()
    first = quotes.went(["a", "b"])
    assert first > start
    assert quotes.went() == first
    assert (quotes.gone(["a"], start), quotes.gone(["a"], first), quotes.gone(["z"], start)) == (True, False, False)
    last = quotes.went(["c", "d"])
    assert quotes.gone(["z"], start), "what went then is forgotten, so anything may have"
    assert not quotes.gone(["z"], last)
    assert quotes.gone(["d"], first)


def test_what_counts_as_still_there() -> None:
    passage = Passage(id="d#0", doc_id="d", ordinal=0, start=4, end=9, text="words", groups=("staff",))
    held = Evidence(hits=(Hit(passage=passage, rank=1, score=1.0),))
    document = Document(id="d", text="The words.", groups=("staff",))
    assert still_there(held, "d", document)
    assert still_there(held, "another", Document(id="another", text="x"))
    assert not still_there(held, "d", None)
    assert not still_there(held, "d", document.model_copy(update={"text": "Ten words."[:4] + "other"}))
    assert not still_there(held, "d", document.model_copy(update={"text": "Oh, the words."}))
    assert not still_there(held, "d", document.model_copy(update={"groups": ("board",)}))
    assert held.visible(None)
    assert held.visible(("staff", "x"))
    assert not held.visible(())
