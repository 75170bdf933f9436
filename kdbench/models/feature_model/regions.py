"""The classifier at places and regions of the last features: class activation maps, pooled regions, region logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.backbone.tensor_layout import NCHW, NHWC

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


def cams(feature_map: Tensor, classifier: nn.Linear) -> Tensor:
    """(B, C, H, W) -> (B, K, H, W), the linear classifier at each place, without its bias."""
    return F.conv2d(feature_map, classifier.weight[:, :, None, None])


def region_logits(feature_map: Tensor, classifier: nn.Linear) -> Tensor:
    """(B, C, H, W) -> (B, K, 21), the linear classifier (with bias) on pooled regions at scales 1, 2, 4."""
    return classifier(sdd_pool(feature_map).transpose(1, 2)).transpose(1, 2)


def region_logits_by_head(feature_map: Tensor, backbone: Any, layout: str, prefix_tokens: int) -> Tensor:
    """As :func:`region_logits` for a head that does more to the pooled vector: each region is a map of one place."""
    regions = sdd_pool(feature_map)
    batch, channels, count = regions.shape
    rows = regions.transpose(1, 2).reshape(batch * count, channels)
    return backbone.forward_head(one_place(rows, layout, prefix_tokens)).unflatten(0, (batch, count)).transpose(1, 2)


def one_place(rows: Tensor, layout: str, prefix_tokens: int) -> Tensor:
    """(N, C) vectors as features with a single place; prefix tokens, which a mean leaves out, are zero."""
    if layout == NCHW:
        return rows[:, :, None, None]
    if layout == NHWC:
        return rows[:, None, None, :]
    tokens = rows[:, None, :]
    return torch.cat((tokens.new_zeros(len(rows), prefix_tokens, rows.shape[1]), tokens), dim=1)
