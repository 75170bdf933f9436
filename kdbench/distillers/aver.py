"""Several teachers, averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def aver_loss(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    *,
    temperature: float = 4.0,
    mean: str = "logits",
    return_terms: bool = False,
) -> Any:
    """KD on the mean of several teachers' logits, or the mean of KD's losses on each.

    ``mean="logits"``: ``T^2 * mean_b KL(softmax(mean_k z_k / T) || softmax(z_s / T))``. ``"losses"``:
    ``T^2 * mean_b mean_k KL(softmax(z_k / T) || softmax(z_s / T))``, of which the gradient is KD's on the mean of the softened
    probabilities (You et al., KDD 2017; AVERAGE_LOSS of CA-MKD@acc8c2b).

    Args:
        student_logits: (B, K).
        teacher_logits: one (B, K) a teacher, no gradient.
        temperature: T > 0.
        mean: of what.
        return_terms: also return the terms, ``{"kl": ...}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    stacked = torch.stack(tuple(teacher_logits))
    if mean == "logits":
        loss = tempered_kl(student_logits, stacked.mean(dim=0), temperature).mean()
    else:
        loss = torch.stack([tempered_kl(student_logits, z, temperature).mean() for z in stacked]).mean()
    return with_terms(loss, {"kl": loss}, return_terms)


@register_distiller("AVER", aliases=("AVERAGE",))
class AVER(Distiller):
    """KD from the mean of several teachers (``DISTILLER.TEACHERS``), which count alike for every sample.

    ``MEAN: logits`` averages their logits; ``losses`` averages their KD losses, as CA-MKD's release does for the comparison that it
    calls AVER. With one teacher both are KD. Defaults are those of that release's ``run.sh``.
    """

    reference = (
        "You, Xu, Xu, Tao. Learning from Multiple Teacher Networks. KDD 2017; as compared by Zhang, Chen, Wang. "
        "Confidence-Aware Multi-Teacher Knowledge Distillation. ICASSP 2022"
    )
    verified = "CA-MKD@acc8c2b (MEAN: losses)"
    several_teachers = True
    defaults = {"TEMPERATURE": 4.0, "MEAN": "logits", "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0}}
    domains = {
        "TEMPERATURE": "(0, inf)",
        "MEAN": ("logits", "losses"),
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}, "MEAN": {"LOSS.KD_WEIGHT": "(0, inf)"}}

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        logits = [one.logits for one in teacher.each]
        kd = aver_loss(student.logits, logits, temperature=self.cfg.TEMPERATURE, mean=self.cfg.MEAN)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": self.cfg.LOSS.KD_WEIGHT * kd,
        }
