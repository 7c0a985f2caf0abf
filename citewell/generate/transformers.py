"""Answers by a language model: any causal or sequence-to-sequence Hugging Face model, streamed, on CPU or CUDA."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import structlog

from citewell.catalogue import TransformersTable
from citewell.config import Settings, stay_offline
from citewell.embed.sentence import weights_hash
from citewell.errors import ConfigError, GenerationFailed
from citewell.ports import GeneratorCard
from citewell.prompt import PROMPT_VERSION, messages
from citewell.records import Job, Piece

# Room that instruction, question and template take beside the evidence, in tokens.
_OVERHEAD = 256
# A step of the model that takes longer than this is a hang, not a slow machine.
_STEP_TIMEOUT_S = 600.0


class TransformersGenerator:
    """One model with its tokenizer. Decoding is greedy, so that equal jobs give equal answers.

    Models are looked for in folders and in the local cache alone, unless HF_HUB_OFFLINE=0 is set.
    """

    def __init__(self, settings: Settings, name: str, table: TransformersTable) -> None:
        self._called = name
        self._name = table.model
        self._device = settings.device
        self._max_new_tokens = table.max_new_tokens or settings.max_new_tokens
        self._budget = settings.evidence_tokens
        self._model: Any = None
        self._tokenizer: Any = None
        self._revision = ""
        # One answer at a time: two runs of `generate` on one device only slow each other down.
        self._turn = threading.Lock()
        self._loading = threading.Lock()

    def load(self) -> None:
        """Read tokenizer and weights; raises `ConfigError` when the model is not here or cannot generate."""
        with self._loading:
            if self._model is None:
                self._tokenizer, self._model = self._open()
                self.describe()  # reads the weights once more, which an answer should not wait for

    def _open(self) -> tuple[Any, Any]:
        stay_offline()
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        device = self._device if self._device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        try:
            config = AutoConfig.from_pretrained(self._name)
            family = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            tokenizer: Any = AutoTokenizer.from_pretrained(self._name)
            model: Any = family.from_pretrained(self._name, dtype="auto")
            model = model.to(device).eval()
        except Exception as error:  # the library raises many kinds for a model that is absent, broken or of no use here
            raise ConfigError(
                f"setting `generators.{self._called}.model`: `{self._name}` cannot be loaded: {error}",
                remedy="Name a folder with a causal or sequence-to-sequence model. Models are not downloaded unless "
                "HF_HUB_OFFLINE=0 is set.",
            ) from error
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        structlog.get_logger(__name__).info("model loaded", model=self._name, device=device)
        return tokenizer, model

    def close(self) -> None:
        self._model = self._tokenizer = None

    def info(self) -> dict[str, Any]:
        return {
            "name": self._called,
            "model": self._name,
            "loaded": self._model is not None,
            "prompt": PROMPT_VERSION,
        }

    def describe(self) -> GeneratorCard:
        """`revision` is a hash of the model's files, or the commit of a model from the hub's cache."""
        if not self._revision and (folder := Path(self._name)).is_dir():
            self._revision = weights_hash(folder)[:16]
        elif not self._revision and self._model is not None:
            self._revision = str(getattr(self._model.config, "_commit_hash", "") or "")[:16]
        limits = {"max_new_tokens": self._max_new_tokens, "evidence_tokens": self._budget}
        return GeneratorCard(
            self._called,
            "transformers",
            model=self._name,
            revision=self._revision,
            prompt=PROMPT_VERSION,
            sampling={"method": "greedy", **limits},
        )

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """Pieces of a few characters, as the model makes them; one job after the other."""
        self.load()
        for job in jobs:
            with self._turn:
                yield from self._stream(job, cancelled)

    def _stream(self, job: Job, cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        from transformers import TextIteratorStreamer

        inputs = self._inputs(job)
        causal = not self._model.config.is_encoder_decoder
        streamer = TextIteratorStreamer(
            self._tokenizer, skip_prompt=causal, timeout=_STEP_TIMEOUT_S, skip_special_tokens=True
        )
        run = _Run(self._model, inputs, streamer, lambda: cancelled(job.answer_id), self._max_new_tokens)
        with contextlib.closing(run):
            for text in streamer:
                if text:
                    yield Piece(answer_id=job.answer_id, text=text)
        if run.failure is not None:
            raise GenerationFailed(
                f"the model `{self._name}` failed: {type(run.failure).__name__}: {run.failure}"
            ) from run.failure
        if not cancelled(job.answer_id):
            yield Piece(answer_id=job.answer_id, last=True)

    def _inputs(self, job: Job) -> Any:
        """The prompt as tensors on the model's device: by the chat template, or as plain text where there is none."""
        chat = messages(job.question, job.evidence, budget=self._evidence_budget(), count=self._count)
        if self._tokenizer.chat_template:
            inputs = self._tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True
            )
        else:
            inputs = self._tokenizer("\n\n".join(m["content"] for m in chat) + "\n\n", return_tensors="pt")
        inputs.pop("token_type_ids", None)
        return inputs.to(self._model.device)

    def _count(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _evidence_budget(self) -> int:
        """Tokens of evidence that fit the model's context beside instruction, question and answer."""
        context = getattr(self._model.config, "max_position_embeddings", None)
        if not context:
            return self._budget
        return max(min(self._budget, int(context) - self._max_new_tokens - _OVERHEAD), 16)


class _Run:
    """`model.generate` in a thread of its own, because the library's streamer hands its text over between threads."""

    def __init__(
        self, model: Any, inputs: Any, streamer: Any, cancelled: Callable[[], bool], max_new_tokens: int
    ) -> None:
        self.failure: Exception | None = None
        self._abandoned = False
        self._cancelled = cancelled
        self._arguments = {"streamer": streamer, "max_new_tokens": max_new_tokens, "do_sample": False}
        self._thread = threading.Thread(target=self._generate, args=(model, inputs, streamer), name="generate")
        self._thread.start()

    def _generate(self, model: Any, inputs: Any, streamer: Any) -> None:
        import torch

        def stop(input_ids: Any, scores: Any, **_: Any) -> Any:
            ended = self._abandoned or self._cancelled()
            return torch.full((input_ids.shape[0],), ended, device=input_ids.device, dtype=torch.bool)

        try:
            with torch.inference_mode():
                model.generate(**inputs, **self._arguments, stopping_criteria=[stop])
        except Exception as error:  # noqa: BLE001 - handed to the reader of the stream, which raises it
            self.failure = error
            streamer.end()

    def close(self) -> None:
        """Stop at the model's next step and wait for it, also when the reader left the stream early."""
        self._abandoned = True
        self._thread.join()
