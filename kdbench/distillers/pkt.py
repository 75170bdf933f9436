"""Probabilistic knowledge transfer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def pkt_loss(student_feat: Tensor, teacher_feat: Tensor, *, eps: float = 1e-7, return_terms: bool = False) -> Any:
    """``mean p_t log((p_t + eps) / (p_s + eps))`` over all B^2 pairs of samples (Passalis and Tefas, ECCV 2018).

    Features are divided by ``norm + eps``; ``p`` is ``(cosine + 1) / 2`` divided by the sum of its row, the diagonal included.
    The mean is over B^2 numbers and not over rows, so that a weight belongs to a batch size. Equal to mdistiller@a08d46f and
    RepDistiller@b84f547, but for a row of zeros, whose gradient is finite here and NaN there.

    Args:
        student_feat: (B, D).
        teacher_feat: (B, D'), no gradient.
        eps: added to norms and probabilities.
        return_terms: also return an empty dictionary.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    student, teacher = (_similarities(x.flatten(1), eps) for x in (student_feat, teacher_feat))
    loss = (teacher * ((teacher + eps).log() - (student + eps).log())).mean()
    return with_terms(loss, {}, return_terms)


@register_distiller("PKT")
class PKT(Distiller):
    """Probabilistic Knowledge Transfer (Passalis and Tefas, ECCV 2018): how probable each sample is as a neighbour of each other,
    by the cosine of penultimate features; nothing is learned.

    The weight is mdistiller's and belongs to its batches of 64: the loss is a mean over all pairs. Several processes compare the
    samples of their own share.
    """

    reference = "Passalis, Tefas. Learning Deep Representations with Probabilistic Knowledge Transfer. ECCV 2018, arXiv 1803.10837"
    kind = "relations"
    verified = "mdistiller@a08d46f, RepDistiller@b84f547"
    teacher_needs = {"penultimate"}
    student_needs = {"logits", "penultimate"}
    batch_coupled = True
    min_batch = 2  # one sample is its own only neighbour
    defaults = {"EPS": 1e-7, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 30000.0}}
    domains = {"EPS": "(0, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pkt = pkt_loss(student.penultimate, teacher.penultimate, eps=self.cfg.EPS)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "pkt": self.cfg.LOSS.FEAT_WEIGHT * pkt,
        }


def _similarities(features: Tensor, eps: float) -> Tensor:
    """(B, D) -> (B, B), rows sum to 1."""
    unit = features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + eps)
    similar = (unit @ unit.T + 1.0) / 2.0
    return similar / similar.sum(1, keepdim=True)
