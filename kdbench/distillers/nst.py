"""Neuron selectivity transfer."""

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
def nst_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False) -> Any:
    """Squared maximum mean discrepancy between the channels of both maps (Huang and Wang, 2017), summed over stages.

    Each channel's map is divided by its L2 norm; with ``k(u, v) = <u, v>^2``, a stage gives ``mean k(t, t') + mean k(s, s') -
    2 mean k(s, t)`` over all pairs of channels of a sample, averaged over the batch. Where the sizes differ the larger map is
    average-pooled first. Equal to mdistiller@a08d46f and RepDistiller@b84f547, which keep the products of all places of all pairs
    of channels; here there are Gram matrices, of channels or of places. Rounding may give a value just below 0.

    Args:
        student_maps, teacher_maps: (B, C, H, W) each, stage by stage; the channels may differ. The teacher's without gradient.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``. A channel that is 0 everywhere has no gradient.
    """
    terms = {}
    for i, pair in enumerate(zip(student_maps, teacher_maps, strict=True)):
        student, teacher = (F.normalize(x.flatten(2), dim=2) for x in same_grid(*pair))
        terms[f"stage_{i}"] = _discrepancy(student, teacher)
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("NST")
class NST(Distiller):
    """Neuron Selectivity Transfer (Huang and Wang, 2017): the channels of a stage as samples of a distribution over places,
    compared with the polynomial kernel of degree 2; nothing is learned.

    The weight is mdistiller's. Token networks take part with their patches on the grid (ours; no release does it).
    """

    reference = (
        "Huang, Wang. Like What You Like: Knowledge Distill via Neuron Selectivity Transfer. arXiv 1707.01219, 2017"
    )
    verified = "mdistiller@a08d46f, RepDistiller@b84f547"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 50.0}}
    domains = {"LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}

    def vanishing(self, batch: int) -> Iterator[str]:
        pairs = pair_stages(self.student_spec.stages, self.teacher_spec.stages)
        single = sum(min(s.grid[0], t.grid[0]) * min(s.grid[1], t.grid[1]) == 1 for s, t in pairs)
        if single:
            yield f"of {len(pairs)} pairs of stages {single} are compared at one place, where every channel is 1, -1 or 0"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(student.stages), asked(teacher.stages))
        nst = nst_loss([s for s, _ in pairs], [t for _, t in pairs])
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "nst": self.cfg.LOSS.FEAT_WEIGHT * nst,
        }


def _discrepancy(student: Tensor, teacher: Tensor) -> Tensor:
    """Of channels of length 1, (B, C, P) and (B, C', P) -> 0-d; by whichever products take less room."""
    if student.shape[2] ** 2 <= student.shape[1] * teacher.shape[1]:
        # sum <u, v>^2 over channels is the product of the channels' second moments
        return (_moment(student) - _moment(teacher)).square().sum((1, 2)).mean()
    return _kernel(teacher, teacher) + _kernel(student, student) - 2.0 * _kernel(student, teacher)


def _moment(channels: Tensor) -> Tensor:
    """(B, C, P) -> (B, P, P)."""
    return channels.transpose(1, 2) @ channels / channels.shape[1]


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    """Mean of ``<u, v>^2`` over samples and pairs of channels: (B, C, P) and (B, C', P) -> 0-d."""
    return (one @ other.transpose(1, 2)).square().mean()
