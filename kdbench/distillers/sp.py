"""Similarity-preserving knowledge distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.spec import ModelOutput


@full_precision
def sp_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False) -> Any:
    """``sum_i |G_t - G_s|_F^2 / B^2``, where ``G = f f^T`` of the flattened maps, each row divided by its L2 norm (Tung and
    Mori, ICCV 2019). Equal to mdistiller@a08d46f and RepDistiller@b84f547, which return it with shape (1,).

    Args:
        student_maps, teacher_maps: (B, ...) each, stage by stage, of any shapes. The teacher's without gradient.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``. A sample whose map is 0 everywhere gets no gradient of its own row (of order 1e12 in
        the releases).
    """
    terms = {}
    for i, pair in enumerate(zip(student_maps, teacher_maps, strict=True)):
        student, teacher = (_similarities(x.flatten(1)) for x in pair)
        terms[f"stage_{i}"] = (teacher - student).square().mean()
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("SP")
class SP(Distiller):
    """Similarity-Preserving distillation (Tung and Mori, ICCV 2019): which samples of a batch resemble each other in the last
    stage's map; nothing is learned.

    The weight is mdistiller's. Class tokens are left out of the maps of token networks (ours; no release has any). Several
    processes compare the samples of their own share, as the releases do.
    """

    reference = "Tung, Mori. Similarity-Preserving Knowledge Distillation. ICCV 2019, arXiv 1907.09682"
    kind = "relations"
    verified = "mdistiller@a08d46f, RepDistiller@b84f547"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    batch_coupled = True
    min_batch = 2  # one sample resembles itself alone
    defaults = {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 3000.0}}
    domains = {"LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        sp = sp_loss(asked(student.stages)[-1:], asked(teacher.stages)[-1:])
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "sp": self.cfg.LOSS.FEAT_WEIGHT * sp,
        }


def _similarities(features: Tensor) -> Tensor:
    """(B, D) -> (B, B), rows of length 1, or 0."""
    gram = features @ features.T
    dead = gram.detach().abs().amax(1, keepdim=True) == 0
    return F.normalize(gram.masked_fill(dead, 0.0), dim=1)
