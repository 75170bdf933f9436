"""Decoupled knowledge distillation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.decoupled import decoupled_rows
from kdbench.distillers.parts.numerics import STANDARDIZED_PAIR, full_precision, standardize, with_terms
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
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
    rows = decoupled_rows(student_logits, teacher_logits, target, temperature=temperature)
    tckd, nckd = (part.mean() for part in rows)
    return with_terms(alpha * tckd + beta * nckd, {"tckd": tckd, "nckd": nckd}, return_terms)


@register_distiller("DKD")
class DKD(Distiller):
    """Decoupled Knowledge Distillation (Zhao et al., CVPR 2022): target-class and other-class knowledge weighted apart.

    ``STANDARDIZE`` feeds it standardised logits (Sun et al., CVPR 2024).
    """

    reference = "Zhao, Cui, Song, Qiu, Liang. Decoupled Knowledge Distillation. CVPR 2022"
    verified = "mdistiller@a08d46f, OFAKD@f7bb896"
    defaults = {"CE_WEIGHT": 1.0, "ALPHA": 1.0, "BETA": 8.0, "T": 4.0, "WARMUP": 20, "STANDARDIZE": False}
    domains = {"CE_WEIGHT": "[0, inf)", "ALPHA": "[0, inf)", "BETA": "[0, inf)", "T": "(0, inf)", "WARMUP": "[0, inf)"}
    presets = {
        "cifar_beta6": {"BETA": 6.0},  # mdistiller: wrn40_2->wrn16_2/wrn40_1, vgg13->vgg8/MV2
        "cifar_beta2": {"BETA": 2.0},  # mdistiller: resnet56->resnet20, resnet110->resnet32
        "imagenet": {"BETA": 0.5, "T": 1.0, "WARMUP": 1},  # mdistiller: r34->r18
        "imagenet_mv1": {"BETA": 2.0, "T": 1.0, "WARMUP": 1},  # mdistiller: r50->mv1
        "heterogeneous": {"BETA": 2.0, "T": 1.0, "WARMUP": 0},  # OFAKD's defaults
        # on standardised logits: alpha and beta times 9 (logit-standardization-KD@f6e5aa5)
        "standardized": {"ALPHA": 9.0, "BETA": 72.0, "T": 2.0, "STANDARDIZE": True},
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if cfg.STANDARDIZE and data.num_classes < 3:
            return f"{STANDARDIZED_PAIR}: leave DKD.STANDARDIZE off, or use another method"
        return super().refuses(student, teacher, cfg, data)

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.data.num_classes == 2 and self.cfg.BETA > 0:
            yield "with two classes its part about the classes besides the label, weighted by BETA, compares nothing and is 0"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        mine, taught = (standardize(z) if cfg.STANDARDIZE else z for z in (student.logits, teacher.logits))
        loss = dkd_loss(mine, taught, batch.labels, alpha=cfg.ALPHA, beta=cfg.BETA, temperature=cfg.T)
        return {
            "ce": cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "dkd": self.warmup(batch, cfg.WARMUP) * loss,
        }
