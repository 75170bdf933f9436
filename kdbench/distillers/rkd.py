"""Relational knowledge distillation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def rkd_loss(
    student_feat: Tensor,
    teacher_feat: Tensor,
    *,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    squared: bool = False,
    eps: float = 1e-12,
    return_terms: bool = False,
) -> Any:
    """Distances between pairs and angles between triples of a batch (Park et al., CVPR 2019).

    ``d_ij = sqrt(max(|x_i - x_j|^2, eps))`` with a zero diagonal, divided by the mean of its positive entries;
    ``a_ijk`` is the cosine of the angle at i between j and k. Both are compared by the smooth L1 loss, averaged over
    all B^2 and B^3 entries. Equal to mdistiller@a08d46f and RKD@0a6c3c0, the gradient at identical samples (of order
    1e12) included.

    Args:
        student_feat: (B, ...), flattened.
        teacher_feat: (B, ...), flattened, no gradient; its width may differ.
        distance_weight, angle_weight: weights of the two parts.
        squared: compare squared distances.
        eps: floor of the squared distances.
        return_terms: also return ``distance`` and ``angle``, unweighted.

    Returns:
        0-d tensor, or ``(loss, terms)``. Angles are worked out block by block, so that no tensor exceeds B^3 elements
        (or the input's own size, where that is larger).
    """
    student, teacher = student_feat.flatten(1), teacher_feat.flatten(1)
    with torch.no_grad():
        teacher_distance = _distances(teacher, squared, eps)
    distance = F.smooth_l1_loss(_distances(student, squared, eps), teacher_distance)
    angle = _angle_term(student, teacher)
    return with_terms(
        distance_weight * distance + angle_weight * angle, {"distance": distance, "angle": angle}, return_terms
    )


@register_distiller("RKD")
class RKD(Distiller):
    """Relational Knowledge Distillation (Park et al., CVPR 2019) between penultimate features; nothing is learned.

    Two identical samples in a batch have a defined value and an enormous gradient, in the release as here.
    """

    reference = "Park, Kim, Lu, Cho. Relational Knowledge Distillation. CVPR 2019, arXiv 1904.05068"
    kind = "relations"
    verified = "mdistiller@a08d46f, RKD@0a6c3c0"
    teacher_needs = {"penultimate"}
    student_needs = {"logits", "penultimate"}
    batch_coupled = True
    min_batch = 2
    defaults = {
        "DISTANCE_WEIGHT": 25.0,
        "ANGLE_WEIGHT": 50.0,
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0},
        "PDIST": {"EPSILON": 1e-12, "SQUARED": False},
    }
    domains = {
        "DISTANCE_WEIGHT": "[0, inf)",
        "ANGLE_WEIGHT": "[0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
        "PDIST.EPSILON": "(0, inf)",
    }

    def vanishing(self, batch: int) -> Iterator[str]:
        if batch == 2:
            yield "of two samples there is one distance, which is divided by itself, and no angle: both terms are constant"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        rkd = rkd_loss(
            student.penultimate,
            teacher.penultimate,
            distance_weight=cfg.DISTANCE_WEIGHT,
            angle_weight=cfg.ANGLE_WEIGHT,
            squared=cfg.PDIST.SQUARED,
            eps=cfg.PDIST.EPSILON,
        )
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "rkd": cfg.LOSS.FEAT_WEIGHT * rkd,
        }


def _distances(x: Tensor, squared: bool, eps: float) -> Tensor:
    """(B, D) -> (B, B), divided by the mean of the positive entries; the mean takes part in the gradient."""
    square = x.pow(2).sum(1)
    # Not torch.cdist: its gradient at distance 0 is 0, and the floor below would not be the reference's.
    result = (square[:, None] + square[None, :] - 2.0 * (x @ x.T)).clamp(min=eps)
    result = result if squared else result.sqrt()
    result = result.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0)
    return result / (result.sum() / (result > 0).sum().clamp(min=1))


def _angle_term(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean smooth L1 difference of the angles, over blocks of anchors whose edges take at most B^3 numbers.

    Angles from the Gram matrix would be cheaper, but cancel where samples nearly coincide.
    """
    batch, width = len(student), max(student.shape[1], teacher.shape[1])
    step = max(1, min(batch, batch * batch // width))
    total = student.new_zeros(())
    for start in range(0, batch, step):
        block = slice(start, start + step)
        if step == batch:
            total = total + _angle_sum(student, teacher, block)
        else:  # the block's edges are computed again on the way back instead of being kept
            total = total + checkpoint(
                _angle_sum, student, teacher, block, use_reentrant=False, preserve_rng_state=False
            )
    return total / batch**3


def _angle_sum(student: Tensor, teacher: Tensor, block: slice) -> Tensor:
    with torch.no_grad():
        target = _angles(teacher, block)
    return F.smooth_l1_loss(_angles(student, block), target, reduction="sum")


def _angles(x: Tensor, block: slice) -> Tensor:
    """(b, B, B): cosines at the anchors of the block."""
    edges = F.normalize(x[None] - x[block, None], dim=2)
    return edges @ edges.transpose(1, 2)
