"""Attention transfer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, pair_stages, same_grid
from kdbench.models.spec import ModelOutput


@full_precision
def at_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, p: float = 2, return_terms: bool = False
) -> Any:
    """``sum_i mean (q(F_s[i]) - q(F_t[i]))^2``, ``q(F) = mean_c F^p`` flattened over places and L2-normalised.

    Zagoruyko and Komodakis, ICLR 2017; equal to mdistiller@a08d46f and, at equal sizes, to attention-transfer@893df54.
    The power keeps its sign for odd p. Where the sizes differ the larger map is average-pooled to the other's before
    the power.

    Args:
        student_maps, teacher_maps: (B, C, H, W) each, stage by stage; the channels may differ.
        p: the power.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms = {}
    for i, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        student, teacher = same_grid(student, teacher)
        terms[f"stage_{i}"] = F.mse_loss(_attention(student, p), _attention(teacher, p))
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("AT")
class AT(Distiller):
    """Attention Transfer (Zagoruyko and Komodakis, ICLR 2017): where a network looks, stage by stage; nothing is
    learned.

    The weight is mdistiller's and multiplies a mean; the paper's beta / 2 multiplies a norm. Token networks take part
    with their patches on the grid (ours; no release does it).
    """

    reference = "Zagoruyko, Komodakis. Paying More Attention to Attention. ICLR 2017, arXiv 1612.03928"
    verified = "mdistiller@a08d46f, RepDistiller@b84f547, attention-transfer@893df54"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {"P": 2, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1000.0}}
    domains = {"P": "[1, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}

    def vanishing(self, batch: int) -> Iterator[str]:
        pairs = pair_stages(self.student_spec.stages, self.teacher_spec.stages)
        single = sum(1 in (min(s.grid), min(t.grid)) for s, t in pairs)
        if single:
            yield f"of {len(pairs)} pairs of stages {single} are compared at one place, where attention is constant"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(student.stages), asked(teacher.stages))
        at = at_loss([s for s, _ in pairs], [t for _, t in pairs], p=self.cfg.P)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "at": self.cfg.LOSS.FEAT_WEIGHT * at,
        }


def _attention(feature_map: Tensor, p: float) -> Tensor:
    return F.normalize(feature_map.pow(p).mean(1).flatten(1), dim=1)
