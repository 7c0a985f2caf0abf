"""What the versions of an index promise, on LanceDB and on a real Elasticsearch, kills of a migration included."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from citewell.config import Settings
from citewell.errors import BadInput, Conflict, FingerprintMismatch, UnknownVersion
from citewell.library import Library, fingerprint_of
from citewell.migrate import Progress
from citewell.ports import LegsQuery
from citewell.records import Document, Fingerprint
from tests.contracts.index_material import write
from tests.hashing import HashingEmbedder
from tests.libraries import access, library

OLD, NEW = "hashing", "hashing:new"
Opener = Callable[[str], Library]
ROOT = Path(__file__).resolve().parents[2]

# Migrates document by document and slowly, so that it can be killed midway; one line a document that was embedded.
MIGRATOR = """
import sys, time
from citewell import migrate
from citewell.config import Settings
from tests.hashing import HashingEmbedder
from tests.libraries import library

class Slow(HashingEmbedder):
    def embed_passages(self, texts):
        print(len(texts), flush=True)
        time.sleep(float(sys.argv[2]))
        return super().embed_passages(texts)

migrate.BATCH_DOCUMENTS = 1
settings = Settings.model_validate_json(sys.argv[1])
opened = library(settings, Slow(settings.embedder))
target, steps = opened.migrate(opened.fingerprint())
for step in steps:
    pass
opened.promote(target.name)
opened.close()
"""


@pytest.fixture(params=["embedded", "served"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The test's own place; `embedder` names a hashing embedder."""
    named = {"stack": request.param, "data_dir": tmp_path, "embedder": OLD}
    if request.param == "served":
        named |= {name: request.getfixturevalue(name) for name in ("elasticsearch_url", "index_name")}
    return Settings.model_validate(named)


@pytest.fixture
def opener(settings: Settings) -> Iterator[Opener]:
    """A library as a process of its own would have it, with the embedder of that name."""
    opened: list[Library] = []

    def start(embedder: str = OLD) -> Library:
        made = library(settings.model_copy(update={"embedder": embedder}), HashingEmbedder(embedder))
        opened.append(made)
        return made

    yield start
    for made in opened:
        made.close()


def texts(count: int, word: str = "lamp", start: int = 0) -> list[Document]:
    return [Document(id=f"d{n:03d}", text=f"The {word} number {n} is red.", lang="en") for n in range(start, count)]


def load(into: Library, documents: list[Document]) -> list[str]:
    return [outcome.status for outcome in into.put(documents, "test")]


def migrated(into: Library) -> tuple[str, Progress]:
    """The new version's name and how its building ended; it is current afterwards."""
    target, steps = into.migrate(into.fingerprint())
    last = list(steps)[-1]
    into.promote(target.name)
    return target.name, last


def found(within: Library, text: str, name: str) -> set[str]:
    """Documents among the nearest five, by the vectors of the embedder of that name."""
    vector = HashingEmbedder(name).embed_queries([text])
    legs = within.index().legs(LegsQuery(text, "en", vector, None, depth=5))
    return {key.rpartition("#")[0] for leg in legs.ranked.values() for key, _ in leg}


def roles(of: Library) -> dict[str, str]:
    return {version.name[-1]: version.role for version in of.versions().all()}


class TestMigration:
    def test_the_new_version_holds_everything_in_its_own_vectors(self, opener: Opener) -> None:
        load(opener(OLD), texts(7))
        new = opener(NEW)
        name, last = migrated(new)
        assert (last.copied, last.failed, last.settled) == (7, {}, True)
        assert roles(new) == {"1": "previous", "2": "current"}
        assert new.index().version == name
        assert new.index().info()["documents"] == 7
        assert "d003" in found(new, "the lamp number 3", NEW)
        assert new.behind(new.versions().all()) == [0, 0]

    def test_what_is_written_meanwhile_reaches_both(self, opener: Opener) -> None:
        service, migrator = opener(OLD), opener(NEW)
        load(service, texts(100))
        target, steps = migrator.migrate(migrator.fingerprint())
        assert next(steps).copied > 0
        assert load(service, [*texts(3, "kettle"), Document(id="late", text="A late tent.", lang="en")]) == [
            *["changed"] * 3,
            "added",
        ]
        service.delete(["d005", "d098"])
        assert list(steps)[-1].settled
        migrator.promote(target.name)
        entries = list(migrator.index().entries())
        assert [entry.doc_id for entry in entries] == [e.doc_id for e in service.index().entries()]
        assert {entry.content_hash for entry in entries} == {e.content_hash for e in service.index().entries()}
        assert "late" in found(migrator, "a late tent", NEW)
        assert "d001" in found(migrator, "kettle number 1", NEW)
        assert not {"d005", "d098"} & {entry.doc_id for entry in entries}

    def test_a_service_of_before_goes_on_after_the_swap(self, opener: Opener) -> None:
        """It searches the version of its own vectors, and what it writes and deletes reaches the new one, too."""
        service, migrator = opener(OLD), opener(NEW)
        load(service, texts(9))
        migrated(migrator)
        assert "d004" in found(service, "the lamp number 4", OLD)
        assert service.index().version.endswith("1")
        load(service, [Document(id="after", text="A tent after the swap.", lang="en")])
        service.delete(["d004"])
        assert "after" in found(migrator, "a tent after the swap", NEW)
        assert "d004" not in found(migrator, "the lamp number 4", NEW)
        again = opener(OLD)
        assert "after" in found(again, "a tent after the swap", OLD), "a restart finds its version again"

    def test_a_rollback_loses_nothing(self, opener: Opener) -> None:
        load(opener(OLD), texts(5))
        new = opener(NEW)
        migrated(new)
        load(new, [Document(id="newer", text="A newer kettle.", lang="en")])
        new.delete(["d000"])
        new.promote(new.previous().name)
        assert roles(new) == {"1": "current", "2": "previous"}
        old = opener(OLD)
        assert {entry.doc_id for entry in old.index().entries()} == {"d001", "d002", "d003", "d004", "newer"}
        assert "newer" in found(old, "a newer kettle", OLD)

    def test_a_version_that_cannot_be_followed_is_behind_and_catches_up(
        self, opener: Opener, settings: Settings
    ) -> None:
        load(opener(OLD), texts(4))
        new = opener(NEW)
        migrated(new)
        lacking = dataclasses.replace(access(settings), embedder=lambda _: HashingEmbedder("not on this machine"))
        service = Library(settings, HashingEmbedder(OLD), lacking)
        assert load(service, [Document(id="alone", text="A tent alone.", lang="en")]) == ["added"]
        service.close()
        first, second = new.versions().all()
        assert new.behind([second]) == [0]
        assert new.behind([first]) == [1], "the current version lacks it; the previous one does not"
        assert list(new.follow(first, second, delete=False))[-1].copied == 1
        assert "alone" in found(new, "a tent alone", NEW)

    def test_a_killed_migration_goes_on(self, opener: Opener, settings: Settings) -> None:
        load(opener(OLD), texts(12))
        made = settings.model_copy(update={"embedder": NEW}).model_dump_json()
        words = [sys.executable, "-c", MIGRATOR, made]
        process = subprocess.Popen([*words, "0.3"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(4):
            assert process.stdout.readline() == "1\n"
        process.kill()
        process.communicate()
        new = opener(NEW)
        assert roles(new) == {"1": "current", "2": "next"}
        with pytest.raises(FingerprintMismatch, match="is not finished"):
            new.index()
        again = subprocess.run([*words, "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
        assert 8 <= len(again.stdout.splitlines()) <= 9, "what was copied before the kill is not embedded again"
        assert new.index().info()["documents"] == 12

    def test_a_half_written_document_does_not_stop_it(self, opener: Opener) -> None:
        service = opener(OLD)
        load(service, texts(3))
        half = write("half", ["half"])
        index: Any = service.index()
        entry = half.entry.model_copy(update={"content_hash": ""})
        vectors = HashingEmbedder(OLD).embed_passages(["half"])
        index.put([dataclasses.replace(half, entry=entry, vectors=vectors)])
        index.flush()
        new = opener(NEW)
        assert migrated(new)[1].copied == 3
        assert new.index().ledger(["half"]) == {}
        assert load(opener(OLD), [Document(id="half", text="Now whole.", lang="en")]) == ["changed"]
        assert new.index().ledger(["half"])["half"].content_hash
        assert new.behind(new.versions().all()) == [0, 0]

    def test_a_document_that_does_not_go_in_is_named(self, opener: Opener) -> None:
        service, migrator = opener(OLD), opener(NEW)
        load(service, texts(2))
        bare = service.index().ledger(["d000"])["d000"]
        assert bare.document is None
        assert migrator.migrate(migrator.fingerprint())[0].role == "next"
        pipeline = migrator._shelf(migrator.versions().all()[1]).pipeline
        assert pipeline.copy([bare]) == {"d000": "its text is not in the ledger"}

    def test_searches_do_not_wait_for_another_version_s_model(self, opener: Opener, settings: Settings) -> None:
        load(opener(OLD), texts(3))
        new = opener(NEW)
        migrated(new)
        asked, go = threading.Event(), threading.Event()

        class Slow(HashingEmbedder):
            def load(self) -> None:
                asked.set()
                assert go.wait(30)

        service = Library(
            settings, HashingEmbedder(OLD), dataclasses.replace(access(settings), embedder=lambda _: Slow(NEW))
        )
        writer = threading.Thread(target=load, args=(service, [Document(id="w", text="A slow tent.", lang="en")]))
        writer.start()
        try:
            assert asked.wait(30)
            assert "d001" in found(service, "the lamp number 1", OLD)
        finally:
            go.set()
            writer.join()
            service.close()
        assert "w" in found(new, "a slow tent", NEW)


class TestRefusals:
    def test_the_same_settings_are_no_migration(self, opener: Opener) -> None:
        load(opener(OLD), texts(1))
        with pytest.raises(Conflict, match="with these settings already"):
            opener(OLD).migrate(opener(OLD).fingerprint())
        assert roles(opener(OLD)) == {"1": "current"}

    def test_nothing_to_migrate(self, opener: Opener) -> None:
        with pytest.raises(Conflict, match="there is no index"):
            opener(NEW).migrate(opener(NEW).fingerprint())

    def test_one_migration_at_a_time(self, opener: Opener) -> None:
        load(opener(OLD), texts(1))
        first = opener(NEW)
        target, _ = first.migrate(first.fingerprint())
        other = opener("hashing:other")
        with pytest.raises(Conflict) as refused:
            other.migrate(other.fingerprint())
        assert f"citewell index drop {target.name}" in refused.value.remedy
        first.versions().drop(target.name)
        assert migrated(other)[1].copied == 1

    def test_nothing_to_roll_back_to(self, opener: Opener) -> None:
        service = opener(OLD)
        load(service, texts(1))
        with pytest.raises(Conflict, match="roll back"):
            service.previous()

    def test_an_incomplete_version_is_not_promoted_unasked(self, opener: Opener) -> None:
        load(opener(OLD), texts(3))
        new = opener(NEW)
        name = new.versions().create(new.fingerprint()).name
        with pytest.raises(Conflict, match="does not have 3 documents"):
            new.promote(name)
        assert roles(new)["2"] == "next"
        new.promote(name, complete=False)
        assert roles(new) == {"1": "previous", "2": "current"}

    def test_the_current_version_is_not_dropped_and_names_are_checked(self, opener: Opener) -> None:
        service = opener(OLD)
        load(service, texts(1))
        name = service.index().version
        with pytest.raises(Conflict, match="is the current version"):
            service.versions().drop(name)
        with pytest.raises(Conflict, match="is the current version"):
            service.promote(name)
        for use in (service.versions().drop, service.promote):
            with pytest.raises(UnknownVersion, match="absent") as refused:
                use("absent")
            assert name in refused.value.remedy
        assert service.index().info()["documents"] == 1

    def test_a_dropped_version_is_gone(self, opener: Opener) -> None:
        load(opener(OLD), texts(2))
        new = opener(NEW)
        migrated(new)
        new.versions().drop(new.previous().name)
        assert roles(new) == {"2": "current"}
        with pytest.raises(FingerprintMismatch) as refused:
            opener(OLD).index()
        assert "`citewell index migrate`" in refused.value.remedy
        assert "differ in: embedder" in refused.value.message
        assert load(new, texts(3)) == ["unchanged", "unchanged", "added"]

    def test_a_third_version_retires_the_first(self, opener: Opener) -> None:
        load(opener(OLD), texts(2))
        migrated(opener(NEW))
        third = opener("hashing:third")
        migrated(third)
        assert roles(third) == {"1": "retired", "2": "previous", "3": "current"}
        load(third, texts(3))
        first = next(version for version in third.versions().all(counted=True) if version.role == "retired")
        assert first.documents == 2, "nothing is written to it any more"
        with pytest.raises(FingerprintMismatch):
            opener(OLD).index()


class TestBackups:
    @pytest.fixture
    def place(self, settings: Settings, tmp_path: Path) -> Iterator[str]:
        if settings.stack == "embedded":
            yield str(tmp_path / "backups" / "one")
            return
        name = f"repository-{time.monotonic_ns()}"
        address = f"{settings.elasticsearch_url}/_snapshot/{name}"
        httpx.put(address, json={"type": "fs", "settings": {"location": name}}).raise_for_status()
        yield f"{name}/one"
        httpx.delete(f"{address}/one")
        httpx.delete(address).raise_for_status()

    def test_a_restore_brings_back_what_was_there(self, opener: Opener, place: str) -> None:
        service = opener(OLD)
        load(service, texts(4))
        assert service.versions().backup(place) == place
        service.delete(["d001"])
        load(service, texts(1, "kettle"))
        made = service.versions().restore(place)
        assert made.role == "current"
        assert roles(service) == {"1": "retired", "2": "current"}
        again = opener(OLD)
        assert [entry.doc_id for entry in again.index().entries()] == ["d000", "d001", "d002", "d003"]
        assert "d000" in found(again, "the lamp number 0", OLD)
        assert load(again, texts(5)) == [*["unchanged"] * 4, "added"]

    def test_an_index_that_was_lost_comes_back(self, opener: Opener, place: str) -> None:
        service = opener(OLD)
        load(service, texts(2))
        service.versions().backup(place)
        service.remove()
        restorer = opener(OLD)
        assert restorer.versions().restore(place).role == "current"
        assert restorer.index().info()["documents"] == 2

    def test_a_bad_place_is_told(self, opener: Opener, settings: Settings, tmp_path: Path, place: str) -> None:
        service = opener(OLD)
        load(service, texts(1))
        service.versions().backup(place)
        with pytest.raises(BadInput):
            service.versions().backup(place)
        absent = str(tmp_path / "absent") if settings.stack == "embedded" else "absent/snapshot"
        with pytest.raises(BadInput, match="absent"):
            service.versions().restore(absent)
        if settings.stack == "served":
            with pytest.raises(BadInput, match="does not exist"):
                service.versions().restore(f"{place}-absent")
            with pytest.raises(BadInput, match="names no snapshot"):
                service.versions().backup("Bad/UPPER")
        assert roles(service) == {"1": "current"}


def test_the_recipe_travels_with_the_version(opener: Opener, settings: Settings) -> None:
    service = opener(OLD)
    load(service, texts(1))
    (version,) = service.versions().all()
    assert version.recipe["embedder"] == OLD
    again = settings.model_copy(update={"embedder": NEW, "passage_tokens": 99}).with_recipe(version.recipe)
    made: Fingerprint = fingerprint_of(again, HashingEmbedder(OLD).describe())
    assert made == version.fingerprint
