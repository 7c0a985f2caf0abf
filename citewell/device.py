"""Where models run, and in which precision. PyTorch is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16"]
# With AVX-512 instructions alone bf16 is slower than fp32 (30 passages a second against 38, docs/LOG.md).
_FAST_BF16 = "amx_bf16"


def chosen(device: str) -> str:
    """The device that the setting means: `auto` is a GPU where PyTorch finds one."""
    import torch

    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def dtype(device: str, precision: Precision = "auto") -> torch.dtype:
    """bfloat16 where it is quicker than float32 on that device, unless the setting names one of the two."""
    import torch

    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.startswith("cuda"):
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = device == "cpu" and bool(torch.cpu.get_capabilities().get(_FAST_BF16, False))
    return torch.bfloat16 if fast else torch.float32
