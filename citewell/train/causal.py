"""A causal language model small enough to be trained from nothing on a CPU, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from citewell.config import stay_offline
from citewell.errors import BadInput

if TYPE_CHECKING:
    import torch

LARGEST = 20_000_000
CONTEXT = 1024
_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_PAD, _BEGIN, _END = "<pad>", "<s>", "<|end|>"
_SPECIAL = [_PAD, _BEGIN, _END, "<|system|>", "<|user|>", "<|assistant|>"]
# A word with a capital, two figures, or all that stands between: names and numbers are made of the same pieces wherever
# they stand, which is what a small model needs to copy them, and the wording around them takes few tokens.
_PIECES = r"\p{Lu}\p{Ll}*|\d{1,2}|[^\p{Lu}\d]+"
# A pair that is rarer than one in so many texts stays two tokens: else names of the training become words of their own.
_RARE = 150


@dataclass(frozen=True)
class Shape:
    """`width` of the hidden states, `vocabulary` the most tokens."""

    width: int = 128
    layers: int = 3
    heads: int = 4
    vocabulary: int = 2048


def learned_tokenizer(texts: Sequence[str], most: int) -> Any:
    """Byte-level pieces that are frequent in the texts, with the chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.pre_tokenizer = pre_tokenizers.Sequence([cut, level])
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        min_frequency=max(2, len(texts) // _RARE),
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=raw, pad_token=_PAD, bos_token=_BEGIN, eos_token=_END, model_max_length=CONTEXT
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def new_model(tokenizer: Any, shape: Shape, seed: int) -> torch.nn.Module:
    """A Llama with weights from the seed. Raises `BadInput` for a shape that cannot be, or is too large."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if shape.width % (2 * shape.heads):
        raise BadInput(
            f"a width of {shape.width} cannot be shared among {shape.heads} heads",
            remedy=f"Choose a multiple of {2 * shape.heads}.",
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=3 * shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(seed)
    with torch.device("meta"):
        size = parameters(LlamaForCausalLM(config))
    if size > LARGEST:
        raise BadInput(
            f"the model would have {size / 1e6:.1f} M parameters, {LARGEST // 10**6} M are the most",
            remedy="Choose a smaller --width or fewer --layers, or go on from a model of your own with --from.",
        )
    return LlamaForCausalLM(config)


def opened_model(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and model of a folder, in single precision. Raises `BadInput` where that is no causal model."""
    stay_offline()
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        if AutoConfig.from_pretrained(str(folder), local_files_only=True).is_encoder_decoder:
            raise ValueError("it is a sequence-to-sequence model")
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
    except Exception as error:  # the library raises many kinds for a folder that is absent, broken or of another kind
        raise BadInput(
            f"{folder} cannot be trained further: {error}", remedy="Name a folder with a causal language model."
        ) from error
    if tokenizer.eos_token_id is None:
        raise BadInput(f"the tokenizer of {folder} has no end token", remedy="Name another model with --from.")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model


def parameters(model: torch.nn.Module) -> int:
    """How many weights it has, shared ones counted once."""
    return sum(weight.numel() for weight in model.parameters())
