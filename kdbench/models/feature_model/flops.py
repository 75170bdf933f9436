"""Floating-point operations of a forward pass, counted on the meta device."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(backbone: nn.Module, input_size: tuple[int, int]) -> int | None:
    """Operations of one image's forward pass through ``backbone``, in evaluation mode.

    Matrix products, convolutions and attention as torch's counter sees them, a multiply-add counted as two; normalisations and
    activations are not counted. Nothing is computed.

    Args:
        backbone: the network.
        input_size: (h, w).

    Returns:
        The number, or None where the network cannot be run on the meta device.
    """
    tensors = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    twins = {key: torch.empty_like(value, device="meta") for key, value in tensors.items()}
    modes = {module: module.training for module in backbone.modules()}
    counter = FlopCounterMode(display=False)
    backbone.eval()
    try:
        with torch.no_grad(), counter:
            functional_call(backbone, twins, (torch.empty(1, 3, *input_size, device="meta"),), tie_weights=False)
    except (NotImplementedError, RuntimeError, TypeError, ValueError, AssertionError):
        return None
    finally:
        for module, training in modes.items():
            module.training = training
    return int(counter.get_total_flops())
