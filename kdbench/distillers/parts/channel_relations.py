"""How alike the channels of a map are, and a layer that brings a map to another number of channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, C, H, W) and (B, C, h, w) -> 0-d: the summed squared difference of the C x C matrices ``F F^T`` (flattened over places,
    with rows of unit length), divided by B C."""
    relations = [F.normalize(x.flatten(2) @ x.flatten(2).mT, dim=2) for x in (student, teacher)]
    return (relations[0] - relations[1]).square().sum() / (student.shape[0] * student.shape[1])


class Embedding(nn.Sequential):
    """1x1 convolution and batch normalisation: (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
