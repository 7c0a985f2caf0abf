"""Attention for training on a CPU, where PyTorch's own takes most of a step (docs/LOG.md, "A step of the reader").

With dropout PyTorch has no fused attention on a CPU and keeps every score; without it, the fused one's way back in
bfloat16 takes three times as long as in float32. So: no dropout of scores, and float32 where gradients are wanted.
"""

from __future__ import annotations

from typing import Any

_NAME = "citewell-training"


def options() -> dict[str, Any]:
    """What to give `from_pretrained` for it; transformers knows it from then on."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    return {"attn_implementation": _NAME, "attention_probs_dropout_prob": 0.0}


def _attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
    """As `sdpa_attention_forward`; heads of shape (batch, heads, tokens, width)."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if query.device.type != "cpu" or not torch.is_grad_enabled():
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    with torch.autocast("cpu", enabled=False):
        wide = (query.float(), key.float(), value.float())
        found, _ = sdpa_attention_forward(module, *wide, attention_mask, **options)
    return found.to(query.dtype), None
