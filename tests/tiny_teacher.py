"""A teacher small enough for a test, made-up translations of what it knows, and sets of questions in both languages."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from citewell.embed.sentence import weights_hash
from citewell.ports import EmbedderCard, Vectors
from citewell.train.student import encode, network
from tests.tiny_reader import _THINGS, _TOWNS, write_rows

# A language of its own, word by word: Spanish by its code, so that nothing else is known of it.
_SMALL = "people of like their it was built in by the council stands there still when".split()
_WORDS = dict(
    zip(_SMALL, "gente de quiere su eso fue hecho en por el consejo queda alla aun cuando".split(), strict=True)
)


def translated(text: str) -> str:
    """Small words from a list, others (towns and things) backwards, with a mark."""
    made = []
    for word in text.split():
        plain = word.strip(".?").lower()
        own = _WORDS.get(plain, plain if plain.isdigit() else "z" + plain[::-1])
        made.append(own + word[len(word.rstrip(".?")) :])
    return " ".join(made)


def sentences(town: str, thing: str, year: int) -> tuple[str, str]:
    return (
        f"People of {town} like their {thing}. It was built in {year} by the council.",
        f"When was the {thing} of {town} built?",
    )


def write_parallel(file: Path, seed: int = 1) -> Path:
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for town in _TOWNS:
        for thing in _THINGS:
            texts = sentences(town, thing, draw.randint(1100, 1900))
            rows += [{"en": text, "es": translated(text), "file": "made"} for text in texts]
    draw.shuffle(rows)
    write_rows(file, rows)
    return file


def write_judged(folder: Path, lang: str, seed: int) -> Path:
    """Questions on places, in years of their own, so that no passage is one that was translated."""
    draw = random.Random(seed)
    corpus, queries, qrels = [], [], ["query-id\tcorpus-id\tscore"]
    for town in _TOWNS[:6]:
        for thing in _THINGS:
            key, (text, question) = f"{town}-{thing}", sentences(town, thing, draw.randint(1100, 1900))
            question = question.replace("When was", "Still when was")
            if lang != "en":
                text, question = translated(text), translated(question)
            corpus.append({"_id": key, "title": "", "text": text})
            queries.append({"_id": f"q-{key}", "text": question, "lang": lang})
            qrels.append(f"q-{key}\t{key}\t1")
    (folder / "qrels").mkdir(parents=True)
    write_rows(folder / "corpus.jsonl", corpus)
    write_rows(folder / "queries.jsonl", queries)
    (folder / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n", "utf-8")
    (folder / "meta.json").write_text(json.dumps({"licence": "CC0", "attribution": "made for a test"}), "utf-8")
    return folder


class EncoderTeacher:
    """The vectors of an encoder's folder: an embedder as any."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer, processors
        from transformers import BertModel

        self._folder = folder
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        marks = [(mark, self._tokenizer.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
        self._tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
        self._network = network(BertModel.from_pretrained(str(folder), add_pooling_layer=False))

    def load(self) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Nothing is held."""

    def info(self) -> dict[str, Any]:
        return {"name": "tiny"}

    def describe(self) -> EmbedderCard:
        return EmbedderCard(
            "tiny", weights_hash(self._folder), dimension=64, max_tokens=256, tokenizer=self._tokenizer.to_str()
        )

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return encode(self._network, self._tokenizer, list(texts))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_passages(texts)
