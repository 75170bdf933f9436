"""How many channels a network's input has: three, or one of a network for grey images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: shares of red, green and blue in grey, ITU-R BT.601, as PIL has them
_GREY = (0.299, 0.587, 0.114)


def input_channels(network: nn.Module) -> int:
    """1 of a network whose first convolution reads one channel, or that says so by an attribute ``in_channels``; else 3."""
    told = getattr(network, "in_channels", None)
    if isinstance(told, int):
        return 1 if told == 1 else 3
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return 1 if first is not None and first.in_channels == 1 else 3


def first_convolution(network: nn.Module) -> str:
    """Name of a network's first convolution; empty without one."""
    return next((name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)), "")


def with_channels(images: Tensor, channels: int) -> Tensor:
    """(B, 1 or 3, H, W) images with as many channels as a network reads: grey is repeated, colours become their grey.

    Of images whose three channels are equal the one channel is that one, up to rounding.
    """
    if images.shape[1] == channels:
        return images
    if channels == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if channels == 1 and images.shape[1] == 3:
        red, green, blue = images.unbind(1)
        return torch.add(red * _GREY[0] + green * _GREY[1], blue, alpha=_GREY[2])[:, None]
    return images
