"""Average pooling to a given size whose gradient is the same at every run, on GPUs too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def adaptive_average(x: Tensor, size: int | tuple[int, int]) -> Tensor:
    """``F.adaptive_avg_pool2d``: (B, C, H, W) -> (B, C, *size).

    PyTorch's own gradient of it on a GPU adds in no fixed order and has no deterministic form. There, windows of equal size are an
    ordinary average pooling, and others two products with matrices of averages; on CPUs it is PyTorch's.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if x.device.type == "cpu":
        return F.adaptive_avg_pool2d(x, (height, width))
    if x.shape[2] % height == 0 and x.shape[3] % width == 0:
        return F.avg_pool2d(x, (x.shape[2] // height, x.shape[3] // width))
    return averages_by_products(x, height, width)


def averages_by_products(x: Tensor, height: int, width: int) -> Tensor:
    """:func:`adaptive_average` as ``R x C^T`` over the number of places, on any device: (B, C, H, W) -> (B, C, height, width)."""
    rows, columns = _windows(x.shape[2], height, x), _windows(x.shape[3], width, x)
    return (rows @ x @ columns.mT) / (rows.sum(1)[:, None] * columns.sum(1))


def _windows(length: int, parts: int, like: Tensor) -> Tensor:
    """(parts, length) matrix of ones: row i covers the positions from floor(i L / P) up to ceil((i + 1) L / P)."""
    part = torch.arange(parts, device=like.device)[:, None]
    place = torch.arange(length, device=like.device)
    return ((place >= part * length // parts) & (place < -(-(part + 1) * length // parts))).to(like.dtype)
