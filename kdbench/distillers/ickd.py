"""ICKD: how alike the channels are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.spec import ModelOutput


@full_precision
def ickd_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False) -> Any:
    """``sum_i |G_s - G_t|^2 / (C B)``, G a sample's C x C matrix of channels' products, its rows of unit length (Liu et al., ICCV
    2021; ICKD@403b8d3, its form for CIFAR).

    Args:
        student_maps: (B, C, H_s, W_s) each, brought to the teacher's channels.
        teacher_maps: (B, C, H_t, W_t) each, no gradient; the sizes may differ.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    terms = {f"stage_{i}": relation_distance(student, teacher) for i, (student, teacher) in enumerate(pairs)}
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, C, H, W) and (B, C, h, w) -> 0-d: the summed squared difference of the C x C matrices ``F F^T`` (flattened over places,
    with rows of unit length), divided by B C."""
    relations = [F.normalize(x.flatten(2) @ x.flatten(2).mT, dim=2) for x in (student, teacher)]
    return (relations[0] - relations[1]).square().sum() / (student.shape[0] * student.shape[1])


@register_distiller("ICKD")
class ICKD(Distiller):
    """Inter-channel correlation (ICKD-C; Liu et al., ICCV 2021): the relations of the channels of the last map, to whose number an
    embedding brings the student's.

    The release's second embedding, which is never used, is left out; layers start as PyTorch's do. Token networks take part with
    their patches on the grid, which the relations do not see (ours).
    """

    reference = (
        "Liu et al. Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge Distillation. ICCV 2021"
    )
    verified = "ICKD@403b8d3"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {"LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 4.0}}
    domains = {"LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}
    compare: ClassVar[Callable[..., Any]] = staticmethod(ickd_loss)

    def setup(self) -> None:
        self.embedding = Embedding(self.student_spec.stages[-1].channels, self.teacher_spec.stages[-1].channels)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        embedded, target = self.embedding(asked(student.stages)[-1]), asked(teacher.stages)[-1]
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "relations": self.cfg.LOSS.FEAT_WEIGHT * self.compare([embedded], [target]),
        }


class Embedding(nn.Sequential):
    """1x1 convolution and batch normalisation: (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
