"""A set of made-up questions whose answers are marked, and an encoder small enough to learn them inside a test."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from citewell.embed.sentence import weights_hash
from citewell.ports import EmbedderCard
from tests.hashing import HashingEmbedder

_THINGS = ("mill", "bridge", "tower", "chapel", "market", "school", "well", "gate")
_TOWNS = ("Arlen", "Bosk", "Corvin", "Delm", "Esk", "Farrow", "Gant", "Holm", "Ivers", "Jarl", "Kell", "Lorn")
_MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_set(folder: Path, *, towns: slice = slice(None), seed: int = 1) -> Path:
    """One passage a thing and town, with one question on its year."""
    draw = random.Random(seed)
    corpus, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for town in _TOWNS[towns]:
        for thing in _THINGS:
            key, year = f"{town}-{thing}", str(draw.randint(1100, 1900))
            text = f"People of {town} like their {thing}. It was built in {year} by the council. It stands there still."
            corpus.append({"_id": key, "title": f"{town} {thing}", "text": text})
            question = f"When was the {thing} of {town} built?"
            row = {"_id": f"q-{key}", "text": question, "lang": "en", "answers": [year], "starts": [text.index(year)]}
            queries.append(row)
            qrels.append(f"q-{key}\t{key}\t1")
    (folder / "qrels").mkdir(parents=True)
    write_rows(folder / "corpus.jsonl", corpus)
    write_rows(folder / "queries.jsonl", queries)
    (folder / "qrels" / "train.tsv").write_text("\n".join(qrels) + "\n", "utf-8")
    (folder / "meta.json").write_text(json.dumps({"licence": "CC0", "attribution": "made for a test"}), "utf-8")
    return folder


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def build_encoder(folder: Path, width: int = 64) -> Path:
    """A two-layer BERT with weights from a seed, and a tokenizer that knows the made-up words and single digits."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel

    words = "people of like their it was built in by the council stands there still when ? .".split()
    vocabulary = [
        *_MARKS,
        *words,
        *(w.lower() for w in (*_THINGS, *_TOWNS)),
        *"0123456789",
        *(f"##{d}" for d in range(10)),
    ]
    tokenizer = Tokenizer(
        models.WordPiece({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]", max_input_chars_per_word=50)
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=width, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=256, pad_token_id=0, initializer_range=0.1,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


class EncoderEmbedder(HashingEmbedder):
    """The hashing embedder under the tokenizer and the weights' hash of an encoder."""

    def __init__(self, encoder: Path) -> None:
        super().__init__()
        self._encoder = encoder

    def describe(self) -> EmbedderCard:
        tokenizer = (self._encoder / "tokenizer.json").read_text("utf-8")
        return EmbedderCard("tiny", weights_hash(self._encoder), dimension=64, max_tokens=256, tokenizer=tokenizer)
