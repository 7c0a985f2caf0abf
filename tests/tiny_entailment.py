"""A cross-encoder for inference small enough to learn a few pairs by heart inside a test."""

from __future__ import annotations

from pathlib import Path

from tests.tiny_models import build_tokenizer, train_briefly

SPAN = "It closes at seven on Fridays."
FOLLOWS = "It closes on Fridays at seven."
CONTRADICTS = "It on Fridays closes at seven."
LABELS = {0: "contradiction", 1: "entailment", 2: "neutral"}


def build_entailment(folder: Path) -> Path:
    """A one-layer BERT with three labels that has learnt what follows from `SPAN`, and what does not."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=512, pad_token_id=0, initializer_range=0.2,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            id2label=LABELS, label2id={name: n for n, name in LABELS.items()},
        )
    )  # fmt: skip
    tokenizer.model_max_length = 512
    lessons = [(FOLLOWS, 1), (SPAN, 1), (CONTRADICTS, 0), ("The shop opens at nine.", 2)]
    batch = [(tokenizer(SPAN, text, return_tensors="pt"), torch.tensor([label])) for text, label in lessons]
    train_briefly(model, lambda: [model(**inputs, labels=label).loss for inputs, label in batch])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
