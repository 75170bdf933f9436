"""Inverse probability weighting distillation, experimental."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import STANDARDIZED_PAIR, full_precision, standardize, tempered_kl, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def ipwd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    class_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    eps: float = 1e-2,
    return_terms: bool = False,
) -> Any:
    """``mean_b w_b T^2 KL(softmax(z_t / T) || softmax(z_s / T))``, ``w = 1 + H(y, class head) / H(y, KD head)``.

    The weight is the inverse of an estimated propensity: samples that the distilled head already fits, while the other
    head does not, are what the teacher transfers least of, and weigh more. It sees standardised logits and is a
    constant. Unverified: no original implementation was seen (Niu et al., NeurIPS 2022).

    Args:
        student_logits: (B, K), the distilled head.
        teacher_logits: (B, K), no gradient.
        class_logits: (B, K), a head trained on labels alone.
        target: (B,) int64.
        temperature: T > 0.
        eps: floor of both cross entropies.
        return_terms: also return ``weight``, (B,).

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    plain, distilled = (
        F.cross_entropy(standardize(z.detach()), target, reduction="none").clamp_min(eps)
        for z in (class_logits, student_logits)
    )
    weight = 1.0 + plain / distilled
    loss = (weight * tempered_kl(student_logits, teacher_logits, temperature)).mean()
    return with_terms(loss, {"weight": weight}, return_terms)


@register_distiller("IPWD")
class IPWD(Distiller):
    """Inverse Probability Weighting Distillation (Niu, Chen, Zhou and Zhang, NeurIPS 2022). Experimental and
    unverified.

    Only the paper's abstract and a summary were readable: a student with two heads, one distilled and one trained on
    labels, whose cross entropies give each sample's weight in the KD term. Open points, and what this implementation
    chose: the student's own classifier is the distilled head and is what is deployed; the other head is linear on the
    penultimate features and its gradient stops there, so that the student differs from KD by the weights alone; the
    weight is a constant, not normalised over the batch, from logits standardised as in LSKD; no warm-up; T and weights
    are KD's.
    """

    reference = (
        "Niu, Chen, Zhou, Zhang. Respecting Transfer Gap in Knowledge Distillation. NeurIPS 2022, arXiv 2210.12787"
    )
    verified = "unverified"
    student_needs = {"logits", "penultimate"}
    defaults = {"TEMPERATURE": 4.0, "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9, "HEAD_WEIGHT": 1.0}}
    domains = {
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.HEAD_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}

    def setup(self) -> None:
        with self.seeded("class_head"):
            self.class_head = nn.Linear(self.student_spec.penultimate, self.student_spec.num_classes)

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.data.num_classes == 2:
            yield f"{STANDARDIZED_PAIR}, so that its weights tell right from wrong and nothing else"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        class_logits = self.class_head(student.penultimate.detach())
        kd = ipwd_loss(student.logits, teacher.logits, class_logits, batch.labels, temperature=self.cfg.TEMPERATURE)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "head": self.cfg.LOSS.HEAD_WEIGHT * self.cross_entropy(class_logits, batch),
            "kd": self.cfg.LOSS.KD_WEIGHT * kd,
        }
