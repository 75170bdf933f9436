"""Colour jitter on a batch: each sample has its own brightness, contrast and saturation, in its own order."""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

from kdbench.data.augmentation import forms
from kdbench.data.augmentation.policies.ops import blend, grey
from kdbench.data.augmentation.rows import put_rows, take_rows
from kdbench.random import CounterRNG

_ORDERS = tuple(permutations(range(3)))


def jitter_draws(rng: CounterRNG, strength: float) -> tuple[Tensor, Tensor]:
    """(B, 3) factors of brightness, contrast, saturation, uniform in [1 - s, 1 + s]; (B, 3) their order."""
    u = rng.uniform(4)
    factors = max(0.0, 1.0 - strength) + (1.0 + strength - max(0.0, 1.0 - strength)) * u[:, :3]
    orders = forms.constant(_ORDERS, u.device, torch.int64)
    return factors, orders[(u[:, 3] * len(_ORDERS)).long()]


def jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """torchvision's ColorJitter for each sample.

    Args:
        images: (B, 3, H, W) float in [0, 1]; written to.
        factors: (B, 3) of brightness, contrast, saturation.
        order: (B, 3) permutation of 0, 1, 2.

    Returns:
        ``images``.
    """
    for slot in range(3):
        if not forms.by_host(images):
            _every(images, factors, order[:, slot])
            continue
        for kind in range(3):
            chosen = torch.nonzero(order[:, slot] == kind).flatten()
            if len(chosen) == 0:
                continue
            group, factor = take_rows(images, chosen), factors[chosen, kind]
            if kind == 0:
                group.mul_(factor.view(-1, 1, 1, 1))
            elif kind == 1:
                blend(group, grey(group).mean(dim=(1, 2, 3), keepdim=True), factor)
            else:
                blend(group, grey(group), factor)
            put_rows(images, chosen, group.clamp_(0.0, 1.0))
    return images


def _every(images: Tensor, factors: Tensor, kind: Tensor) -> None:
    """One of the three for each sample, in place: all are a blend, with black, with the mean luminance, or with each pixel's."""
    kind = kind[:, None]
    factor = factors.gather(1, kind)[:, 0]
    kind = kind[:, :, None, None]
    each = grey(images)
    other = torch.where(kind == 1, each.mean(dim=(1, 2, 3), keepdim=True), each)
    blend(images, torch.where(kind == 0, 0.0, other), factor).clamp_(0.0, 1.0)
