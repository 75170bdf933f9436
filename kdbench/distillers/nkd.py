"""Normalised knowledge distillation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.decoupled import normalised_rows
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def nkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    return_terms: bool = False,
) -> Any:
    """``mean_b (-p_t[y] log p_s[y] - gamma T^2 sum_{c != y} q_t[c] log q_s[c])`` (Yang et al., ICCV 2023); cls_KD@1e5d48f.

    p is the softmax at temperature 1, q that at T over the classes besides the label. Both are cross entropies, so that the
    loss is not 0 where the networks agree.

    Args:
        student_logits, teacher_logits: (B, K).
        target: (B,) int64 labels.
        gamma: weight of the second term.
        temperature: T > 0 of the second term.
        return_terms: also return ``target`` and ``non_target``; the latter holds T^2 and not gamma.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    rows = normalised_rows(student_logits, teacher_logits, target, temperature=temperature)
    own, others = (part.mean() for part in rows)
    return with_terms(own + gamma * others, {"target": own, "non_target": others}, return_terms)


@register_distiller("NKD")
class NKD(Distiller):
    """Normalised Knowledge Distillation (Yang et al., ICCV 2023): the target's soft label, and the other classes' after they are
    normalised to sum to 1.

    Of a soft label the class with the largest entry is the target. The recipe of ResNet50 -> MobileNetV1 also clips gradients at
    norm 5 (``SOLVER.CLIP_GRAD``).
    """

    reference = (
        "Yang, Zeng, Yuan, Li. From Knowledge Distillation to Self-Knowledge Distillation. ICCV 2023, arXiv 2303.13005"
    )
    verified = "cls_KD@1e5d48f"
    defaults = {"GAMMA": 1.5, "TEMPERATURE": 1.0, "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0}}
    domains = {
        "GAMMA": "[0, inf)",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    presets = {  # cls_KD: configs/distillers
        "cifar": {"GAMMA": 3.5, "TEMPERATURE": 3.0},  # ResNet34 -> ResNet18
        "deit": {"GAMMA": 1.0},  # ImageNet, DeiT III-S -> DeiT-T
    }

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.data.num_classes == 2 and self.cfg.GAMMA > 0:
            yield "with two classes its part about the classes besides the label, weighted by GAMMA, compares nothing and is 0"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        nkd = nkd_loss(student.logits, teacher.logits, batch.labels, gamma=cfg.GAMMA, temperature=cfg.TEMPERATURE)
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "nkd": cfg.LOSS.KD_WEIGHT * nkd,
        }
