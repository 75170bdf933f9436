"""Transformed teacher matching."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, kl_rows, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def ttm_loss(student_logits: Tensor, teacher_logits: Tensor, *, gamma: float = 0.1, return_terms: bool = False) -> Any:
    """``mean_b KL(softmax(gamma z_t) || softmax(z_s))``: WTTM with every weight 1 (Zheng and Yang, ICLR 2024).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), no gradient.
        gamma: 1 / T, in (0, 1].
        return_terms: also return ``kl``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    loss = kl_rows((gamma * teacher_logits).log_softmax(-1), student_logits.log_softmax(-1)).mean()
    return with_terms(loss, {"kl": loss}, return_terms)


@register_distiller("TTM")
class TTM(Distiller):
    """Transformed Teacher Matching (Zheng and Yang, ICLR 2024): KD without the student's temperature.

    The paper's weights for TTM are 2.5 to 35 times WTTM's, pair by pair; the default of 45 (15 times WTTM's for
    ResNet32x4 -> ResNet8x4) is ours.
    """

    reference = "Zheng, Yang. Knowledge Distillation Based on Transformed Teacher Matching. ICLR 2024, arXiv 2402.11148"
    verified = "TTM@fe457b3 (through WTTM with unit weights)"
    defaults = {"GAMMA": 0.1, "BETA": 45.0, "LOSS": {"CE_WEIGHT": 1.0}}
    domains = {"GAMMA": "(0, 1]", "BETA": "[0, inf)", "LOSS.CE_WEIGHT": "[0, inf)"}

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "ttm": self.cfg.BETA * ttm_loss(student.logits, teacher.logits, gamma=self.cfg.GAMMA),
        }
