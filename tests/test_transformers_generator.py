"""The `transformers` generator on real weights: small models that the test builds and trains itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from citewell.catalogue import TransformersTable
from citewell.cite import cite
from citewell.config import Settings
from citewell.errors import ConfigError
from citewell.generate.transformers import TransformersGenerator
from citewell.prompt import PACKAGED, PROMPT_VERSION, Template, Wording
from citewell.records import Job, Question
from tests import tiny_models


@pytest.fixture(scope="module", params=["causal", "seq2seq"])
def generator(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TransformersGenerator]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    build = tiny_models.build_causal if request.param == "causal" else tiny_models.build_seq2seq
    table = TransformersTable(kind="transformers", model=str(build(folder)))
    built = TransformersGenerator(Settings(device="cpu", max_new_tokens=40), "tiny", table)
    built.load()
    yield built
    built.close()


def unloaded_generator(model: str) -> TransformersGenerator:
    table = TransformersTable(kind="transformers", model=model)
    return TransformersGenerator(Settings(device="cpu", max_new_tokens=40), "tiny", table)


def job(question: str, answer_id: str = "a") -> Job:
    return Job(answer_id=answer_id, question=Question(text=question, lang="en"), evidence=tiny_models.EVIDENCE)


@pytest.mark.parametrize("question", list(tiny_models.LESSONS))
def test_it_answers_in_pieces_and_the_citation_holds(generator: TransformersGenerator, question: str) -> None:
    pieces = list(generator.generate([job(question)], lambda _: False))
    text = "".join(piece.text for piece in pieces)
    assert text == tiny_models.LESSONS[question]
    assert len(pieces) > 3, "the text came in one piece"
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    counted = pieces[-1].tokens
    assert counted is not None
    assert counted.read == len(generator._prompt(job(question)))
    assert len(pieces) - 1 <= counted.written <= len(text)
    draft = cite(text, tiny_models.EVIDENCE, "en")
    assert [c.quote for c in draft.citations] == [text.removesuffix(" [1]")]
    assert all(sentence.supported for sentence in draft.sentences)


def test_equal_jobs_give_equal_answers(generator: TransformersGenerator) -> None:
    question = next(iter(tiny_models.LESSONS))
    first, second = ("".join(p.text for p in generator.generate([job(question)], lambda _: False)) for _ in range(2))
    assert first == second


def test_it_says_what_it_is_before_and_after_it_is_loaded(generator: TransformersGenerator, tmp_path: Path) -> None:
    card = generator.describe()
    assert (card.prompt, card.seed) == (PROMPT_VERSION, None)
    assert card.sampling["method"] == "greedy"
    unloaded = unloaded_generator(generator.info()["model"])
    assert unloaded.describe() == card
    copied = shutil.copytree(generator.info()["model"], tmp_path / "copy")
    moved = unloaded_generator(str(copied))
    assert moved.describe().revision == card.revision
    (copied / "config.json").write_text((copied / "config.json").read_text("utf-8") + " ", "utf-8")
    changed = unloaded_generator(str(copied))
    assert changed.describe().revision not in ("", card.revision)


def test_wordings_of_one_s_own_reach_the_model_and_must_fit_it(generator: TransformersGenerator) -> None:
    def worded(instruction: str) -> TransformersGenerator:
        own = Wording(instruction, "{abstention}", "Customer")
        table = TransformersTable(kind="transformers", model=generator.info()["model"])
        settings = Settings(device="cpu", max_new_tokens=40)
        return TransformersGenerator(settings, "tiny", table, Template("own-1", {**PACKAGED.wordings, "en": own}))

    desk = worded("As our help desk would: {abstention}")
    desk.load()
    tokens = desk._prompt(job(next(iter(tiny_models.LESSONS))))
    text = desk._tokenizer.decode(tokens)
    assert f"As our help desk would: {PACKAGED.instruction('en', closed_book=False)[-42:]}" in text
    assert "Customer: When does the shop open?" in text and "</passage 1>" in text
    assert desk.describe().prompt == desk.info()["prompt"] == "own-1"
    desk.close()
    long = worded("As our help desk would. " * 200 + "{abstention}")
    if generator._model.config.is_encoder_decoder:
        return  # its positions have no end
    with pytest.raises(ConfigError, match="leaves 0 for evidence beside the answer"):
        long.load()


def test_cancel_stops_at_the_next_step_and_the_answer_is_not_completed(generator: TransformersGenerator) -> None:
    asked: list[str] = []

    def cancelled(answer_id: str) -> bool:
        asked.append(answer_id)
        return len(asked) >= 3

    pieces = list(generator.generate([job(next(iter(tiny_models.LESSONS)))], cancelled))
    assert not any(piece.last for piece in pieces)
    assert len(asked) <= 4, "the model went on after it was cancelled"


def test_several_jobs_each_get_their_own_text(generator: TransformersGenerator) -> None:
    jobs = [job(question, str(number)) for number, question in enumerate(tiny_models.LESSONS)]
    texts = {j.answer_id: "" for j in jobs}
    for piece in generator.generate(jobs, lambda _: False):
        texts[piece.answer_id] += piece.text
    assert list(texts.values()) == list(tiny_models.LESSONS.values())


def test_a_reader_who_leaves_early_stops_the_model(generator: TransformersGenerator) -> None:
    stream = generator.generate([job(next(iter(tiny_models.LESSONS)))], lambda _: False)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    again = "".join(p.text for p in generator.generate([job(next(iter(tiny_models.LESSONS)))], lambda _: False))
    assert again == next(iter(tiny_models.LESSONS.values()))


def test_a_model_that_is_not_here_is_named_with_a_remedy(tmp_path: Path) -> None:
    table = TransformersTable(kind="transformers", model=str(tmp_path / "absent"))
    absent = TransformersGenerator(Settings(), "tiny", table)
    with pytest.raises(ConfigError, match=r"generators\.tiny\.model") as caught:
        absent.load()
    assert "folder" in caught.value.remedy
