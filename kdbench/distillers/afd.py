"""AFD: attention decides which student stage learns from which teacher stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.kd import kd_loss
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.spec import ModelOutput


@full_precision
def afd_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], attention: Tensor, *, return_terms: bool = False
) -> Any:
    """``sum_t mean_b sum_s a[b, t, s] * mean (v_s - v_t)^2``, v the mean over channels of the squared map, the student's pooled to
    the teacher's size, of unit length (Ji et al., AAAI 2021; attention-feature-distillation@dd990d0).

    Args:
        student_maps: S maps (B, C, H, W).
        teacher_maps: T maps (B, C, H, W), no gradient.
        attention: (B, T, S), rows sum to 1 over the student's stages.
        return_terms: also return ``stage_0`` ... of the teacher.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    energies = [x.square().mean(1, keepdim=True) for x in student_maps]
    terms = {}
    for t, teacher in enumerate(teacher_maps):
        size = teacher.shape[2], teacher.shape[3]
        told = F.normalize(teacher.square().mean(1).flatten(1), dim=1)
        own = [F.normalize(adaptive_average(energy, size).flatten(1), dim=1) for energy in energies]
        distances = torch.stack([(v - told).square().mean(1) for v in own], dim=1)
        terms[f"stage_{t}"] = (attention[:, t] * distances).sum(1).mean()
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("AFD")
class AFD(Distiller):
    """Attention-based feature distillation ("Show, Attend and Distill"; Ji et al., AAAI 2021): every student stage is compared with
    every teacher stage, weighed by a learned attention, beside KD.

    The release takes the output of every block; here the stages of both networks are compared. Token networks take part with their
    patches on the grid (ours).
    """

    reference = "Ji, Heo, Park. Show, Attend and Distill: Knowledge Distillation via Attention-Based Feature Matching. AAAI 2021"
    verified = "attention-feature-distillation@dd990d0"
    teacher_needs = {"logits", "stages"}
    student_needs = {"logits", "stages"}
    min_batch = 2  # pooled vectors pass batch normalisation
    defaults = {
        "QK_DIM": 128,
        "TEMPERATURE": 4.0,
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 0.9, "FEAT_WEIGHT": 200.0},
    }
    domains = {
        "QK_DIM": "[1, inf)",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}

    def setup(self) -> None:
        own, told = ([stage.channels for stage in spec.stages] for spec in (self.student_spec, self.teacher_spec))
        self.attention = StageAttention(own, told, self.cfg.QK_DIM)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg, own, told = self.cfg, asked(student.stages), asked(teacher.stages)
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * kd_loss(student.logits, teacher.logits, temperature=cfg.TEMPERATURE),
            "afd": cfg.LOSS.FEAT_WEIGHT * afd_loss(own, told, self.attention(own, told)),
        }


class StageAttention(nn.Module):
    """Which student stages each teacher stage looks at."""

    def __init__(self, student: Sequence[int], teacher: Sequence[int], width: int) -> None:
        super().__init__()
        self.queries = nn.ModuleList(_Normed(channels, width) for channels in teacher)
        self.keys = nn.ModuleList(_Normed(channels, width) for channels in student)
        self.mix = _Normed(width, width * len(teacher))
        self.teacher_places = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(teacher), width)))
        self.student_places = nn.Parameter(nn.init.xavier_normal_(torch.empty(len(student), width)))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """S maps and T maps (B, C, H, W) -> (B, T, S), which sums to 1 over S."""
        queries = torch.stack([layer(x.mean((2, 3))) for layer, x in zip(self.queries, teacher)], dim=1)
        keys = torch.stack([layer(x.mean((2, 3))).relu() for layer, x in zip(self.keys, student)], dim=1)
        batch, stages, width = keys.shape
        keys = self.mix(keys.reshape(batch * stages, width)).reshape(batch, stages, -1, width)
        return _weights(keys, queries, self.teacher_places @ self.student_places.mT)


class _Normed(nn.Module):
    """Linear, then batch normalisation of the vectors."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear, self.bn = nn.Linear(before, after), nn.BatchNorm1d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before) -> (N, after)."""
        return self.bn(self.linear(x))


@full_precision
def _weights(keys: Tensor, queries: Tensor, places: Tensor) -> Tensor:
    """(B, S, T, q), (B, T, q) and (T, S) -> (B, T, S)."""
    scores = torch.einsum("bstq,btq->bts", keys, queries) + places
    return (scores / math.sqrt(keys.shape[3])).softmax(2)
