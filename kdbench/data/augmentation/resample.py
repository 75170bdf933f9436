"""Crop and resize every sample of a batch by its own box, as two batched matrix products.

An antialiased resize is separable: the result is ``W_y X W_x^T`` with one small weight matrix an axis and a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kdbench.data.augmentation import forms

_CUBIC_A = -0.5  # PIL's and torchvision's antialiased bicubic


def _curve(x: Tensor) -> Tensor:
    a = _CUBIC_A
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def _kernel(distance: Tensor, cubic: Tensor) -> Tensor:
    x = distance.abs_()
    if not forms.by_host(cubic):
        curve = _curve(x)
        return torch.where(cubic[:, None, None], curve, x.neg_().add_(1.0).clamp_min_(0.0))
    chosen = torch.nonzero(cubic).flatten()
    if len(chosen) == len(cubic):
        return _curve(x)
    curve = _curve(x[chosen])
    linear = x.neg_().add_(1.0).clamp_min_(0.0)
    linear[chosen] = curve
    return linear


def axis_weights(start: Tensor, length: Tensor, size_in: int, size_out: int, cubic: Tensor) -> Tensor:
    """(B, size_out, size_in) float weights that cut ``[start, start + length)`` and resize it to ``size_out``.

    Pixels outside the box weigh nothing, as if it had been cut first.
    """
    # Places are computed in float64; only the differences, which are small, are rounded to float32.
    pixels = torch.arange(size_in, device=start.device, dtype=torch.float64)
    outputs = torch.arange(size_out, device=start.device, dtype=torch.float64)
    scale = (length.double() / size_out)[:, None]
    centre = start.double()[:, None] + (outputs + 0.5) * scale
    support = scale.clamp_min(1.0)
    distance = ((pixels + 0.5).float() - centre.float()[:, :, None]).div_(support.float()[:, :, None])
    inside = (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
    weights = _kernel(distance, cubic).mul_(inside[:, None, :])
    return weights.div_(weights.sum(-1, keepdim=True))


def crop_resize(images: Tensor, boxes: Tensor, size: int, cubic: Tensor, flipped: Tensor | None = None) -> Tensor:
    """Args:
        images: (B, C, H, W) float.
        boxes: (B, 4) float64: top, left, height, width in whole pixels; or (1, 4), the same for all.
        size: side of the result.
        cubic: (B,) or (1,) bool, bicubic instead of bilinear.
        flipped: (B,) bool, mirror the result from left to right; mirrored weights cost nothing.

    Returns:
        (B, C, size, size); bicubic may leave the range of its input.
    """
    batch, channels, height_in, width_in = images.shape
    top, left, height, width = boxes.unbind(1)
    rows = axis_weights(top, height, height_in, size, cubic)
    columns = axis_weights(left, width, width_in, size, cubic)
    if flipped is not None:
        columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
    # The narrow product first: it is shared by the rows of all channels.
    wide = torch.bmm(
        images.reshape(batch, channels * height_in, width_in), columns.transpose(1, 2).expand(batch, -1, -1)
    )
    rows = rows[:, None].expand(batch, channels, -1, -1).reshape(batch * channels, size, height_in)
    return torch.bmm(rows, wide.view(batch * channels, height_in, size)).view(batch, channels, size, size)
