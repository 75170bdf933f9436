"""Decoupled knowledge distillation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdbench.distillers._math import full_precision, with_terms
from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.models.spec import ModelOutput


def dkd_rows(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of each row, T^2 included: (..., K), (..., K), (...) -> (...), (...)."""
    mask = torch.zeros_like(student_logits, dtype=torch.bool).scatter_(-1, target.unsqueeze(-1), True)
    s_target, s_rest, s_others = _split(student_logits / temperature, target, mask)
    t_target, t_rest, t_others = _split(teacher_logits / temperature, target, mask)
    tckd = t_target.exp() * (t_target - s_target) + t_rest.exp() * (t_rest - s_rest)
    nckd = (t_others.exp() * (t_others - s_others)).masked_fill(mask, 0.0).sum(-1)
    return temperature**2 * tckd, temperature**2 * nckd


def _split(z: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p_y, log(1 - p_y) and the log-softmax over the other classes (0 at the target)."""
    z_target = z.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    lse_rest = z.masked_fill(mask, -torch.inf).logsumexp(-1)
    lse_all = torch.logaddexp(z_target, lse_rest)
    return z_target - lse_all, lse_rest - lse_all, (z - lse_rest.unsqueeze(-1)).masked_fill(mask, 0.0)


@full_precision
def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float,
    return_terms: bool = False,
) -> Any:
    """``alpha * TCKD + beta * NCKD`` (Zhao et al., CVPR 2022, Eq. 7); mdistiller@a08d46f.

    TCKD compares the binary distributions (target, all others), NCKD the distributions over the other classes alone, which
    is *not* weighted by the teacher's doubt ``1 - p_t[y]``: that decoupling is the method.

    Args:
        student_logits, teacher_logits: (B, K).
        target: (B,) int64 labels.
        alpha, beta: weights of the two terms.
        temperature: T > 0; both terms hold T^2.
        return_terms: also return ``{"tckd", "nckd"}``, unweighted.

    Returns:
        0-d tensor, mean over the batch, or ``(loss, terms)``.
    """
    tckd, nckd = (rows.mean() for rows in dkd_rows(student_logits, teacher_logits, target, temperature))
    return with_terms(alpha * tckd + beta * nckd, {"tckd": tckd, "nckd": nckd}, return_terms)


@register_distiller("DKD")
class DKD(Distiller):
    """Decoupled Knowledge Distillation (Zhao et al., CVPR 2022): target-class and other-class knowledge weighted apart."""

    reference = "Zhao, Cui, Song, Qiu, Liang. Decoupled Knowledge Distillation. CVPR 2022"
    verified = "mdistiller@a08d46f, OFAKD@f7bb896"
    defaults = {"CE_WEIGHT": 1.0, "ALPHA": 1.0, "BETA": 8.0, "T": 4.0, "WARMUP": 20}
    presets = {
        "cifar_beta6": {"BETA": 6.0},  # mdistiller: wrn40_2->wrn16_2/wrn40_1, vgg13->vgg8/MV2
        "cifar_beta2": {"BETA": 2.0},  # mdistiller: resnet56->resnet20, resnet110->resnet32
        "imagenet": {"BETA": 0.5, "T": 1.0, "WARMUP": 1},  # mdistiller: r34->r18
        "imagenet_mv1": {"BETA": 2.0, "T": 1.0, "WARMUP": 1},  # mdistiller: r50->mv1
        "heterogeneous": {"BETA": 2.0, "T": 1.0, "WARMUP": 0},  # OFAKD's defaults
    }

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        loss = dkd_loss(student.logits, teacher.logits, batch.labels, alpha=cfg.ALPHA, beta=cfg.BETA, temperature=cfg.T)
        return {
            "ce": cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "dkd": self.warmup(batch, cfg.WARMUP) * loss,
        }
