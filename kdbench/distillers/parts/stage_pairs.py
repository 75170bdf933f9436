"""What the methods on stage features share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

from kdbench.distillers.parts.numerics import full_precision
from kdbench.models.backbone.pooling import adaptive_average

A = TypeVar("A")
B = TypeVar("B")


def asked(value: A | None) -> A:
    """``value``, which the method declared to need.

    Raises:
        TypeError: the network did not give it.
    """
    if value is None:
        raise TypeError("an output that the method needs is missing from the ModelOutput")
    return value


def pair_stages(student: Sequence[A], teacher: Sequence[B]) -> list[tuple[A, B]]:
    """Stages side by side, shallow to deep. Where one network has more, its shallowest are left over: depths correspond
    at the classifier's end."""
    n = min(len(student), len(teacher))
    return list(zip(student[len(student) - n :], teacher[len(teacher) - n :]))


def same_grid(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps at one grid: whichever is higher or wider is average-pooled to the other's height or width.

    Args:
        student, teacher: (B, C, H, W) each; the channels may differ.
    """
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    maps = (x if tuple(x.shape[2:]) == size else adaptive_average(x, size) for x in (student, teacher))
    return next(maps), next(maps)


@full_precision
def hierarchical_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """ReviewKD's hierarchical context loss of one stage: (B, C, H, W) twice -> 0-d.

    Mean squared error of the full maps (weight 1) and of their average pools to 4, 2 and 1 (only those below H), each
    weighing half as much as the one before; divided by the sum of the weights.
    """
    total, weights, weight = F.mse_loss(student, teacher), 1.0, 1.0
    for side in (4, 2, 1):
        if side < student.shape[2]:
            weight /= 2.0
            weights += weight
            pooled = adaptive_average(student, side), adaptive_average(teacher, side)
            total = total + weight * F.mse_loss(*pooled)
    return total / weights
