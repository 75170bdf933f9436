"""Where a training image is cut, and the cut itself: drawn per sample, done for the whole batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.data.resample import crop_resize
from kdbench.random import CounterRNG

_TRIES = 10  # areas and aspect ratios that torchvision tries before it falls back to the centre


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased, to size x size; torchvision's resize of a float tensor."""
    if size in (0, images.shape[-1]):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def enlarge(images: Tensor, size: int) -> Tensor:
    """What :func:`resize` does, to rounding, as two matrix products: several times faster for small images."""
    batch, _, height, width = images.shape
    if size in (0, width):
        return images
    box = torch.tensor([[0.0, 0.0, height, width]], dtype=torch.float64, device=images.device)
    return crop_resize(images, box.expand(batch, -1), size, torch.zeros(batch, dtype=torch.bool, device=images.device))


def pad_crop(images: Tensor, pad: int, offsets: Tensor) -> Tensor:
    """Zero-pad by ``pad`` and cut each sample at its own offset: (B, C, H, W), (B, 2) in 0..2 pad -> (B, C, H, W)."""
    if pad == 0:
        return images
    height, width = images.shape[-2:]
    windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
    rows = torch.arange(len(images), device=images.device)
    return windows.permute(0, 2, 3, 1, 4, 5)[rows, offsets[:, 0], offsets[:, 1]]


def flip_some(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the samples where ``flipped`` (B,) is true, in place."""
    chosen = torch.nonzero(flipped).flatten()
    if len(chosen):
        images[chosen] = images[chosen].flip(-1)
    return images


def box_draws(rng: CounterRNG) -> Tensor:
    """(B, 22) uniform draws, all that one RandomResizedCrop box needs."""
    return rng.uniform(2 * _TRIES + 2)


def boxes_from_draws(
    u: Tensor, height: Tensor | int, width: Tensor | int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """torchvision's RandomResizedCrop.get_params for a batch: (B, 4) boxes (top, left, height, width), whole pixels.

    Up to ten areas and aspect ratios are tried a sample; where none fits, the largest centred crop within the ratio.

    Args:
        u: (B, 22) from :func:`box_draws`.
        height, width: of the images, one for all or (B,).
        scale, ratio: ranges of area and of aspect ratio.
    """
    u = u.double()
    height, width = (torch.as_tensor(v, dtype=torch.float64, device=u.device).expand(len(u)) for v in (height, width))
    area = (height * width)[:, None] * (scale[0] + (scale[1] - scale[0]) * u[:, :_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * u[:, _TRIES : 2 * _TRIES])
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width[:, None]) & (h > 0) & (h <= height[:, None])
    first = fits.to(torch.int8).argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    found = fits.any(1)
    w_all = torch.minimum(width, (height * ratio[1]).round())
    h_all = torch.minimum(height, (width / ratio[0]).round())
    w, h = torch.where(found, w, w_all), torch.where(found, h, h_all)
    top = torch.where(found, (u[:, -2] * (height - h + 1)).floor(), ((height - h_all) / 2).floor())
    left = torch.where(found, (u[:, -1] * (width - w + 1)).floor(), ((width - w_all) / 2).floor())
    return torch.stack((top, left, h, w), dim=1)


def random_boxes(
    rng: CounterRNG, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """(B, 4) boxes of RandomResizedCrop for images of one size; see :func:`boxes_from_draws`."""
    return boxes_from_draws(box_draws(rng), height, width, scale, ratio)
