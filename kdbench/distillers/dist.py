"""DIST: distillation by correlation instead of divergence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.linalg import vector_norm

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.models.spec import ModelOutput

_EPS = 1e-8


def _pearson(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Correlation along ``dim``. The eps is added to the product of the norms, as the original does; clamping it instead
    (as ``cosine_similarity`` does) differs by up to a percent on peaked distributions."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    return (a * b).sum(dim) / (vector_norm(a, dim=dim) * vector_norm(b, dim=dim) + _EPS)


@full_precision
def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 4.0,
    return_terms: bool = False,
) -> Any:
    """``beta * inter + gamma * intra`` (Huang et al., NeurIPS 2022, Eqs. 8-10); image_classification_sota@6f7a70a.

    ``inter`` is one minus the mean correlation of the rows of the two probability matrices (relations of classes within a
    sample), ``intra`` that of the columns (relations of samples within a class). Both hold T^2.

    Args:
        student_logits, teacher_logits: (B, K), B >= 2.
        beta, gamma: weights of the two terms.
        temperature: T > 0.
        return_terms: also return ``{"inter", "intra"}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.

    Raises:
        ValueError: a batch of one, in which every column is constant.
    """
    if student_logits.shape[0] < 2:
        raise ValueError("dist_loss correlates the samples of a batch and needs at least 2 of them")
    student = (student_logits / temperature).softmax(1)
    teacher = (teacher_logits / temperature).softmax(1)
    inter = temperature**2 * (1.0 - _pearson(student, teacher, 1).mean())
    intra = temperature**2 * (1.0 - _pearson(student, teacher, 0).mean())
    return with_terms(beta * inter + gamma * intra, {"inter": inter, "intra": intra}, return_terms)


@register_distiller("DIST")
class DIST(Distiller):
    """DIST (Huang et al., NeurIPS 2022): Pearson correlation within samples and within classes; statistics per process."""

    reference = "Huang, You, Wang, Qian, Xu. Knowledge Distillation from A Stronger Teacher. NeurIPS 2022"
    verified = "image_classification_sota@6f7a70a"
    min_batch = 2
    batch_coupled = True
    defaults = {"BETA": 1.0, "GAMMA": 1.0, "TEMPERATURE": 4.0, "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 2.0}}
    domains = {
        "BETA": "[0, inf)",
        "GAMMA": "[0, inf)",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}
    presets = {
        "imagenet": {"TEMPERATURE": 1.0},  # resnet_dist.yaml
        # OFAKD runs DIST at half of DIST's own weight.
        "heterogeneous": {"TEMPERATURE": 1.0, "LOSS": {"KD_WEIGHT": 1.0}},
    }

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.data.num_classes == 2 and self.cfg.BETA > 0:
            yield "with two classes a sample's correlation is +1 or -1, so that the term weighted by BETA has no gradient"
        if batch == 2 and self.cfg.GAMMA > 0:
            yield "with two samples a class's correlation is +1 or -1, so that the term weighted by GAMMA has no gradient"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        loss = dist_loss(student.logits, teacher.logits, beta=cfg.BETA, gamma=cfg.GAMMA, temperature=cfg.TEMPERATURE)
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "dist": cfg.LOSS.KD_WEIGHT * loss,
        }
