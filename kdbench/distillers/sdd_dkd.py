"""Scale decoupled distillation on DKD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from kdbench.distillers.base import Batch, Losses, register_distiller
from kdbench.distillers.parts.decoupled import dkd_rows
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.sdd import RegionDistiller, region_rows, region_weight
from kdbench.models.spec import ModelOutput


@full_precision
def sdd_dkd_loss(
    student_region_logits: Tensor,
    teacher_region_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    return_terms: bool = False,
) -> Any:
    """``1 / (N B) sum_bn w_bn DKD(z_t^n, z_s^n)`` (Wei et al., CVPR 2024; equal to SDD-CVPR2024@e412036).

    Args:
        student_region_logits: (B, K, N), region 0 the whole image.
        teacher_region_logits: (B, K, N), no gradient.
        target: (B,) int64.
        alpha, beta, temperature: as in DKD.
        return_terms: also return ``region_weight``, (B, N).

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    weight = region_weight(teacher_region_logits, target)
    rows = dkd_rows(
        region_rows(student_region_logits),
        region_rows(teacher_region_logits),
        target.unsqueeze(1).expand_as(weight),
        alpha=alpha,
        beta=beta,
        temperature=temperature,
    )
    return with_terms((weight * rows).mean(), {"region_weight": weight}, return_terms)


@register_distiller("SDD_DKD")
class SDDDKD(RegionDistiller):
    """Scale Decoupled Distillation on DKD (Wei, Luo and Luo, CVPR 2024), SD-DKD."""

    reference = "Wei, Luo, Luo. Scaled Decoupled Distillation. CVPR 2024, arXiv 2403.13512"
    verified = "SDD-CVPR2024@e412036"
    defaults = {"CE_WEIGHT": 1.0, "ALPHA": 1.0, "BETA": 8.0, "T": 4.0, "WARMUP": 20, "M": [1, 2, 4]}
    domains = {
        "CE_WEIGHT": "[0, inf)",
        "ALPHA": "[0, inf)",
        "BETA": "[0, inf)",
        "T": "(0, inf)",
        "WARMUP": "[0, inf)",
        "M": "[1, inf)",
    }
    presets = {
        "same_structure": {"M": [1, 2]},
        "imagenet": {"BETA": 0.5, "T": 1.0, "WARMUP": 1},  # ResNet34 -> ResNet18
        "imagenet_r50_mv1": {"BETA": 2.0, "T": 1.0, "WARMUP": 1},
    }

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.data.num_classes == 2 and self.cfg.BETA > 0:
            yield "with two classes its part about the classes besides the label, weighted by BETA, compares nothing and is 0"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        dkd = sdd_dkd_loss(
            self.region_logits(student),
            self.region_logits(teacher),
            batch.labels,
            alpha=cfg.ALPHA,
            beta=cfg.BETA,
            temperature=cfg.T,
        )
        return {
            "ce": cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "dkd": self.warmup(batch, cfg.WARMUP) * dkd,
        }
