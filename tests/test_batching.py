"""Answers are written together, and come out as if each had been written alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from citewell.catalogue import TransformersTable
from citewell.config import Settings
from citewell.errors import ConfigError, GenerationFailed, MissingDependency
from citewell.generate.batching import StepEngine, Told, Writing
from citewell.generate.transformers import TransformersGenerator
from citewell.records import Evidence, Hit, Job, Passage, Question
from tests import tiny_models

WORDS = ["When does the shop open?", "When?", "On Fridays, when does the shop close, and when does it open again?"]


def generator(model: Path, tokens: int = 24, **options: Any) -> TransformersGenerator:
    table = TransformersTable(kind="transformers", model=str(model), dtype="float32", **options)
    return TransformersGenerator(Settings(device="cpu", max_new_tokens=tokens), "tiny", table)


def job(number: int) -> Job:
    """Jobs of different lengths."""
    passage = Passage(
        id="d#0", doc_id="d", ordinal=0, start=0, end=1, text="It opens at nine. " * (1 + 5 * (number % 4))
    )
    evidence = Evidence(hits=(Hit(passage=passage, rank=1, score=1.0),), lang="en")
    text = f"{number} {WORDS[number % len(WORDS)]}"
    return Job(answer_id=str(number), question=Question(text=text, lang="en"), evidence=evidence)


def text_of(writer: TransformersGenerator, number: int) -> str:
    pieces = list(writer.generate([job(number)], lambda _: False))
    assert pieces[-1].last
    return "".join(piece.text for piece in pieces)


def library_says(model: Path, writer: TransformersGenerator, number: int, tokens: int = 24) -> str:
    """The same prompt through the library's own `generate`, alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    loaded: Any = (AutoModelForSeq2SeqLM if "t5" in model.name else AutoModelForCausalLM).from_pretrained(model)
    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    prompt = torch.tensor([writer._prompt(job(number))])
    mask = torch.ones_like(prompt)
    ids = loaded.generate(input_ids=prompt, attention_mask=mask, max_new_tokens=tokens, do_sample=False)[0].tolist()
    text = str(tokenizer.decode(ids[0 if "t5" in model.name else prompt.shape[1] :], skip_special_tokens=True))
    return text.rstrip("\ufffd")  # half a character, where the last token is one


@pytest.fixture(scope="module", params=["llama", "gpt2", "mistral", "t5"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_chance(tmp_path_factory.mktemp(request.param) / request.param, request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_chance(tmp_path_factory.mktemp("llama"))


def test_together_is_as_alone_and_as_the_library_says(model: Path) -> None:
    writer = generator(model, batch=4)
    alone = [text_of(writer, number) for number in range(10)]
    assert len(set(alone)) > 3, "the jobs differ"
    assert alone[:3] == [library_says(model, writer, number) for number in range(3)]

    def later(number: int) -> str:
        time.sleep(0.03 * (number % 5))  # some come while others are written
        return text_of(writer, number)

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(later, range(10))) == alone
    texts = {str(number): "" for number in range(10)}
    for piece in writer.generate([job(number) for number in range(10)], lambda _: False):
        texts[piece.answer_id] += piece.text
    assert list(texts.values()) == alone
    writer.close()


def test_the_librarys_batching_says_the_same(llama: Path) -> None:
    """The path that CUDA takes, on a CPU."""
    plain, library = generator(llama), generator(llama, batching="library")
    expected = [text_of(plain, number) for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda number: text_of(library, number), range(6))) == expected
    stopping = threading.Event()
    stream = library.generate([job(0)], lambda _: stopping.is_set())
    next(stream)
    stopping.set()
    assert not any(piece.last for piece in stream)
    assert text_of(library, 1) == expected[1]
    plain.close()
    library.close()


def test_drawn_tokens_depend_on_the_seed_and_not_on_the_neighbours(llama: Path) -> None:
    options: dict[str, Any] = {"temperature": 1.5, "top_p": 0.9}
    writer, other = generator(llama, seed=7, **options), generator(llama, seed=8, **options)
    alone = [text_of(writer, number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: text_of(writer, number), range(4))) == alone
    assert [text_of(other, number) for number in range(4)] != alone
    assert (writer.describe().seed, writer.describe().sampling["method"]) == (7, "sample")
    writer.close()
    other.close()


def test_one_that_is_cancelled_leaves_and_the_others_go_on(llama: Path) -> None:
    writer = generator(llama, tokens=60)
    alone = text_of(writer, 1)
    asked = 0

    def cancelled(answer_id: str) -> bool:
        nonlocal asked
        asked += answer_id == "0"
        return answer_id == "0" and asked > 5

    pieces = list(writer.generate([job(0), job(1)], cancelled))
    assert "".join(piece.text for piece in pieces if piece.answer_id == "1") == alone
    assert [piece.answer_id for piece in pieces if piece.last] == ["1"]
    assert asked == 6, "it was asked again after it had said so"
    writer.close()


class Counting:
    """A decoder without a model: sequence n writes n, n+1, …; `broken` are the answers whose step fails."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.sizes: list[int] = []

    def start(self, writings: list[Writing]) -> Any:
        group = _Group(list(writings))
        self.step(group)
        return group

    def join(self, groups: list[Any]) -> list[Any]:
        return groups

    def step(self, group: Any) -> None:
        self.sizes.append(len(group.writings))
        time.sleep(0.002)
        for writing in group.writings:
            if writing.answer_id == self.broken and len(writing.tokens) == 3:
                raise ValueError("no memory left")
            writing.add(len(writing.tokens), ())


class _Group:
    def __init__(self, writings: list[Writing]) -> None:
        self.writings = writings


def handed_in(engine: StepEngine, answer_id: str, limit: int, stopped: Any = lambda _: False) -> SimpleQueue[Told]:
    told: SimpleQueue[Told] = SimpleQueue()
    engine.submit(Writing(answer_id, [1], limit, stopped, told))
    return told


def outcome(told: SimpleQueue[Told]) -> tuple[Writing, Any]:
    while True:
        writing, what = told.get(timeout=20)
        if not isinstance(what, int):
            return writing, what


@pytest.fixture
def engine() -> Iterator[StepEngine]:
    engine = StepEngine(Counting("bad"), 3)
    yield engine
    engine.close()


def test_an_error_is_that_of_its_group_and_the_engine_lives_on(engine: StepEngine) -> None:
    good = handed_in(engine, "good", 200)
    assert good.get(timeout=20)[1] == 0  # it is written, so the next is another group
    assert str(outcome(handed_in(engine, "bad", 10))[1]) == "no memory left"
    writing, error = outcome(good)
    assert (writing.complete, len(writing.tokens), error) == (True, 200, None)
    assert outcome(handed_in(engine, "next", 5))[0].complete


def test_no_more_than_its_places_and_nobody_is_left_out(engine: StepEngine) -> None:
    told = [handed_in(engine, str(number), 4 + number % 3) for number in range(12)]
    assert all(outcome(one)[0].complete for one in told)
    stopped = [handed_in(engine, str(number), 5, lambda _: True) for number in range(3)]
    assert [outcome(one)[0].complete for one in stopped] == [False] * 3


def test_closing_ends_what_is_written_and_what_waits() -> None:
    engine = StepEngine(Counting(), 1)
    running, waiting = handed_in(engine, "a", 100_000), handed_in(engine, "b", 5)
    running.get(timeout=20)
    engine.close()
    assert [outcome(one)[0].complete for one in (running, waiting)] == [False, False]


def test_a_model_that_fails_is_named(llama: Path) -> None:
    writer = generator(llama)
    writer.load()
    writer._model.forward = None
    with pytest.raises(GenerationFailed, match="failed: TypeError"):
        text_of(writer, 0)
    writer.close()


# What fits


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    import shutil

    broken = tiny_models.build_chance(tmp_path / "short", max_position_embeddings=300, vocab_size=400)
    shutil.rmtree(tmp_path / "adapter", ignore_errors=True)
    (broken / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError) as caught:
        generator(broken, adapter=str(tmp_path / "adapter")).load()
    for said in ("tokens, the model knows 400", "context of 300 tokens", "no chat template", "no LoRA adapter"):
        assert said in caught.value.message
    assert "[generators.tiny]" in caught.value.remedy


def test_weights_that_do_not_fit_are_told_before_they_are_read(tmp_path: Path, llama: Path) -> None:
    import json
    import shutil

    huge = Path(shutil.copytree(llama, tmp_path / "huge"))
    config = json.loads((huge / "config.json").read_text("utf-8"))
    config |= {"hidden_size": 65536, "intermediate_size": 524_288, "num_hidden_layers": 80, "head_dim": 16384}
    (huge / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ConfigError, match=r"its weights take \d+\.\d GB, and cpu has"):
        generator(huge).load()


def test_plain_text_is_read_where_the_table_says_so(tmp_path: Path) -> None:
    plain = tiny_models.build_chance(tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="chat_template"):
        generator(plain).load()
    writer = generator(plain, chat_template="none")
    assert text_of(writer, 0)
    writer.close()


def test_a_package_that_is_missing_is_named_with_its_installation(llama: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(MissingDependency, match="bitsandbytes") as caught:
        generator(llama, quantization="bitsandbytes-4bit").load()
    assert caught.value.remedy == "pip install bitsandbytes"


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft, of transformers
def test_an_adapter_changes_what_is_written(llama: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(llama), lora).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    plain, writer = generator(llama), generator(llama, adapter=str(tmp_path / "adapter"))
    written = text_of(writer, 0)
    assert written != text_of(plain, 0)
    prompt = torch.tensor([writer._prompt(job(0))])
    ids = adapted.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False)
    tokenizer: Any = AutoTokenizer.from_pretrained(llama)
    assert written == tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True)
    assert writer.describe().revision != plain.describe().revision
    plain.close()
    writer.close()


@pytest.mark.filterwarnings("ignore")  # bitsandbytes and transformers, of each other
@pytest.mark.parametrize(("kind", "kept", "near"), [("bitsandbytes-8bit", 1.0, 0.99), ("bitsandbytes-4bit", 0.5, 0.9)])
def test_bitsandbytes_works_without_a_gpu(llama: Path, kind: str, kept: float, near: float) -> None:
    """Its weights take a byte, or half of one, and the model expects nearly the same of the next token."""
    pytest.importorskip("bitsandbytes")
    import torch

    plain, small = generator(llama), generator(llama, quantization=kind)
    assert text_of(small, 0)
    plain.load()
    prompt = torch.tensor([plain._prompt(job(0))])
    with torch.inference_mode():
        expected, found = (writer._model(prompt).logits[0, -1].float() for writer in (plain, small))
    assert torch.cosine_similarity(expected, found, dim=0) > near
    weights = [writer._model.model.layers[0].mlp.up_proj.weight for writer in (plain, small)]
    assert weights[1].numel() * weights[1].element_size() == weights[0].numel() * kept
    plain.close()
    small.close()


@pytest.mark.filterwarnings("ignore")  # torchao and transformers, of each other
def test_quantised_weights_write_nearly_the_same(llama: Path) -> None:
    pytest.importorskip("torchao")
    plain, small = generator(llama), generator(llama, quantization="torchao-int8")
    assert text_of(small, 0)[:4] == text_of(plain, 0)[:4]
    layer = small._model.model.layers[0].mlp.up_proj.weight
    assert "Int8" in type(layer).__name__ or layer.dtype.itemsize == 1, type(layer)
    assert small.describe().sampling["quantization"] == "torchao-int8"
    plain.close()
    small.close()
