"""Regions of a feature map, pooled: what SDD's region logits are computed from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdbench.models.pooling import adaptive_average

#: The finest grid; the coarser ones are pooled from it, not from the map.
_FINEST = 4


def sdd_pool(feature_map: Tensor, *, scales: Sequence[int] = (1, 2, 4)) -> Tensor:
    """Average-pooled regions of a map (Wei et al., CVPR 2024; SDD-CVPR2024@e412036).

    The map is pooled to 4x4 first and every scale is pooled from that grid, which differs from pooling the map itself
    where its sides are no multiples of 4.

    Args:
        feature_map: (B, C, H, W).
        scales: regions a side, each at most 4.

    Returns:
        (B, C, N), N the sum of the squared scales: the scales in the given order, each row-major.

    Raises:
        ValueError: a scale outside 1 ... 4.
    """
    if not scales or not all(1 <= scale <= _FINEST for scale in scales):
        raise ValueError(f"scales must lie in 1 ... {_FINEST}, got {tuple(scales)}")
    grid = adaptive_average(feature_map, _FINEST)
    return torch.cat([adaptive_average(grid, scale).flatten(2) for scale in scales], dim=2)
