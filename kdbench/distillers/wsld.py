"""Weighted soft labels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def wsld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    return_terms: bool = False,
) -> Any:
    """``T^2 mean_b w_b (-sum_c p_t[c] log p_s[c])`` at temperature T (Zhou et al., ICLR 2021; in the form of cls_KD@1e5d48f).

    ``w_b = 1 - exp(-CE(z_s, y) / (CE(z_t, y) + 1e-7))`` is worked out at temperature 1 and has no gradient.

    A soft cross entropy, so that the loss is not 0 where the networks agree.

    Args:
        student_logits, teacher_logits: (B, K).
        target: (B,) int64 labels.
        temperature: T > 0.
        return_terms: also return ``weight``, (B,).

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    with torch.no_grad():
        own, others = (F.cross_entropy(z, target, reduction="none") for z in (student_logits, teacher_logits))
        weight = -torch.expm1(-own / (others + 1e-7))
    soft = (teacher_logits / temperature).softmax(1) * (student_logits / temperature).log_softmax(1)
    return with_terms(-(temperature**2) * (weight * soft.sum(1)).mean(), {"weight": weight}, return_terms)


@register_distiller("WSLD")
class WSLD(Distiller):
    """Weighted Soft Labels (Zhou et al., ICLR 2021): a sample counts the more, the worse the student knows it in comparison with
    the teacher.

    Of a soft label the class with the largest entry is taken (ours; the release takes hard labels only).
    """

    reference = (
        "Zhou et al. Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective. ICLR 2021"
    )
    verified = "cls_KD@1e5d48f"
    defaults = {"TEMPERATURE": 4.0, "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 2.25}}
    domains = {"TEMPERATURE": "(0, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.KD_WEIGHT": "[0, inf)"}
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}
    presets = {
        "imagenet": {"TEMPERATURE": 2.0, "LOSS": {"KD_WEIGHT": 2.5}}
    }  # cls_KD: ResNet34 -> ResNet18, ResNet50 -> MV1

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        wsld = wsld_loss(student.logits, teacher.logits, batch.labels, temperature=self.cfg.TEMPERATURE)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "wsld": self.cfg.LOSS.KD_WEIGHT * wsld,
        }
