"""Teacher knowledge augmentation via perturbation, at the logit level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, kl_rows, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def tekap_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    noises: Sequence[Tensor] | Tensor,
    *,
    temperature: float = 4.0,
    noise_weight: float = 0.1,
    augmented_weight: float = 0.8,
    return_terms: bool = False,
) -> Any:
    """``T^2 [KL(z_t || z_s) + a sum_k KL(z_k || z_s)]`` with ``z_k = (1 - w) z_t + w noise_k``, batch means at T.

    Hossain et al., ICLR 2025; equal to TeKAP@279d380 (``Ours_TeKAP_L``), whose w = 0.1, a = 0.8 and 3 draws are fixed.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), no gradient.
        noises: standard normal tensors (B, K), or one tensor whose first dimension counts them.
        temperature: T > 0.
        noise_weight: w.
        augmented_weight: a.
        return_terms: also return ``teacher`` and ``augmented``, the two parts without a.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    noise = noises if isinstance(noises, Tensor) else torch.stack(tuple(noises))
    augmented = (1.0 - noise_weight) * teacher_logits + noise_weight * noise
    targets = torch.cat((teacher_logits.unsqueeze(0), augmented)) / temperature
    log_student = (student_logits / temperature).log_softmax(-1)
    parts = temperature**2 * kl_rows(targets.log_softmax(-1), log_student.expand_as(targets)).mean(1)
    plain, extra = parts[0], parts[1:].sum()
    return with_terms(plain + augmented_weight * extra, {"teacher": plain, "augmented": extra}, return_terms)


@register_distiller("TEKAP")
class TeKAP(Distiller):
    """Teacher Knowledge Augmentation via Perturbation (Hossain et al., ICLR 2025), TeKAP-L.

    The teacher and three noisy copies of it teach together, so that KD's total weight is 0.9 * 3.4. The noise is drawn
    anew for every sample and epoch.
    """

    reference = "Hossain et al. Single Teacher, Multiple Perspectives: Teacher Knowledge Augmentation. ICLR 2025"
    verified = "TeKAP@279d380"
    defaults = {
        "TEMPERATURE": 4.0,
        "NUM_AUGMENTED": 3,
        "NOISE_WEIGHT": 0.1,
        "AUGMENTED_WEIGHT": 0.8,
        "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9},
    }
    domains = {
        "TEMPERATURE": "(0, inf)",
        "NUM_AUGMENTED": "[1, inf)",
        "NOISE_WEIGHT": "[0, 1]",
        "AUGMENTED_WEIGHT": "[0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        kd = tekap_loss(
            student.logits,
            teacher.logits,
            logit_noise(teacher.logits, batch, cfg.NUM_AUGMENTED),
            temperature=cfg.TEMPERATURE,
            noise_weight=cfg.NOISE_WEIGHT,
            augmented_weight=cfg.AUGMENTED_WEIGHT,
        )
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * kd,
        }


def logit_noise(logits: Tensor, batch: Batch, copies: int) -> Tensor:
    """(copies, B, K) standard normal, keyed by sample."""
    rows, classes = logits.shape
    draws = batch.generator("tekap/logits").normal(copies * classes).to(logits)
    return draws.view(rows, copies, classes).transpose(0, 1)
