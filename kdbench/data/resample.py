"""Crop and resize every sample of a batch by its own box, as two batched matrix products.

An antialiased resize is separable: the result is ``W_y X W_x^T`` with one small weight matrix an axis and a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CUBIC_A = -0.5  # PIL's and torchvision's antialiased bicubic


def _kernel(distance: Tensor, cubic: Tensor) -> Tensor:
    x = distance.abs()
    linear = (1.0 - x).clamp_min(0.0)
    if not bool(cubic.any()):
        return linear
    a = _CUBIC_A
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    curve = torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))
    return torch.where(cubic[:, None, None], curve, linear)


def axis_weights(start: Tensor, length: Tensor, size_in: int, size_out: int, cubic: Tensor) -> Tensor:
    """(B, size_out, size_in) weights that cut ``[start, start + length)`` and resize it to ``size_out``.

    Pixels outside the box weigh nothing, as if it had been cut first.
    """
    pixels = torch.arange(size_in, device=start.device, dtype=torch.float64)
    outputs = torch.arange(size_out, device=start.device, dtype=torch.float64)
    scale = (length / size_out)[:, None]
    centre = start[:, None] + (outputs + 0.5) * scale
    support = scale.clamp_min(1.0)
    distance = (pixels + 0.5 - centre[:, :, None]) / support[:, :, None]
    inside = (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
    weights = _kernel(distance, cubic) * inside[:, None, :]
    return weights / weights.sum(-1, keepdim=True)


def crop_resize(images: Tensor, boxes: Tensor, size: int, cubic: Tensor) -> Tensor:
    """Args:
        images: (B, C, H, W) float.
        boxes: (B, 4) float64: top, left, height, width in whole pixels.
        size: side of the result.
        cubic: (B,) bool, bicubic instead of bilinear.

    Returns:
        (B, C, size, size); bicubic may leave the range of its input.
    """
    top, left, height, width = boxes.unbind(1)
    rows = axis_weights(top, height, images.shape[2], size, cubic).to(images.dtype)
    columns = axis_weights(left, width, images.shape[3], size, cubic).to(images.dtype)
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]
