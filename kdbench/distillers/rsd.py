"""Redundancy suppression distillation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def rsd_loss(
    student_feat: Tensor, teacher_feat: Tensor, *, kappa: float = 0.01, eps: float = 1e-5, return_terms: bool = False
) -> Any:
    """``sum_i (P_ii - 1)^2 + kappa sum_{i != j} P_ij^2``, P the D x D cross-correlation of teacher and student
    features.

    Zhang et al., ICCV 2025; equal to RSD@e4c7b3d. Columns are standardised over the batch with the population
    deviation, to which ``eps`` is added. Sums, not means.

    Args:
        student_feat: (B, D), projected to the teacher's width.
        teacher_feat: (B, D), no gradient.
        kappa: weight of the off-diagonal part.
        eps: added to the deviations.
        return_terms: also return ``diagonal`` and ``off_diagonal`` (without kappa).

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    correlation = _standardized(teacher_feat, eps).T @ _standardized(student_feat, eps) / len(student_feat)
    own = correlation.diagonal()
    diagonal = (own - 1.0).pow(2).sum()
    # Zeroed, not subtracted: with a converged diagonal the difference of the two sums would cancel.
    off_diagonal = (correlation - own.diag_embed()).pow(2).sum()
    return with_terms(
        diagonal + kappa * off_diagonal, {"diagonal": diagonal, "off_diagonal": off_diagonal}, return_terms
    )


@register_distiller("RSD")
class RSD(Distiller):
    """Redundancy Suppression Distillation (Zhang et al., ICCV 2025): a decorrelating match of penultimate features
    through a small projector (AAD), dropped afterwards.

    The correlation is estimated on the batch, so that large batches matter. Published settings exist for CIFAR-100
    only.
    """

    reference = (
        "Zhang et al. Cross-Architecture Distillation Made Simple with Redundancy Suppression. "
        "ICCV 2025, arXiv 2507.21844"
    )
    verified = "RSD@e4c7b3d"
    teacher_needs = {"penultimate"}
    student_needs = {"logits", "penultimate"}
    batch_coupled = True
    min_batch = 2
    defaults = {"KAPPA": 0.01, "EXPANSION": 2, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.1}}
    domains = {
        "KAPPA": "[0, inf)",
        "EXPANSION": "[1, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }

    def setup(self) -> None:
        width = self.student_spec.penultimate
        hidden = int(self.cfg.EXPANSION * width)
        with self.seeded("projector"):
            self.projector = nn.Sequential(
                nn.Linear(width, hidden, bias=False),
                nn.BatchNorm1d(hidden),
                nn.GELU(),
                nn.Linear(hidden, self.teacher_spec.penultimate, bias=False),
            )
            for module in self.projector:
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02)

    def vanishing(self, batch: int) -> Iterator[str]:
        if batch == 2:
            yield "of two samples every correlation is +1 or -1, so that its term has no gradient"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        rsd = rsd_loss(self.projector(student.penultimate), teacher.penultimate, kappa=self.cfg.KAPPA)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "rsd": self.cfg.LOSS.FEAT_WEIGHT * rsd,
        }


def _standardized(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(0)
    return centred / (x.std(0, correction=0) + eps)
