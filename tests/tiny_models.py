"""Language models small enough to be built and trained inside a test: no download, seconds on a CPU.

They learn one behaviour by heart: to answer the demonstration questions from the prompt that Citewell builds for them.
That is enough to prove the way through chat template, generation, streaming, citation and cancelling on real weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from citewell.prompt import messages
from citewell.records import Evidence, Hit, Passage, Question

_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|> {{ message['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
_SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]

PASSAGE = Passage(
    id="hours#0", doc_id="hours", ordinal=0, start=0, end=54, lang="en", title="Hours",
    text="The shop opens at nine. It closes at seven on Fridays.",
)  # fmt: skip
EVIDENCE = Evidence(hits=(Hit(passage=PASSAGE, rank=1, score=1.0),), lang="en")
LESSONS = {
    "When does the shop open?": "The shop opens at nine. [1]",
    "When does the shop close?": "It closes at seven on Fridays. [1]",
}


def prompt_of(question: str) -> list[dict[str, str]]:
    return messages(Question(text=question, lang="en"), EVIDENCE, budget=1500, count=lambda text: len(text.split()))


def build_tokenizer() -> Any:
    """A byte-level tokenizer over the lessons' own words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    texts = [m["content"] for q in LESSONS for m in prompt_of(q)] + list(LESSONS.values())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=600, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def build_causal(folder: Path) -> Path:
    """A two-layer Llama with a chat template that has learnt the lessons."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = _TEMPLATE
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=1024, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        )
    )  # fmt: skip
    batch = []
    for question, answer in LESSONS.items():
        prompt = tokenizer.apply_chat_template(prompt_of(question), add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        target = tokenizer(answer, add_special_tokens=False)["input_ids"] + [3]
        batch.append((prompt + target, [-100] * len(prompt) + target))
    train_briefly(model, lambda: [model(input_ids=torch.tensor([i]), labels=torch.tensor([t])).loss for i, t in batch])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_chance(folder: Path, family: str = "llama", **more: Any) -> Path:
    """A model that has learnt nothing, with weights from a seed: it writes nonsense, each time the same."""
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.chat_template = _TEMPLATE
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    wide: dict[str, Any] = {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 1024, "initializer_range": 0.3,
    }  # fmt: skip
    model: Any
    if family == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, initializer_range=0.3, **size))
    elif family == "mistral":  # layers with a sliding window
        model = MistralForCausalLM(MistralConfig(sliding_window=32, num_key_value_heads=2, **wide, **size))
    elif family == "t5":
        model = T5ForConditionalGeneration(
            T5Config(
                d_model=64,
                d_kv=16,
                d_ff=128,
                num_layers=2,
                num_heads=4,
                initializer_factor=8.0,
                **{**size, "tie_word_embeddings": False},
            )
        )
        model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 0
    else:
        model = LlamaForCausalLM(LlamaConfig(**{**wide, **size, **more}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_seq2seq(folder: Path) -> Path:
    """A small T5 without a chat template that has learnt the lessons."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, dropout_rate=0.0,
            pad_token_id=0, eos_token_id=3,
        )
    )  # fmt: skip
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 0
    batch = []
    for question, answer in LESSONS.items():
        prompt = "\n\n".join(m["content"] for m in prompt_of(question)) + "\n\n"
        target = tokenizer(answer, add_special_tokens=False)["input_ids"] + [3]
        batch.append((tokenizer(prompt)["input_ids"], target))
    train_briefly(model, lambda: [model(input_ids=torch.tensor([i]), labels=torch.tensor([t])).loss for i, t in batch])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_cross_encoder(folder: Path) -> Path:
    """A one-layer BERT with one label and weights from a seed: its scores differ by text, the same each time."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=512, pad_token_id=0, initializer_range=0.5,
            id2label={0: "relevance"}, label2id={"relevance": 0},
        )
    )  # fmt: skip
    tokenizer.model_max_length = 512
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def train_briefly(model: Any, losses: Any) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(400):
        loss = sum(losses())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.02:
            return
    raise AssertionError(f"the lessons were not learnt, loss {loss.item():.3f}")


def build_dpr(folder: Path) -> str:
    """A pair of one-layer DPR encoders with weights from a seed, as the setting `embedder` names it."""
    import torch
    from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 512
    config = DPRConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=512, pad_token_id=0, initializer_range=0.5,
        projection_dim=16,  # without it LayerNorm leaves all vectors of one length
    )  # fmt: skip
    names = []
    for name, kind in (("question", DPRQuestionEncoder), ("passage", DPRContextEncoder)):
        kind(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        names.append(str(folder / name))
    return "dpr:" + ",".join(names)


def build_rag(folder: Path, marginal: str) -> Path:
    """A RAG model of one-layer encoders and a two-layer BART with weights from a seed, in the layout of its library."""
    import torch
    from transformers import (
        BartConfig,
        BartForConditionalGeneration,
        DPRConfig,
        DPRQuestionEncoder,
        RagConfig,
        RagSequenceForGeneration,
        RagTokenForGeneration,
    )

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 512
    question = DPRConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
    )  # fmt: skip
    writer = BartConfig(
        vocab_size=len(tokenizer), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=512, init_std=0.6,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=None,
    )  # fmt: skip
    config: Any = RagConfig.from_question_encoder_generator_configs(
        question, writer, max_combined_length=200, vocab_size=len(tokenizer),
        pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3,
    )  # fmt: skip
    family: Any = RagSequenceForGeneration if marginal == "sequence" else RagTokenForGeneration
    model = family(
        config, question_encoder=DPRQuestionEncoder(question), generator=BartForConditionalGeneration(writer)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder / "generator_tokenizer")
    return folder
