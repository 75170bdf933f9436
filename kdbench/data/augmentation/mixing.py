"""Mixup and cutmix of pairs: positions 2j and 2j + 1 of an epoch's order, with parameters drawn from (seed, epoch, j).

timm mixes sample i of a batch with sample B - 1 - i under one draw a batch; the law of one image is the same, and pairs
that do not depend on the batch make a sample look the same whatever the batch size and the number of processes.
"""

from __future__ import annotations

import torch
from scipy.special import betaincinv
from torch import Tensor

from kdbench.data.augmentation import forms
from kdbench.random import CounterRNG


def mixing_draws(
    rng: CounterRNG, mixup: float, cutmix: float, switch: float, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """What each pair does.

    Args:
        rng: its index is the number j of the pair, in the host's memory: the Beta distribution is the host's.
        mixup, cutmix: parameter of the symmetric Beta distribution; 0 = never.
        switch: probability of cutmix where both are on.
        height, width: of the images.

    Returns:
        (P,) float64 share of a sample's own image, and (P, 4) int64 cutmix rectangle (top, bottom, left, right), empty
        for mixup. The rectangle is cut off at the border and the share is that of the pixels, as in timm.
    """
    u = rng.uniform(4).double()
    if mixup > 0 and cutmix > 0:
        cut = u[:, 0] < switch
    else:
        cut = torch.full((len(u),), cutmix > 0)
    # A uniform value of 0 or 1 would do no harm; half a step keeps it off the ends all the same.
    level = (u[:, 1] + 2.0**-25).numpy()
    share = torch.zeros(len(u), dtype=torch.float64)
    for chosen, alpha in ((~cut, mixup), (cut, cutmix)):
        if bool(chosen.any()):
            share[chosen] = torch.as_tensor(betaincinv(alpha, alpha, level[chosen.numpy()]))
    ratio = (1.0 - share).sqrt()
    tall, wide = (height * ratio).floor(), (width * ratio).floor()
    y, x = (u[:, 2] * height).floor(), (u[:, 3] * width).floor()
    edges = (
        (y - (tall / 2).floor()).clamp(0, height),
        (y + ((tall + 1) / 2).floor()).clamp(0, height),
        (x - (wide / 2).floor()).clamp(0, width),
        (x + ((wide + 1) / 2).floor()).clamp(0, width),
    )
    box = torch.stack(edges, dim=1).long() * cut[:, None]
    area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
    share = torch.where(cut, 1.0 - area.double() / (height * width), share)
    return share, box


def soft_labels(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """(B,) int64 -> (B, K) float: ``1 - smoothing`` for the label, plus ``smoothing / K`` for all."""
    off = smoothing / num_classes
    if not forms.by_host(labels):
        own = labels[:, None] == torch.arange(num_classes, device=labels.device)
        return torch.where(own, 1.0 - smoothing + off, off)
    result = torch.full((len(labels), num_classes), off, device=labels.device)
    return result.scatter_(1, labels[:, None], 1.0 - smoothing + off)


def mix_pairs(images: Tensor, labels: Tensor, share: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """Mix rows 2i and 2i + 1 by ``share[i]`` and ``box[i]``; a last row without a partner stays.

    Args:
        images: (B, 3, H, W) float; written to.
        labels: (B, K) float.
        share: (P,) float64, P = B // 2, where the images lie.
        box: (P, 4) int64, there too; see :func:`mixing_draws`.

    Returns:
        ``images`` and new labels, (B, K).
    """
    pairs = len(images) // 2
    first, second = images[: 2 * pairs : 2], images[1 : 2 * pairs : 2]
    if forms.by_host(images):
        _one_by_one(first, second, share, box)
    else:
        _masked(first, second, share, box)
    own = torch.ones(len(labels), dtype=torch.float64, device=labels.device)
    own[: 2 * pairs] = share[:, None].expand(-1, 2).flatten()
    partner = torch.arange(len(labels), device=labels.device)
    partner[: 2 * pairs] = partner[: 2 * pairs] ^ 1
    own = own[:, None].to(labels.dtype)
    return images, labels * own + labels[partner] * (1.0 - own)


def _one_by_one(first: Tensor, second: Tensor, share: Tensor, box: Tensor) -> None:
    for a, b, own_share, (top, bottom, left, right) in zip(first, second, share.tolist(), box.tolist()):
        if bottom > top and right > left:
            kept = a[:, top:bottom, left:right].clone()
            a[:, top:bottom, left:right] = b[:, top:bottom, left:right]
            b[:, top:bottom, left:right] = kept
        elif own_share < 1.0:
            difference = (a - b).mul_(1.0 - own_share)
            a.sub_(difference)
            b.add_(difference)


def _masked(first: Tensor, second: Tensor, share: Tensor, box: Tensor) -> None:
    top, bottom, left, right = box[:, :, None, None].unbind(1)
    y = torch.arange(first.shape[-2], device=first.device)[:, None]
    x = torch.arange(first.shape[-1], device=first.device)
    swapped = ((y >= top) & (y < bottom) & (x >= left) & (x < right))[:, None]
    # a rectangle has the share of its pixels, but there nothing is blended
    cut = (bottom > top) & (right > left)
    blended = ((share < 1.0)[:, None, None] & ~cut)[:, None]
    difference = (first - second).mul_((1.0 - share).to(first.dtype)[:, None, None, None])
    one = torch.where(swapped, second, torch.where(blended, first - difference, first))
    two = torch.where(swapped, first, torch.where(blended, second + difference, second))
    first.copy_(one)
    second.copy_(two)
