"""The student: the teacher's encoder under a vocabulary of its own, what it is trained for, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open

from citewell import device
from citewell.embed.shipped import WORDS
from citewell.errors import BadInput
from citewell.ports import Embedder
from citewell.train import attention
from citewell.train.alignment import Floats

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

# Of the contrast's softmax: the cosines of a batch lie within some tenths of each other.
_SHARP = 20.0
WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
_REMEDY = "Name the result of `citewell train embedder`, or `multilingual`, with --from."


def check_base(name: Path, folder: Path, teacher: Embedder) -> None:
    """Raises `BadInput` unless `folder` has a network to begin with, as wide as the teacher's vectors."""
    lacking = [file for file in (WEIGHTS, TOKENIZER, "config.json") if not (folder / file).is_file()]
    if lacking:
        raise BadInput(f"{name} has no {lacking[0]}", remedy=_REMEDY)
    try:
        with safe_open(folder / WEIGHTS, "numpy") as file:
            width = file.get_slice(WORDS).get_shape()[1]
    except SafetensorError as error:
        raise BadInput(f"{name} has no word embeddings of BERT's kind: {error}", remedy=_REMEDY) from None
    if width != teacher.describe().dimension:
        raise BadInput(
            f"{name} gives vectors of {width} numbers, the teacher of {teacher.describe().dimension}", remedy=_REMEDY
        )


def words_of(folder: Path) -> Floats:
    """The word embeddings of a model's folder."""
    from safetensors.numpy import load_file

    found: Floats = load_file(folder / WEIGHTS)[WORDS].astype(np.float32)
    return found


def student_of(begun: Path, rows: Floats) -> torch.nn.Module:
    """The network of that folder with `rows` as its word embeddings, of shape (tokens, width)."""
    import torch
    from transformers import BertModel

    # What it is to be like has no noise, and no text comes often enough to be learned by heart: dropout would be a
    # fifth of a step's time for nothing.
    # Float32 whatever the files hold: small steps vanish in half precision.
    options = attention.options() | {"hidden_dropout_prob": 0.0, "dtype": torch.float32}
    bert: Any = BertModel.from_pretrained(str(begun), add_pooling_layer=False, local_files_only=True, **options)
    words = torch.nn.Embedding(rows.shape[0], rows.shape[1], padding_idx=0)
    with torch.no_grad():
        words.weight.copy_(torch.from_numpy(rows))
    bert.embeddings.word_embeddings = words
    bert.config.vocab_size = len(rows)
    return network(bert)


def network(bert: Any) -> torch.nn.Module:
    """A module whose forward pass gives unit vectors, and the loss where there is something to be like."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    class Student(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def vectors(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            shown = attention_mask[..., None].float()
            return normalize((hidden * shown).sum(1) / shown.sum(1), dim=-1)

        def forward(
            self, input_ids: Any, attention_mask: Any, aims: Any = None, aimed: Any = None, left: Any = None,
            right: Any = None, weight: float = 1.0,
        ) -> dict[str, Any]:  # fmt: skip
            """`aims` are the teacher's vectors for the rows `aimed`; row `left[n]` belongs to `right[n]` and no other.

            `right` may be longer than `left`: what is over are wrong ones. A `left` without `right` belongs to `aims`.
            """
            found = self.vectors(input_ids, attention_mask)
            loss = found.new_zeros(())
            if aimed is not None:
                loss = 3 * (1 - (found[aimed] * aims).sum(1)).mean()
            if left is not None:
                against = aims[: len(left)] if right is None else found[right]
                places = torch.arange(len(left), device=found.device)
                loss = loss + weight * cross_entropy(found[left] @ against.T * _SHARP, places)
            return {"loss": loss}

    return Student()


def encode(student: Any, tokenizer: Tokenizer, texts: list[str], batch: int = 32) -> Floats:
    """Unit vectors of texts, float32; the student is left as it was found."""
    import torch

    was = student.training
    student.eval()
    ids = [one.ids for one in tokenizer.encode_batch_fast(texts)]
    order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
    where = next(student.parameters()).device
    found = np.zeros((len(texts), student.bert.config.hidden_size), dtype=np.float32)
    half = device.dtype(where.type) is torch.bfloat16
    with torch.inference_mode(), torch.autocast(where.type, dtype=torch.bfloat16, enabled=half):
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            given = {key: value.to(where) for key, value in padded([ids[n] for n in some]).items()}
            found[some] = student.vectors(**given).float().cpu().numpy()
    student.train(was)
    return found


def padded(rows: list[Any]) -> dict[str, Any]:
    """`input_ids` and `attention_mask` of rows of tokens, filled up to a multiple of eight with the padding token 0."""
    import torch

    longest = max(len(row) for row in rows)
    width = longest + -longest % 8
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return cast(dict[str, Any], {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)})
