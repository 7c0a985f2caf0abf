"""The catalogue of generators: what the settings may say, and what of it a process takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from citewell import parts
from citewell.answers.sqlite import SqliteAnswers
from citewell.catalogue import TransformersTable
from citewell.config import Settings, load_settings
from citewell.engine import Engine, Models
from citewell.errors import BadInput, ConfigError, UnknownGenerator
from citewell.jobs import InlineQueue
from citewell.ports import Vectors
from citewell.records import Question
from tests.hashing import HashingEmbedder
from tests.libraries import library
from tests.service.small import small_engine


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No setting of this machine is seen; the settings file is this one."""
    import os

    for name in [n for n in os.environ if n.upper().startswith("CITEWELL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "citewell.toml"


def test_extractive_is_always_there_and_tables_join_it(file: Path) -> None:
    assert list(load_settings().catalogue()) == ["extractive"]
    file.write_text('[generators.llama]\nkind = "transformers"\nmodel = "/m"\nmax_new_tokens = 9\n')
    settings = load_settings()
    assert list(settings.catalogue()) == ["extractive", "llama"]
    assert settings.catalogue()["llama"] == TransformersTable(kind="transformers", model="/m", max_new_tokens=9)
    assert list(parts.generators(settings, HashingEmbedder())) == ["extractive", "llama"]


def test_the_environment_has_it_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CITEWELL_GENERATORS", '{"llama": {"kind": "transformers", "model": "/m"}}')
    assert load_settings().catalogue()["llama"].model == "/m"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[generators.llama]\nkind = "transformers"\n', r"generators\.llama\.transformers\.model"),
        ('[generators.llama]\nkind = "gpt"\n', "'extractive', 'transformers', 'openai', 'rag'"),
        ('[generators.llama]\nkind = "transformers"\nmodel = "m"\ntemprature = 1\n', "temprature"),
        ('[generators."a b"]\nkind = "transformers"\nmodel = "m"\n', "a b"),
        ('[generators.extractive]\nkind = "transformers"\nmodel = "m"\n', "another name"),
    ],
)
def test_a_wrong_table_is_named(file: Path, table: str, said: str) -> None:
    file.write_text(table)
    with pytest.raises(ConfigError, match=said):
        load_settings()


def test_the_setting_of_before_says_what_took_its_place(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.write_text('transformers_model = "/m"\n')
    with pytest.raises(ConfigError, match=r"no setting any more; write a table \[generators"):
        load_settings()
    file.unlink()
    monkeypatch.setenv("CITEWELL_TRANSFORMERS_MODEL", "/m")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "[generators.NAME]" in caught.value.remedy


def test_a_process_takes_those_that_it_is_told() -> None:
    settings = load_settings(generators={"llama": {"kind": "transformers", "model": "/m"}})
    assert list(parts.generators(settings, HashingEmbedder(), ["extractive"])) == ["extractive"]
    with pytest.raises(ConfigError, match="no generator `lama`"):
        parts.generators(settings, HashingEmbedder(), ["lama"])


def test_one_question_to_several_has_one_retrieval(tmp_path: Path) -> None:
    with small_engine(Settings(data_dir=tmp_path)) as engine:
        question = Question(text="say: scripted words")
        answers = engine.submit_each(question, ["scripted", "extractive"])
        found = [engine.answer(answer.id, 20) for answer in answers]
        assert [answer.generator for answer in found] == ["scripted", "extractive"]
        assert [answer.state for answer in found] == ["done", "done"]
        assert found[0].answer == "scripted words"
        assert found[0].evidence == found[1].evidence
        with pytest.raises(UnknownGenerator, match="nobody"):
            engine.submit_each(question, ["extractive", "nobody"])
        for wrong in ([], ["extractive", "extractive"]):
            with pytest.raises(BadInput, match="once"):
                engine.submit_each(question, wrong)


class Narrow(HashingEmbedder):
    """It gives other vectors than its card says."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return super().embed_queries(texts)[:, :3]


def test_all_that_does_not_fit_stops_the_start_at_once(tmp_path: Path) -> None:
    tables = {name: {"kind": "transformers", "model": str(tmp_path / name)} for name in ("absent", "gone")}
    settings = Settings.model_validate({"data_dir": tmp_path, "generators": tables, "generator": "absent"})
    embedder = Narrow()
    store = SqliteAnswers(settings)
    engine = Engine(
        settings,
        "all",
        models=Models(embedder, parts.generators(settings, embedder)),
        library=library(settings, embedder),
        store=store,
        make_queue=lambda engine: InlineQueue(engine.run, store.due, threads=1),
    )
    with pytest.raises(ConfigError) as caught:
        engine.load()
    for said in ("generators.absent.model", "vectors of shape (1, 3)"):
        assert said in caught.value.message
    assert "HF_HUB_OFFLINE" in caught.value.remedy
    engine.close()
