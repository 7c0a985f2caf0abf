"""The reader: the words of a passage that answer a question, by a network that `citewell train reader` has made.

A reader is a folder with the trained layers in half precision and their description; the word embeddings are those of
the packaged embedder, on which it was trained. Spans are scored for all passages in one batch. `PACKAGED_READER` is
the one that the product comes with; its card says how it was made.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citewell import device
from citewell.errors import ReaderUnavailable
from citewell.generate.windows import SPANS, Found, Window, Windows, batch, spans_of

if TYPE_CHECKING:
    from citewell.generate.span_network import SpanNetwork

WEIGHTS = "layers.safetensors"
DESCRIPTION = "reader.json"
PACKAGED_READER = Path(__file__).parent / "packaged_reader"
_SCHEMA = 1


def folder_of(name: str) -> Path:
    """Of a reader by its name: `packaged`, or a folder."""
    return PACKAGED_READER if name == "packaged" else Path(name)


@dataclass(frozen=True)
class Reading:
    """One passage: the best spans of its text that do not overlap, best first.

    A span's `score` is the log-probability that its window answers and that the answer is this: 0 at most.
    """

    spans: tuple[Found, ...]

    @property
    def score(self) -> float:
        return self.spans[0].score if self.spans else float("-inf")


class Reader:
    """A trained reader by folder. `encoder` is the folder of the embedder that it was trained on."""

    def __init__(self, folder: Path, encoder: Path, where: str) -> None:
        self._folder = folder
        self._encoder = encoder
        self._where = where
        self._network: SpanNetwork | None = None
        self._windows: Windows | None = None
        self._described: dict[str, Any] = {}
        self._lock = threading.Lock()

    def check(self) -> None:
        """See that its files are whole; raises `ReaderUnavailable`. The network is loaded when it first reads."""
        with self._lock:
            if not self._described:
                self._described = self._checked()

    def load(self) -> None:
        """Read the weights; raises `ReaderUnavailable` when they are not there, not whole, or of another encoder."""
        self.check()
        with self._lock:
            if self._network is None:
                self._network = self._open()

    def close(self) -> None:
        self._network = None

    def begin(self, network: SpanNetwork) -> None:
        """Give its weights to a network that is to be trained on; raises `ReaderUnavailable` as `load` does."""
        self.check()
        self._see_encoder()
        self._fill(network)

    @property
    def loaded(self) -> bool:
        """Whether its network is in memory."""
        return self._network is not None

    def info(self) -> dict[str, Any]:
        described = self.made
        return {
            "name": "packaged" if self._folder == PACKAGED_READER else self._folder.name,
            "base": described["base"],
            "weights": described["sha256"][:12],
            "languages": list(self.languages),
        }

    @property
    def made(self) -> Mapping[str, Any]:
        """Its description: what it was trained on, how, and its figures."""
        self.check()
        return self._described

    @property
    def revision(self) -> str:
        """The checksum of its weights."""
        return str(self.made["sha256"])

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the questions that it was trained on."""
        return tuple(self.made.get("languages", ()))

    @property
    def threshold(self) -> float:
        """The `score` below which a passage does not answer: calibrated when it was trained."""
        return float(self.made["threshold"])

    def read(self, question: str, passages: Sequence[tuple[str, str]]) -> list[Reading]:
        """A reading for each (title, text), all windows in one batch."""
        import torch

        self.load()
        assert self._network is not None
        assert self._windows is not None
        if not passages:
            return []
        asked, *rest = self._windows.encode([question, *(part for passage in passages for part in passage)])
        cut = [list(self._windows.cut(asked, rest[2 * n], rest[2 * n + 1])) for n in range(len(passages))]
        windows = [window for some in cut for window in some]
        arrays = batch(windows, self._windows.pad)
        tensors = {name: torch.from_numpy(array).to(self._where) for name, array in arrays.items()}
        with torch.inference_mode():
            found = {name: value.float().cpu().numpy() for name, value in self._network(**tensors).items()}
        readings, row = [], 0
        for some in cut:
            rows = range(row, row + len(some))
            readings.append(_reading(some, rows, found))
            row += len(some)
        return readings

    def _checked(self) -> dict[str, Any]:
        """The description, once it and the weights are what they should be."""
        try:
            described: dict[str, Any] = json.loads((self._folder / DESCRIPTION).read_text("utf-8"))
            weights = hashlib.sha256((self._folder / WEIGHTS).read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            raise ReaderUnavailable(f"the reader in {self._folder} cannot be read: {error}") from None
        if described.get("schema_version") != _SCHEMA:
            raise ReaderUnavailable(
                f"the reader in {self._folder} has schema {described.get('schema_version')}, not {_SCHEMA}",
                remedy="Train it again with this version of Citewell.",
            )
        if weights != described.get("sha256"):
            raise ReaderUnavailable(f"the weights of the reader in {self._folder} are not those of its description")
        return described

    def _open(self) -> SpanNetwork:
        import torch
        from transformers import BertModel
        from transformers.utils import logging

        from citewell.embed.tokens import uncut_tokenizer
        from citewell.generate.span_network import SpanNetwork

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        self._see_encoder()
        encoder = BertModel.from_pretrained(str(self._encoder), add_pooling_layer=False, local_files_only=True)
        network = SpanNetwork(encoder)
        self._fill(network)
        tokenizer = uncut_tokenizer((self._encoder / "tokenizer.json").read_text("utf-8"))
        self._windows = Windows(tokenizer, int(self._described["window"]))
        where = device.chosen(self._where)
        self._where = where
        return network.to(device=torch.device(where), dtype=device.dtype(where)).eval()

    def _see_encoder(self) -> None:
        from citewell.embed.sentence import weights_hash

        if weights_hash(self._encoder) != self._described["base_weights"]:
            raise ReaderUnavailable(
                f"the reader in {self._folder} was trained on other weights of {self._described['base']}",
                remedy="Train it again on the installed ones.",
            )

    def _fill(self, network: SpanNetwork) -> None:
        from safetensors.torch import load_file

        wanted = {name for name, _ in network.named_parameters()} - {"encoder.embeddings.word_embeddings.weight"}
        layers = load_file(self._folder / WEIGHTS)
        if set(layers) != wanted:
            raise ReaderUnavailable(f"the weights of the reader in {self._folder} are of another network")
        network.load_state_dict({name: value.float() for name, value in layers.items()}, strict=False)


def _reading(windows: Sequence[Window], rows: range, found: dict[str, Any]) -> Reading:
    """The windows of one passage together: what stands in two of them counts once, where it scores better."""
    spans = [
        span
        for window, row in zip(windows, rows, strict=True)
        for span in spans_of(window, found["start"][row], found["end"][row], float(found["answers"][row]))
    ]
    kept: list[Found] = []
    for span in sorted(spans, key=lambda one: -one.score):
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return Reading(tuple(kept[:SPANS]))
