"""Where a training image is cut, and the cut itself: drawn per sample, done for the whole batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.data.augmentation import forms
from kdbench.data.augmentation.resample import crop_resize
from kdbench.data.augmentation.rows import put_rows, take_rows
from kdbench.random import CounterRNG

_TRIES = 10  # areas and aspect ratios that torchvision tries before it falls back to the centre


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased, to size x size; torchvision's resize of a float tensor."""
    if size in (0, images.shape[-1]):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def enlarge(images: Tensor, size: int) -> Tensor:
    """What :func:`resize` does, to rounding, as two matrix products: several times faster for small images."""
    height, width = images.shape[-2:]
    if size in (0, width):
        return images
    whole = forms.constant(((0.0, 0.0, height, width),), images.device, torch.float64)
    return crop_resize(images, whole, size, torch.zeros(1, dtype=torch.bool, device=images.device))


def pad_crop(images: Tensor, pad: int, offsets: Tensor, flipped: Tensor | None = None) -> Tensor:
    """Zero-pad by ``pad``, cut each sample at its own offset, and mirror some.

    Args:
        images: (B, C, H, W).
        pad: pixels on each side.
        offsets: (B, 2) row and column, each in 0..2 pad.
        flipped: (B,) bool, mirrored from left to right after the cut.

    Returns:
        (B, C, H, W), of its own memory.
    """
    if not forms.by_host(images):
        return _gathered(images, pad, offsets, flipped)
    batch, channels, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad))
    # Samples with the same column and direction are cut by one strided copy; indexing pixel by pixel takes three times
    # as long. So: sort by these, pick the rows, cut the columns group by group, undo the sorting.
    key = offsets[:, 1] * 2 + (0 if flipped is None else flipped.long())
    order = torch.argsort(key, stable=True)
    planes = order[:, None] * channels + torch.arange(channels, device=images.device)
    first = planes * (height + 2 * pad) + offsets[order, :1]
    rows = (first[:, :, None] + torch.arange(height, device=images.device)).flatten()
    strips = padded.view(-1, width + 2 * pad).index_select(0, rows).view(batch, channels, height, -1)
    result = images.new_empty(images.shape)
    start = 0
    for group, count in enumerate(torch.bincount(key, minlength=4 * pad + 2).tolist()):
        column, mirrored = divmod(group, 2)
        part = strips[start : start + count, ..., column : column + width]
        result[start : start + count] = part.flip(-1) if mirrored else part
        start += count
    return result.index_select(0, torch.argsort(order))


def _gathered(images: Tensor, pad: int, offsets: Tensor, flipped: Tensor | None) -> Tensor:
    """:func:`pad_crop` as one gather: where each pixel of the result comes from, and zero where that lies in the padding."""
    batch, channels, height, width = images.shape
    row, column = (torch.arange(side, device=images.device) for side in (height, width))
    if flipped is not None:
        column = torch.where(flipped[:, None], width - 1 - column, column)
    row, column = row + (offsets[:, :1] - pad), column + (offsets[:, 1:] - pad)
    outside = ((row < 0) | (row >= height))[:, :, None] | ((column < 0) | (column >= width))[:, None, :]
    place = row.clamp(0, height - 1)[:, :, None] * width + column.clamp(0, width - 1)[:, None, :]
    found = images.flatten(2).gather(2, place.view(batch, 1, -1).expand(-1, channels, -1))
    return found.view(images.shape).masked_fill_(outside[:, None], 0)


def flip_some(images: Tensor, flipped: Tensor) -> Tensor:
    """A copy in which the samples where ``flipped`` (B,) is true are mirrored."""
    if not forms.by_host(images):
        return torch.where(flipped[:, None, None, None], images.flip(-1), images)
    chosen = torch.nonzero(flipped).flatten()
    return put_rows(images.clone(), chosen, take_rows(images, chosen).flip(-1))


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
    height, width = (
        (v.double() if isinstance(v, Tensor) else torch.full((), v, dtype=torch.float64, device=u.device)).expand(
            len(u)
        )
        for v in (height, width)
    )
    area = (height * width)[:, None] * (scale[0] + (scale[1] - scale[0]) * u[:, :_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * u[:, _TRIES : 2 * _TRIES])
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width[:, None]) & (h > 0) & (h <= height[:, None])
    first = fits.to(torch.int8).argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    found = fits.any(1)
    # at least a pixel: of a small image a narrow ratio leaves none
    w_all = torch.minimum(width, (height * ratio[1]).round()).clamp_min(1)
    h_all = torch.minimum(height, (width / ratio[0]).round()).clamp_min(1)
    w, h = torch.where(found, w, w_all), torch.where(found, h, h_all)
    top = torch.where(found, (u[:, -2] * (height - h + 1)).floor(), ((height - h_all) / 2).floor())
    left = torch.where(found, (u[:, -1] * (width - w + 1)).floor(), ((width - w_all) / 2).floor())
    return torch.stack((top, left, h, w), dim=1)


def random_boxes(
    rng: CounterRNG, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """(B, 4) boxes of RandomResizedCrop for images of one size; see :func:`boxes_from_draws`."""
    return boxes_from_draws(box_draws(rng), height, width, scale, ratio)
