"""Logit standardisation in knowledge distillation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.decoupled import dkd_rows
from kdbench.distillers.parts.numerics import full_precision, standardize, tempered_kl, with_terms
from kdbench.models.spec import ModelOutput

__functional__ = ("standardize",)


@full_precision
def lskd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 2.0,
    eps: float = 1e-7,
    return_terms: bool = False,
) -> Any:
    """``T^2 mean_b KL(softmax(n(z_t) / T) || softmax(n(z_s) / T))`` with ``n`` = :func:`standardize`.

    Sun et al., CVPR 2024; equal to logit-standardization-KD@f6e5aa5.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), no gradient.
        temperature: T > 0.
        eps: see :func:`standardize`.
        return_terms: also return ``student_standardized`` and ``teacher_standardized``, (B, K) each.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    student, teacher = standardize(student_logits, eps), standardize(teacher_logits, eps)
    loss = tempered_kl(student, teacher, temperature).mean()
    return with_terms(loss, {"student_standardized": student, "teacher_standardized": teacher}, return_terms)


@full_precision
def lskd_dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 9.0,
    beta: float = 72.0,
    temperature: float = 2.0,
    eps: float = 1e-7,
    return_terms: bool = False,
) -> Any:
    """DKD on standardised logits: (B, K), (B, K), (B,) int64 -> 0-d, or ``(loss, terms)`` as :func:`lskd_loss`."""
    student, teacher = standardize(student_logits, eps), standardize(teacher_logits, eps)
    loss = dkd_rows(student, teacher, target, alpha=alpha, beta=beta, temperature=temperature).mean()
    return with_terms(loss, {"student_standardized": student, "teacher_standardized": teacher}, return_terms)


@register_distiller("LSKD")
class LSKD(Distiller):
    """Logit Standardization in Knowledge Distillation (Sun, Ren, Li, Wang and Cao, CVPR 2024), on plain KD.

    The cross entropy sees the raw logits. ``T`` is the base temperature of the standardised logits.
    """

    reference = "Sun et al. Logit Standardization in Knowledge Distillation. CVPR 2024, arXiv 2403.01427"
    verified = "logit-standardization-KD@f6e5aa5"
    defaults = {"TEMPERATURE": 2.0, "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 9.0}}
    min_classes = 3  # of two classes, standardised logits are constants
    domains = {"TEMPERATURE": "(0, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.KD_WEIGHT": "[0, inf)"}
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}
    presets = {"imagenet": {"LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 9.0}}}  # the release's r34_r18 file

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        kd = lskd_loss(student.logits, teacher.logits, temperature=self.cfg.TEMPERATURE)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": self.cfg.LOSS.KD_WEIGHT * kd,
        }
