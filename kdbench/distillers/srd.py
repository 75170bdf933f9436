"""A simple recipe: one linear projector, normalised features, a logarithm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, kl_rows, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def srd_loss(student_feat: Tensor, teacher_feat: Tensor, *, exponent: float = 4.0, return_terms: bool = False) -> Any:
    """``log sum_bd |s - t|^exponent`` (Miles and Mikolajczyk, AAAI 2024); equal to torchdistill@3e4373c.

    The sum is over the batch, too, and stands inside the logarithm: the gradient is that of the sum divided by it, and does not
    vanish as the features approach each other. Below the least positive number the sum is taken as that number, without a gradient.

    Args:
        student_feat, teacher_feat: (B, D), projected and normalised; the teacher's without gradient.
        exponent: of the differences, at least 1.
        return_terms: also return an empty dictionary.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    total = (student_feat - teacher_feat).abs().pow(exponent).sum()
    return with_terms(total.clamp_min(torch.finfo(total.dtype).tiny).log(), {}, return_terms)


@register_distiller("SRD")
class SRD(Distiller):
    """Simple Recipe Distillation (Miles and Mikolajczyk, AAAI 2024): the student's penultimate feature passes a linear projector,
    both features are normalised over the batch, and their differences compared by a logarithm; beside it plain KD.

    As in the release, KD's term does not hold T^2. The projector has no bias, which the normalisation takes out again.
    """

    reference = "Miles, Mikolajczyk. Understanding the Role of the Projector in Knowledge Distillation. AAAI 2024, arXiv 2303.11098"
    kind = "features"
    verified = "torchdistill@3e4373c"
    teacher_needs = {"logits", "penultimate"}
    student_needs = {"logits", "penultimate"}
    batch_coupled = True
    min_batch = 2  # one sample has no spread
    defaults = {
        "EXPONENT": 4.0,
        "TEMPERATURE": 1.0,
        "EPS": 1e-4,
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 2.0, "KD_WEIGHT": 1.0},
    }
    domains = {
        "EXPONENT": "[1, inf)",
        "TEMPERATURE": "(0, inf)",
        "EPS": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}, "EXPONENT": {"LOSS.FEAT_WEIGHT": "(0, inf)"}}

    def vanishing(self, batch: int) -> Iterator[str]:
        if batch == 2:
            yield "of two samples the normalised features are 1 and -1, so that its term on features has next to no gradient"

    def setup(self) -> None:
        self.projector = nn.Linear(self.student_spec.penultimate, self.teacher_spec.penultimate, bias=False)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        own, others = self._normalised(self.projector(student.penultimate)), self._normalised(teacher.penultimate)
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "srd": cfg.LOSS.FEAT_WEIGHT * srd_loss(own, others, exponent=cfg.EXPONENT),
            "kd": cfg.LOSS.KD_WEIGHT * _kl(student.logits, teacher.logits, cfg.TEMPERATURE),
        }

    def _normalised(self, features: Tensor) -> Tensor:
        return _over_batch(features, self.cfg.EPS)


@full_precision
def _over_batch(features: Tensor, eps: float) -> Tensor:
    return F.batch_norm(features, None, None, training=True, eps=eps)


@full_precision
def _kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Mean over the batch, without T^2."""
    return kl_rows(*((z / temperature).log_softmax(1) for z in (teacher_logits, student_logits))).mean()
