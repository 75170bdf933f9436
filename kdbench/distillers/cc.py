"""Correlation congruence."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.models.spec import ModelOutput


@full_precision
def cc_loss(student_feat: Tensor, teacher_feat: Tensor, *, return_terms: bool = False) -> Any:
    """``mean_b sum_d delta_bd delta_(b+1)d`` over neighbours of the batch, ``delta = |student - teacher|``.

    Peng et al., ICCV 2019, in the form of RepDistiller@b84f547, which published tables use. The paper's own loss
    compares B x B correlation matrices under a Taylor-expanded Gaussian kernel; it is not this one.

    Args:
        student_feat: (B, D) embedded features.
        teacher_feat: (B, D) embedded features; the embedding is trained, so a gradient flows here too.
        return_terms: also return ``congruence``.

    Returns:
        0-d tensor, or ``(loss, terms)``.

    Raises:
        ValueError: fewer than two samples.
    """
    if len(student_feat) < 2:
        raise ValueError("correlation congruence compares neighbours and needs at least two samples")
    delta = (student_feat - teacher_feat).abs()
    loss = (delta[:-1] * delta[1:]).sum(1).mean()
    return with_terms(loss, {"congruence": loss}, return_terms)


@register_distiller("CC")
class CC(Distiller):
    """Correlation Congruence (Peng et al., ICCV 2019), RepDistiller's form, on learned embeddings of both networks.

    The value depends on the order of the batch, and the trained teacher embedding can move towards the student's.

    Nothing bounds the embeddings, so that the learning rate must fit the size of the features. Where neighbours are alike, SGD
    of momentum m is stable below ``LR = (1 + m) / (w (|f_t|^2 + |f_s|^2 + 2))``, w the ``FEAT_WEIGHT``, f the penultimate vectors.
    A teacher that was never trained lies far beyond: its running statistics (mean 0, variance 1) are those of no data, and the
    maps of a residual network in evaluation mode grow from block to block. Three fresh resnet32x4 have ``|f_t|^2`` of 42,000 to
    140,000 on random 32x32 images, a limit of 0.0023 to 0.0007, and diverge at LR 0.05 within six steps, in this form of the loss
    whoever computes it. After five batches in training mode, without any training, the first has 86, a limit of 1.1, and stays.
    """

    reference = "Peng et al. Correlation Congruence for Knowledge Distillation. ICCV 2019, arXiv 1904.01802"
    kind = "relations"
    verified = "RepDistiller@b84f547 (the authors' own repository was not seen)"
    teacher_needs = {"penultimate"}
    student_needs = {"logits", "penultimate"}
    batch_coupled = True
    min_batch = 2
    defaults = {"FEAT": {"DIM": 128}, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.02}}
    domains = {"FEAT.DIM": "[1, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}

    def setup(self) -> None:
        with self.seeded("embed_student"):
            self.embed_student = nn.Linear(self.student_spec.penultimate, self.cfg.FEAT.DIM)
        with self.seeded("embed_teacher"):
            self.embed_teacher = nn.Linear(self.teacher_spec.penultimate, self.cfg.FEAT.DIM)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cc = cc_loss(self.embed_student(student.penultimate), self.embed_teacher(teacher.penultimate))
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "cc": self.cfg.LOSS.FEAT_WEIGHT * cc,
        }
