"""Weights of linear layers in the order in which oneDNN reads them, for models in bfloat16 on a CPU.

PyTorch brings a layer's weights into that order at every call and writes the bias into the result first, to add the
product to it; the operators that its own compiler puts into a graph do neither (docs/LOG.md, "The forward pass").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# Rows that the order is chosen for: a batch of 16 texts of 160 tokens. Any number can be multiplied.
_ROWS = 16 * 160


def pack(model: torch.nn.Module) -> int:
    """Replace the linear layers in bfloat16 by packed ones, for inference alone; how many there were.

    A PyTorch without these operators, or one that gives other results, leaves the model as it is.
    """
    import torch

    if _differs():
        return 0
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is torch.nn.Linear and child.weight.dtype == torch.bfloat16
    ]
    for parent, name, child in found:
        setattr(parent, name, _packed(child))
    return len(found)


def _packed(linear: Any) -> Any:
    """A module that does what `linear` does; its weights are no parameters any more."""
    import torch

    class Packed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = linear.in_features, linear.out_features
            self.bias = linear.bias
            self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)

        def forward(self, rows: Any) -> Any:
            return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], "")

    return Packed()


def _differs() -> bool:
    """Whether a packed layer gives other results than PyTorch's own, or none."""
    import torch

    with torch.inference_mode():
        dice = torch.Generator().manual_seed(1)
        layer = torch.nn.Linear(32, 48).to(torch.bfloat16)
        rows = torch.randn(4, 5, 32, generator=dice).to(torch.bfloat16)
        try:
            return not torch.allclose(_packed(layer)(rows), layer(rows), atol=0.02, rtol=0.02)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # operators have no promise to stay
            return True
