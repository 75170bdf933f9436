"""The classifier at places and regions of the last features: class activation maps and region logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.models.layout import NCHW, NHWC
from kdbench.models.regions import sdd_pool


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
