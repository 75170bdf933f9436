"""Knowledge distillation by softened logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import STANDARDIZED_PAIR, full_precision, standardize, tempered_kl, with_terms
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0, return_terms: bool = False
) -> Any:
    """``T^2 * mean_b KL(softmax(z_t / T) || softmax(z_s / T))`` (Hinton et al., 2015).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), no gradient.
        temperature: T > 0.
        return_terms: also return the terms, ``{"kl": ...}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    loss = tempered_kl(student_logits, teacher_logits, temperature).mean()
    return with_terms(loss, {"kl": loss}, return_terms)


@register_distiller("KD")
class KD(Distiller):
    """Knowledge Distillation (Hinton, Vinyals and Dean, 2015): cross entropy plus the KL divergence of softened logits.

    ``STANDARDIZE`` feeds it standardised logits (Sun et al., CVPR 2024); the method LSKD is that with its published weights.
    """

    reference = (
        "Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. NeurIPS workshop 2014, arXiv 1503.02531"
    )
    verified = "mdistiller@a08d46f, RepDistiller@b84f547"
    defaults = {"TEMPERATURE": 4.0, "STANDARDIZE": False, "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9}}
    domains = {"TEMPERATURE": "(0, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.KD_WEIGHT": "[0, inf)"}
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}, "STANDARDIZE": {"LOSS.KD_WEIGHT": "(0, inf)"}}
    presets = {
        "heterogeneous": {"TEMPERATURE": 1.0, "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0}},  # OFAKD's train.py
        "imagenet": {"TEMPERATURE": 1.0, "LOSS": {"CE_WEIGHT": 0.5, "KD_WEIGHT": 0.5}},  # mdistiller's r34_r18
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if cfg.STANDARDIZE and data.num_classes < 3:
            return f"{STANDARDIZED_PAIR}: leave KD.STANDARDIZE off, or use another method"
        return super().refuses(student, teacher, cfg, data)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        logits = [standardize(z) if self.cfg.STANDARDIZE else z for z in (student.logits, teacher.logits)]
        kd = kd_loss(*logits, temperature=self.cfg.TEMPERATURE)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": self.cfg.LOSS.KD_WEIGHT * kd,
        }
