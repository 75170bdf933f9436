"""Scale decoupled distillation on NKD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from kdbench.distillers.base import Batch, Losses, register_distiller
from kdbench.distillers.parts.decoupled import normalised_rows
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.sdd import RegionDistiller, region_rows, region_weight
from kdbench.models.spec import ModelOutput


@full_precision
def sdd_nkd_loss(
    student_region_logits: Tensor,
    teacher_region_logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 8.0,
    temperature: float = 4.0,
    mask_target: bool = False,
    return_terms: bool = False,
) -> Any:
    """``1 / (N B) sum_bn w_bn (-p_t[y] log p_s[y] - gamma T^2 sum_c r_t[c] log r_s[c])`` (Wei et al., CVPR 2024).

    p is a region's softmax at temperature 1, r that at T. Equal to SDD-CVPR2024@e412036, where r is over all classes: its mask
    leaves the label in.

    Args:
        student_region_logits: (B, K, N), region 0 the whole image.
        teacher_region_logits: (B, K, N), no gradient.
        target: (B,) int64.
        gamma: weight of the second term.
        temperature: T > 0 of the second term.
        mask_target: r is over the classes besides the label, as NKD defines it.
        return_terms: also return ``region_weight``, (B, N).

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    weight = region_weight(teacher_region_logits, target)
    own, others = normalised_rows(
        region_rows(student_region_logits),
        region_rows(teacher_region_logits),
        target.unsqueeze(1).expand_as(weight),
        temperature=temperature,
        without_target=mask_target,
    )
    return with_terms((weight * (own + gamma * others)).mean(), {"region_weight": weight}, return_terms)


@register_distiller("SDD_NKD")
class SDDNKD(RegionDistiller):
    """Scale Decoupled Distillation on NKD (Wei, Luo and Luo, CVPR 2024), SD-NKD.

    ``MASK_TARGET: True`` leaves the label out of the second term, which the release means to do and does not. Its files put the
    settings into the node ``DKD``: ``BETA`` there is ``GAMMA`` here. The release replaces a loss that is not finite by 0; here the
    step is refused.
    """

    reference = "Wei, Luo, Luo. Scaled Decoupled Distillation. CVPR 2024, arXiv 2403.13512"
    verified = "SDD-CVPR2024@e412036"
    defaults = {"CE_WEIGHT": 1.0, "GAMMA": 8.0, "T": 4.0, "WARMUP": 20, "M": [1, 2, 4], "MASK_TARGET": False}
    domains = {
        "CE_WEIGHT": "[0, inf)",
        "GAMMA": "[0, inf)",
        "T": "(0, inf)",
        "WARMUP": "[0, inf)",
        "M": "[1, inf)",
    }
    presets = {"same_structure": {"M": [1, 2]}}  # the release's choice where both networks are of one design

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.data.num_classes == 2 and self.cfg.GAMMA > 0 and self.cfg.MASK_TARGET:
            yield "with two classes its part about the classes besides the label, weighted by GAMMA, compares nothing and is 0"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        nkd = sdd_nkd_loss(
            self.region_logits(student),
            self.region_logits(teacher),
            batch.labels,
            gamma=cfg.GAMMA,
            temperature=cfg.T,
            mask_target=cfg.MASK_TARGET,
        )
        return {
            "ce": cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "nkd": self.warmup(batch, cfg.WARMUP) * nkd,
        }
