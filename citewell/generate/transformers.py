"""Answers by a language model: any causal or sequence-to-sequence Hugging Face model, batched, streamed.

Tasks hand their job to the one engine of the process and wait for its tokens; the engine writes all answers together.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from citewell import metrics
from citewell.catalogue import TransformersTable
from citewell.config import Settings
from citewell.embed.sentence import weights_hash
from citewell.errors import CitewellError, GenerationFailed
from citewell.generate.batching import Engine, StepEngine, Told, Writing
from citewell.generate.continuous import LibraryEngine
from citewell.generate.decoding import Choice, ModelDecoder
from citewell.generate.weights import evidence_room, open_model
from citewell.ports import GeneratorCard
from citewell.prompt import PACKAGED, Template, longer, messages
from citewell.records import Job, Piece, Tokens

# A step of the model that takes longer than this is a hang, not a slow machine.
_STEP_TIMEOUT_S = 600.0
_LEAST_BUDGET = 16


class TransformersGenerator:
    """One model with its tokenizer. Equal jobs give equal answers: decoding is greedy, or drawn with a seed.

    Models are looked for in folders and in the local cache alone, unless HF_HUB_OFFLINE=0 is set.
    """

    def __init__(self, settings: Settings, name: str, table: TransformersTable, template: Template = PACKAGED) -> None:
        self._called = name
        self._table = table
        self._template = template
        self._settings = settings
        self._max_new_tokens = table.max_new_tokens or settings.max_new_tokens
        self._model: Any = None
        self._tokenizer: Any = None
        self._engine: Engine | None = None
        self._revision = ""
        self._loading = threading.Lock()

    def load(self) -> None:
        """Read tokenizer and weights; raises `ConfigError` when the model is not here or does not fit."""
        with self._loading:
            if self._engine is None:
                self._tokenizer, self._model = open_model(self._called, self._table, self._settings, self._template)
                self.describe()  # reads the weights once more, which an answer should not wait for
                self._engine = self._started()

    def _started(self) -> Engine:
        table, model = self._table, self._model
        told = model.generation_config.eos_token_id
        ends = tuple(told) if isinstance(told, list) else (told,) if told is not None else ()
        if not ends and self._tokenizer.eos_token_id is not None:
            ends = (self._tokenizer.eos_token_id,)
        suits = not model.config.is_encoder_decoder and not table.temperature
        cuda = model.device.type == "cuda"
        if table.batching == "library" or (table.batching == "auto" and cuda and suits):
            return LibraryEngine(model, ends, self._max_new_tokens, table.batch)
        decoder = ModelDecoder(model, ends, self._tokenizer.pad_token_id or 0, Choice(table.temperature, table.top_p))
        return StepEngine(decoder, table.batch)

    def close(self) -> None:
        """Answers that are being written end without being complete."""
        with self._loading:
            if self._engine is not None:
                self._engine.close()
            self._model = self._tokenizer = self._engine = None

    def info(self) -> dict[str, Any]:
        return {
            "name": self._called,
            "model": self._table.model,
            "loaded": self._model is not None,
            "prompt": self._template.version,
        }

    def describe(self) -> GeneratorCard:
        """`revision` is a hash of the model's files, or the commit of a model from the hub's cache."""
        table = self._table
        if not self._revision and (folder := Path(table.model)).is_dir():
            adapter = weights_hash(Path(table.adapter)) if table.adapter and Path(table.adapter).is_dir() else ""
            whole = weights_hash(folder)
            self._revision = (hashlib.sha256((whole + adapter).encode()).hexdigest() if adapter else whole)[:16]
        elif not self._revision and self._model is not None:
            self._revision = str(getattr(self._model.config, "_commit_hash", "") or "")[:16]
        limits = {"max_new_tokens": self._max_new_tokens, "evidence_tokens": self._settings.evidence_tokens}
        drawn = {"method": "sample", "temperature": table.temperature, "top_p": table.top_p}
        sampling = (drawn if table.temperature else {"method": "greedy"}) | limits
        if table.quantization:
            sampling["quantization"] = table.quantization
        return GeneratorCard(
            self._called,
            "transformers",
            model=table.model,
            revision=self._revision,
            prompt=self._template.version,
            wordings=self._template.hashes,
            sampling=sampling,
            seed=table.seed if table.temperature else None,
        )

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """Pieces of a few characters, as the model makes them, of all jobs at once."""
        self.load()
        engine = self._engine
        assert engine is not None
        told: SimpleQueue[Told] = SimpleQueue()
        writings = [self._writing(job, cancelled, told) for job in jobs]
        texts = {id(writing): _Text(self._tokenizer) for writing in writings}
        try:
            for writing in writings:
                engine.submit(writing)
            left = len(writings)
            while left:
                writing, what = _next(told)
                if isinstance(what, int):
                    if text := texts[id(writing)].add(what):
                        yield Piece(answer_id=writing.answer_id, text=text)
                    continue
                if what is not None:
                    raise self._failed(what) from what
                left -= 1
                if writing.complete:
                    metrics.tokens(self._called, len(writing.tokens))
                    counted = Tokens(read=len(writing.prompt), written=len(writing.tokens))
                    rest = texts[id(writing)].rest()
                    yield Piece(answer_id=writing.answer_id, text=rest, last=True, tokens=counted)
        finally:
            for writing in writings:
                writing.abandoned = True

    def _failed(self, error: Exception) -> CitewellError:
        if isinstance(error, CitewellError):
            return error
        return GenerationFailed(f"the model `{self._table.model}` failed: {type(error).__name__}: {error}")

    def _writing(self, job: Job, cancelled: Callable[[str], bool], told: SimpleQueue[Told]) -> Writing:
        writing = Writing(job.answer_id, self._prompt(job), self._max_new_tokens, cancelled, told)
        if self._table.temperature:
            import torch

            writing.chance = torch.Generator().manual_seed(self._table.seed)
        return writing

    def _prompt(self, job: Job) -> list[int]:
        """The prompt's tokens: by the chat template, or as plain text where there is none."""
        taken = longer(self._template, job.question.lang, self._count)
        room = evidence_room(self._model.config, self._max_new_tokens) - taken
        budget = max(min(self._settings.evidence_tokens, room), _LEAST_BUDGET)
        chat = messages(job.question, job.evidence, budget=budget, count=self._count, template=self._template)
        return prompt_tokens(self._tokenizer, chat, self._table.chat_template == "model")

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def prompt_tokens(tokenizer: Any, chat: list[dict[str, str]], templated: bool = True) -> list[int]:
    """Messages as a model reads them: by its tokenizer's chat template, or as plain text where there is none."""
    if tokenizer.chat_template and templated:
        found: Any = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
    else:
        found = tokenizer("\n\n".join(m["content"] for m in chat) + "\n\n")
    return list(found["input_ids"])


class _Text:
    """Tokens to text, bit by bit: a character that several tokens make comes when it is whole."""

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self._stream = DecodeStream(skip_special_tokens=True)
        self._tokens: list[int] = []
        self._told = ""

    def add(self, token: int) -> str:
        if self._fast is not None:
            return str(self._stream.step(self._fast, token) or "")
        self._tokens.append(token)
        whole = str(self._tokenizer.decode(self._tokens, skip_special_tokens=True))
        return "" if whole.endswith("\ufffd") else self._since(whole)

    def rest(self) -> str:
        """What a tokenizer without a stream still holds back at the end."""
        if self._fast is not None:
            return ""
        return self._since(str(self._tokenizer.decode(self._tokens, skip_special_tokens=True)))

    def _since(self, whole: str) -> str:
        new, self._told = whole[len(self._told) :], whole
        return new


def _next(told: SimpleQueue[Told]) -> Told:
    try:
        return told.get(timeout=_STEP_TIMEOUT_S)
    except Empty:
        raise GenerationFailed(f"the model took no step for {_STEP_TIMEOUT_S:g} seconds") from None
