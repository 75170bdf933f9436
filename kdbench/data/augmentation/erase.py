"""Random erasing (Zhong et al., AAAI 2020) as in timm: a rectangle of normal noise a sample, after everything else."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from kdbench.data.augmentation import forms
from kdbench.data.source import Statistics
from kdbench.random import CounterRNG

_TRIES = 10
_AREA = (0.02, 1.0 / 3.0)
_ASPECT = (0.3, 1.0 / 0.3)
_TABLE = 2**20


@lru_cache(maxsize=4)
def _noise(seed: int, device: torch.device) -> Tensor:
    """(2**20,) standard normal numbers, the same on every device.

    A sample reads a stretch of them from its own offset: as many fresh Philox draws as an erased rectangle has pixels
    would cost more than the rest of the pipeline together.
    """
    index = torch.arange(_TABLE // 64)
    return CounterRNG(seed, "augment/noise", 0, index).normal(64).flatten().to(device)


def erase_boxes(rng: CounterRNG, height: int, width: int, prob: float) -> Tensor:
    """(B, 4) int64 rectangles (top, left, height, width); height 0 where nothing is erased.

    Up to ten areas (uniform in 2%..1/3 of the image) and aspect ratios (log-uniform in 0.3..1/0.3) are tried, and the
    first that is smaller than the image is taken, as in timm (random_erasing.py).
    """
    u = rng.uniform(2 * _TRIES + 3).double()
    area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * u[:, :_TRIES])
    low, high = math.log(_ASPECT[0]), math.log(_ASPECT[1])
    aspect = torch.exp(low + (high - low) * u[:, _TRIES : 2 * _TRIES])
    h, w = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (h < height) & (w < width)
    first = fits.to(torch.int8).argmax(1, keepdim=True)
    h, w = h.gather(1, first)[:, 0], w.gather(1, first)[:, 0]
    top = (u[:, -3] * (height - h + 1)).floor()
    left = (u[:, -2] * (width - w + 1)).floor()
    done = fits.any(1) & (u[:, -1] < prob)
    return torch.where(done[:, None], torch.stack((top, left, h, w), dim=1), 0.0).long()


def erase(images: Tensor, boxes: Tensor, noise: CounterRNG, statistics: Statistics) -> Tensor:
    """Fill each rectangle with noise, in place.

    timm erases normalised images with N(0, 1); these are not normalised yet, so the noise is ``mean + std * N(0, 1)``
    of the data and, like timm's, not cut off at the range of an image.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        boxes: (B, 4) of :func:`erase_boxes`.
        noise: where each sample's noise starts.
        statistics: mean and standard deviation of the data set.

    Returns:
        ``images``.
    """
    table = _noise(noise.seed, images.device)
    mean, std = (forms.constant(tuple(v), images.device).view(3, 1, 1) for v in statistics)
    if not forms.by_host(images):
        return _masked(images, boxes, noise.integers(_TABLE, 1), table, mean, std)
    starts = noise.integers(_TABLE, 1)[:, 0].tolist()
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        if height * width == 0:
            continue
        count = 3 * height * width
        values = table[starts[row] : starts[row] + count]
        while len(values) < count:
            values = torch.cat((values, table[: count - len(values)]))
        patch = images[row, :, top : top + height, left : left + width]
        torch.addcmul(mean, values.view(3, height, width), std, out=patch)
    return images


def _masked(images: Tensor, boxes: Tensor, starts: Tensor, table: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """:func:`erase` of the whole batch: each pixel's place in its sample's stretch of noise, (B, 1) ``starts``."""
    channels, rows, columns = images.shape[1:]
    device = images.device
    top, left, height, width = boxes[:, :, None, None].int().unbind(1)
    y = torch.arange(rows, dtype=torch.int32, device=device)[:, None] - top
    x = torch.arange(columns, dtype=torch.int32, device=device) - left
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    channel = torch.arange(channels, dtype=torch.int32, device=device).view(1, -1, 1, 1)
    place = channel * (height * width)[:, None] + (y * width + x + starts[:, :, None].int())[:, None]
    values = table.index_select(0, place.remainder_(_TABLE).flatten()).view(images.shape)
    return images.copy_(torch.where(inside[:, None], torch.addcmul(mean, values, std), images))


def cutout(images: Tensor, rng: CounterRNG, most: float, statistics: Statistics) -> Tensor:
    """A square of each image filled with the data's mean colour.

    Args:
        images: (B, 3, S, S) float in [0, 1].
        rng: draws three numbers a sample: the square's side, uniform up to ``most`` of the image's, and its centre, which may lie
            anywhere in the image.
        most: in (0, 1].
        statistics: of the data.
    """
    side = images.shape[-1]
    u = rng.uniform(3).to(images.device)
    half, place = 0.5 * most * side * u[:, 0], torch.arange(side, device=images.device) + 0.5
    down, right = (((place - side * u[:, axis, None]).abs() < half[:, None]) for axis in (1, 2))
    colour = forms.constant(tuple(map(float, statistics[0])), images.device)[:, None, None]
    return torch.where((down[:, :, None] & right[:, None, :])[:, None], colour, images)
