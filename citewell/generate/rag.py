"""Retrieval-augmented generation whose answer is marginalised over the passages: RAG-Token and RAG-Sequence.

Lewis et al., "Retrieval-Augmented Generation for Knowledge-Intensive NLP Tasks" (NeurIPS 2020), by the classes of
transformers, fed with Citewell's evidence and scores instead of an index of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from citewell import metrics
from citewell.catalogue import RagTable
from citewell.cite import abstention
from citewell.config import Settings, stay_offline
from citewell.device import chosen
from citewell.embed.sentence import weights_hash
from citewell.errors import CitewellError, ConfigError, GenerationFailed
from citewell.ports import GeneratorCard
from citewell.records import Evidence, Hit, Job, Piece, Tokens

# The version of what the model reads: title, text and question, with the model's own separators.
PROMPT_VERSION = "rag-1"


class RagGenerator:
    """One model that reads each passage with the question, one answer at a time; an answer comes whole."""

    def __init__(self, settings: Settings, name: str, table: RagTable) -> None:
        self._called = name
        self._table = table
        self._settings = settings
        self._limit = table.max_new_tokens or settings.max_new_tokens
        self._model: Any = None
        self._tokenizer: Any = None
        self._revision = ""
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read weights and the generator's tokenizer; raises `ConfigError`."""
        with self._lock:
            if self._model is None:
                self._tokenizer, self._model = self._open()
                self.describe()

    def _open(self) -> tuple[Any, Any]:
        stay_offline()
        import transformers

        library: Any = transformers
        name = self._table.model
        try:
            config = library.RagConfig.from_pretrained(name)
            kind = self._table.marginal
            if kind == "auto":
                kind = "sequence" if "RagSequenceForGeneration" in (config.architectures or ()) else "token"
            family = library.RagSequenceForGeneration if kind == "sequence" else library.RagTokenForGeneration
            folder = Path(name) / "generator_tokenizer"
            where = {"subfolder": "generator_tokenizer"} if not folder.is_dir() else {}
            tokenizer = library.AutoTokenizer.from_pretrained(folder if folder.is_dir() else name, **where)
            model = family.from_pretrained(name).to(chosen(self._settings.device)).eval()
        except Exception as error:  # the library raises many kinds for a model that is absent or broken
            raise ConfigError(
                f"setting `generators.{self._called}.model`: `{name}` cannot be loaded: {error}",
                remedy="Name a folder with a RAG model and its `generator_tokenizer`. Models are not downloaded unless "
                "HF_HUB_OFFLINE=0 is set.",
            ) from error
        rows = int(model.generator.get_input_embeddings().weight.shape[0])
        if len(tokenizer) > rows:
            raise ConfigError(
                f"the generator `{self._called}` does not fit: the tokenizer has {len(tokenizer)} tokens, the model "
                f"knows {rows}",
                remedy=f"Correct [generators.{self._called}].",
            )
        return tokenizer, model

    def close(self) -> None:
        with self._lock:
            self._model = self._tokenizer = None

    def info(self) -> dict[str, Any]:
        return {"name": self._called, "model": self._table.model, "loaded": self._model is not None}

    def describe(self) -> GeneratorCard:
        if not self._revision and (folder := Path(self._table.model)).is_dir():
            self._revision = weights_hash(folder)[:16]
        elif not self._revision and self._model is not None:
            self._revision = str(getattr(self._model.config, "_commit_hash", "") or "")[:16]
        sampling = {"method": "greedy", "max_new_tokens": self._limit, "marginal": self._table.marginal}
        return GeneratorCard(
            self._called,
            "rag",
            model=self._table.model,
            revision=self._revision,
            prompt=PROMPT_VERSION,
            sampling=sampling | {"score_scale": self._table.score_scale},
        )

    def generate(self, jobs: Sequence[Job], cancelled: Callable[[str], bool]) -> Iterator[Piece]:
        """One piece an answer. Its markers are not the model's: citations are found by what supports a sentence."""
        self.load()
        for job in jobs:
            if not job.evidence.hits:
                yield Piece(answer_id=job.answer_id, text=abstention(job.question.lang))
                yield Piece(answer_id=job.answer_id, last=True)
                continue
            with self._lock:
                written = self._write(job, lambda job=job: cancelled(job.answer_id))  # type: ignore[misc]
            if written is not None:
                text, tokens = written
                yield Piece(answer_id=job.answer_id, text=text)
                yield Piece(answer_id=job.answer_id, last=True, tokens=tokens)

    def _write(self, job: Job, cancelled: Callable[[], bool]) -> tuple[str, Tokens] | None:
        """The answer's text, and its tokens with those of all passages read; None when it was cancelled on the way."""
        import torch

        stopped = False

        def stop(ids: Any, _: Any, **__: Any) -> Any:
            nonlocal stopped
            stopped = stopped or cancelled()
            return torch.full((ids.shape[0],), stopped, device=ids.device, dtype=torch.bool)

        try:
            with torch.inference_mode():
                read = self._read(job, job.evidence.hits[: self._table.passages])
                ids = self._ids(job, read, stop)
        except CitewellError:
            raise
        except Exception as error:  # the library raises many kinds
            raise GenerationFailed(
                f"the model `{self._table.model}` failed: {type(error).__name__}: {error}"
            ) from error
        # Without the start, the end and what fills up a candidate of several.
        special = set(self._tokenizer.all_special_ids)
        counted = Tokens(
            read=int(read["attention_mask"].sum()), written=sum(token not in special for token in ids.tolist())
        )
        metrics.tokens(self._called, counted.written)
        return None if stopped else (str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip(), counted)

    def _ids(self, job: Job, read: Any, stop: Callable[..., Any]) -> Any:
        import torch

        count = read["input_ids"].shape[0]
        device = self._model.device
        scores = torch.tensor([document_scores(job.evidence, count, self._table.score_scale)], device=device)
        # `RagTokenForGeneration.generate` knows `max_length` alone, which counts the decoder's start, too.
        limits = {"max_length": self._limit + 1, "do_sample": False, "num_beams": 1, "stopping_criteria": [stop]}
        if type(self._model).__name__ == "RagTokenForGeneration":
            return self._model.generate(
                context_input_ids=read["input_ids"],
                context_attention_mask=read["attention_mask"],
                doc_scores=scores,
                n_docs=count,
                **limits,
            )[0]
        candidates = self._model.generator.generate(**read, **limits)
        return candidates[int(self._loss(read, scores, candidates).argmin())]

    def _read(self, job: Job, hits: Sequence[Hit]) -> Any:
        """What the model reads: each passage with the question, as the library's retriever puts them together."""
        config = self._model.config
        prefix = getattr(self._model.generator.config, "prefix", None) or ""
        texts = [
            f"{prefix}{hit.passage.title}{config.title_sep}{hit.passage.text}{config.doc_sep}{job.question.standalone}"
            for hit in hits
        ]
        read = self._tokenizer(
            texts, max_length=config.max_combined_length, padding=True, truncation=True, return_tensors="pt"
        ).to(self._model.device)
        return {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}

    def _loss(self, read: Any, scores: Any, candidates: Any) -> Any:
        """Negative log-likelihood of each candidate, marginalised over the passages.

        `RagSequenceForGeneration.generate` does the same, but asks for a retriever on the way.
        """
        count, docs = candidates.shape[0], scores.shape[1]
        logits = self._model.generator(
            input_ids=read["input_ids"].repeat(count, 1),
            attention_mask=read["attention_mask"].repeat(count, 1),
            decoder_input_ids=candidates.repeat_interleave(docs, dim=0),
            use_cache=False,
        ).logits
        return self._model.get_nll(logits, scores.repeat(count, 1), candidates, exclude_bos_score=True, n_docs=docs)


def document_scores(evidence: Evidence, count: int, scale: float) -> list[float]:
    """The scores of the first `count` hits in the model's unit: dot products of question and passage.

    With DPR encoders as embedder these are the dense leg's own. A hit that only its words found lies below all that
    leg ranked, and gets the lowest. With other embedders it is the final score times `scale`.
    """
    hits = evidence.hits[:count]
    dense = [hit.legs["dense"].score for hit in hits if "dense" in hit.legs]
    if evidence.embedder.startswith("dpr:") and dense:
        return [hit.legs["dense"].score if "dense" in hit.legs else min(dense) for hit in hits]
    return [scale * hit.score for hit in hits]
