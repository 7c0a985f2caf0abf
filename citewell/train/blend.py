"""The mean of a network's weights before and after a training: what was learned, at less cost to what was known.

After Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (CVPR).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def weights_of(network: Any) -> dict[str, Any]:
    """Copies of what is trained of a network, by name."""
    return {name: value.detach().clone() for name, value in network.named_parameters() if value.requires_grad}


def blend(network: Any, before: Mapping[str, Any], share: float) -> None:
    """Give the network its own weights with `share` and those of before with the rest."""
    import torch

    with torch.no_grad():
        for name, old in before.items():
            value = network.get_parameter(name)
            value.lerp_(old.to(value.device), 1 - share)
