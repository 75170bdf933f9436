"""Augmentation of whole batches, every parameter drawn per sample.

A parameter of sample ``b`` is a pure function of (seed, epoch, draw[b]); see :mod:`kdbench.random`. Drawing one crop for
the whole batch, as torchvision's transforms do when they are given a batch, would be another augmentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.data.resample import crop_resize
from kdbench.data.source import Standard
from kdbench.random import CounterRNG


@dataclass(frozen=True)
class Augment:
    """Crop and flip of a training batch.

    Attributes:
        crop: ``none``, ``pad`` (zero padding, then a random crop of the old size) or ``rrc`` (RandomResizedCrop).
        pad: pixels on each side, for ``pad``.
        flip: probability of a horizontal flip.
        scale, ratio: area and aspect ratio of ``rrc``, as in torchvision.
        interpolation: ``bilinear``, ``bicubic`` or ``random`` (one of them a sample), for ``rrc``.
        size: side of the result; 0 = as the images are.
    """

    crop: str
    pad: int
    flip: float
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    interpolation: str = "bilinear"
    size: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, standard: Standard, size: int) -> Augment:
        """``AUGMENT`` with the data set's standard where a key is left at auto."""
        node = cfg.AUGMENT
        return cls(
            crop=standard.crop if node.CROP == "auto" else node.CROP,
            pad=standard.pad if node.PAD < 0 else node.PAD,
            flip=standard.flip if node.FLIP < 0 else node.FLIP,
            scale=node.RRC_SCALE,
            ratio=node.RRC_RATIO,
            interpolation=node.INTERPOLATION,
            size=size,
        )

    def __call__(self, images: Tensor, seed: int, epoch: int, draw: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, S, S) float in [0, 1]."""

        def rng(stream: str) -> CounterRNG:
            return CounterRNG(seed, f"augment/{stream}", epoch, draw)

        if self.crop == "rrc":
            side = self.size or images.shape[-1]
            box = random_boxes(rng("rrc"), images.shape[-2], images.shape[-1], self.scale, self.ratio)
            cubic = self._cubic(rng("interpolation"))
            result = crop_resize(images.float().div_(255.0), box, side, cubic).clamp_(0.0, 1.0)
        else:
            if self.crop == "pad":
                images = pad_crop(images, self.pad, rng("crop").integers(2 * self.pad + 1, 2))
            result = resize(images.float().div_(255.0), self.size)
        if self.flip > 0:
            flipped = rng("flip").uniform(1)[:, 0] < self.flip
            result = torch.where(flipped[:, None, None, None], result.flip(-1), result)
        return result

    def _cubic(self, rng: CounterRNG) -> Tensor:
        if self.interpolation == "random":
            return rng.uniform(1)[:, 0] < 0.5
        return torch.full_like(rng.index, self.interpolation == "bicubic", dtype=torch.bool)


def evaluation_images(images: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) uint8 -> (B, 3, S, S) float in [0, 1], nothing drawn; size 0 = as they are."""
    return resize(images.float().div_(255.0), size)


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased, to size x size."""
    if size in (0, images.shape[-1]):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def pad_crop(images: Tensor, pad: int, offsets: Tensor) -> Tensor:
    """Zero-pad by ``pad`` and cut each sample at its own offset: (B, C, H, W), (B, 2) in 0..2 pad -> (B, C, H, W)."""
    if pad == 0:
        return images
    batch, channels, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad))
    rows = offsets[:, :1] + torch.arange(height, device=images.device)
    columns = offsets[:, 1:] + torch.arange(width, device=images.device)
    flat = (rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]).view(batch, 1, -1)
    return padded.flatten(2).gather(2, flat.expand(-1, channels, -1)).view(batch, channels, height, width)


def random_boxes(
    rng: CounterRNG, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], tries: int = 10
) -> Tensor:
    """torchvision's RandomResizedCrop.get_params for a batch: (B, 4) boxes (top, left, height, width), whole pixels.

    Up to ten areas and aspect ratios are tried a sample; where none fits, the largest centred crop within the ratio.
    """
    u = rng.uniform(2 * tries + 2).double()
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, :tries])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(low + (high - low) * u[:, tries : 2 * tries])
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.to(torch.int8).argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    in_ratio = width / height
    if in_ratio < ratio[0]:
        w_all, h_all = width, round(width / ratio[0])
    elif in_ratio > ratio[1]:
        w_all, h_all = round(height * ratio[1]), height
    else:
        w_all, h_all = width, height
    found = fits.any(1)
    w, h = torch.where(found, w, float(w_all)), torch.where(found, h, float(h_all))
    top = torch.where(found, (u[:, -2] * (height - h + 1)).floor(), float((height - h_all) // 2))
    left = torch.where(found, (u[:, -1] * (width - w + 1)).floor(), float((width - w_all) // 2))
    return torch.stack((top, left, h, w), dim=1)
