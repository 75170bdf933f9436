"""Floating-point operations of a forward pass, counted on the meta device."""

from __future__ import annotations

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdbench.models.backbone.channels import input_channels
from kdbench.models.backbone.evaluating import evaluating, on_meta


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
    counter = FlopCounterMode(display=False)
    try:
        with evaluating(backbone), counter:
            on_meta(backbone, (1, input_channels(backbone), *input_size))
    except (NotImplementedError, RuntimeError, TypeError, ValueError, AssertionError):
        return None
    return int(counter.get_total_flops())
