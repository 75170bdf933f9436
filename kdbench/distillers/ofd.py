"""Overhaul of feature distillation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.grafts import untouched_statistics
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, pair_stages
from kdbench.errors import ConfigError
from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.spec import ModelOutput, ModelSpec

__functional__ = ("ofd_margin",)


@full_precision
def ofd_margin(bn_weight: Tensor, bn_bias: Tensor) -> Tensor:
    """Mean of the negative part of each channel's pre-ReLU response, a normal distribution N(b, w^2) (Heo et al.,
    2019).

    ``b - w phi(b / w) / Phi(-b / w)`` where ``Phi(-b / w) > 0.001``, else ``-3 w``; w = abs(weight), b = bias. Equal
    to overhaul-distillation@76344a8.

    Args:
        bn_weight, bn_bias: (C,), of the batch normalisation in front of the ReLU.

    Returns:
        (C,).
    """
    deviation = bn_weight.abs()
    ratio = bn_bias / deviation.clamp_min(torch.finfo(deviation.dtype).tiny)
    negative = torch.special.ndtr(-ratio)
    density = torch.exp(-0.5 * ratio.square()) / math.sqrt(2.0 * math.pi)
    mean = bn_bias - deviation * density / negative.clamp_min(1e-3)
    return torch.where(negative > 1e-3, mean, -3.0 * deviation)


@full_precision
def ofd_loss(
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    margins: Sequence[Tensor],
    *,
    return_terms: bool = False,
) -> Any:
    """``sum_i 2^-(n-1-i) mean_b sum (s - t')^2 [s > t' or t' > 0]`` with the margin ReLU ``t' = max(t, margin)``.

    Heo et al., ICCV 2019; equal to mdistiller@a08d46f and overhaul-distillation@76344a8. A response that only has to be
    negative is not punished for being more so. A teacher map of another size is average-pooled to the student's.

    Args:
        student_maps: (B, C, H, W) each, connector outputs before the ReLU, shallow to deep.
        teacher_maps: (B, C, H', W') each, before the ReLU, no gradient.
        margins: (C,) each, see :func:`ofd_margin`.
        return_terms: also return ``stage_0`` ..., without the powers of two.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms: dict[str, Tensor] = {}
    loss = student_maps[0].new_zeros(())
    last = len(student_maps) - 1
    for i, (student, teacher, margin) in enumerate(zip(student_maps, teacher_maps, margins, strict=True)):
        if teacher.shape[2:] != student.shape[2:]:
            teacher = adaptive_average(teacher, (student.shape[2], student.shape[3]))
        target = torch.maximum(teacher, margin.view(1, -1, 1, 1).to(teacher))
        counted = (student > target) | (target > 0)
        terms[f"stage_{i}"] = ((student - target).square() * counted).sum() / len(student)
        loss = loss + terms[f"stage_{i}"] * 2.0 ** (i - last)
    return with_terms(loss, terms, return_terms)


@register_distiller("OFD")
class OFD(Distiller):
    """A Comprehensive Overhaul of Feature Distillation (Heo et al., ICCV 2019): features before the ReLU, with margins.

    Defined where the teacher has a batch normalisation in front of a ReLU at the end of its stages, which ViT, Mixer
    and ConvNeXt have not.

    Both releases leave the teacher in training mode, so that its maps are normalised by the batch:
    ``TEACHER_STATISTICS: batch`` does the same (but keeps the running statistics, which the releases let drift); the
    default is the teacher as it was trained. mdistiller's takes the last three stages of its ImageNet networks
    (``TEACHER.STAGES``, ``STUDENT.STAGES``), the authors' all four.
    """

    reference = "Heo et al. A Comprehensive Overhaul of Feature Distillation. ICCV 2019, arXiv 1904.01866"
    verified = "mdistiller@a08d46f, overhaul-distillation@76344a8"
    teacher_needs = {"pre_activation", "bn_affine"}
    student_needs = {"logits", "pre_activation"}
    defaults = {
        "CONNECTOR": {"KERNEL_SIZE": 1},
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1e-3},
        "TEACHER_STATISTICS": "running",
    }
    added = ("TEACHER_STATISTICS",)
    domains = {
        "CONNECTOR.KERNEL_SIZE": "[1, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
        "TEACHER_STATISTICS": ("running", "batch"),
    }
    presets = {"imagenet": {"LOSS": {"FEAT_WEIGHT": 1e-4}}}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if teacher is not None and not {"pre_activation", "bn_affine"} <= teacher.provides:
            return f"the teacher {teacher.name} has no batch normalisation in front of its stages' last ReLU"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        # what the engine hands over: the teacher itself, or its outputs
        self.needs_networks = self.cfg.TEACHER_STATISTICS == "batch"
        size = self.cfg.CONNECTOR.KERNEL_SIZE
        if size % 2 == 0:
            raise ConfigError(f"OFD.CONNECTOR.KERNEL_SIZE: expects an odd number, which keeps a map's size, got {size}")
        self.connectors = nn.ModuleList()
        pairs = pair_stages(self.student_spec.pre_activation, self.teacher_spec.pre_activation)
        for i, (student, teacher) in enumerate(pairs):
            with self.seeded(f"connector_{i}"):
                conv = nn.Conv2d(student.channels, teacher.channels, size, padding=(size - 1) // 2, bias=False)
                nn.init.normal_(conv.weight, std=math.sqrt(2.0 / (size * size * teacher.channels)))
                self.connectors.append(nn.Sequential(conv, nn.BatchNorm2d(teacher.channels)))

    def forward(self, student: nn.Module, teacher: Any, batch: Batch) -> Losses:
        if self.needs_networks:
            with torch.no_grad(), untouched_statistics(teacher, of_batch=True):
                teacher = teacher(batch.images, need=self.teacher_needs)
        return super().forward(student, teacher, batch)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(student.pre_activation), asked(teacher.pre_activation))
        affine = asked(teacher.bn_affine)[-len(pairs) :]
        ofd = ofd_loss(
            [connector(s) for connector, (s, _) in zip(self.connectors, pairs)],
            [t for _, t in pairs],
            [ofd_margin(weight, bias) for weight, bias in affine],
        )
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "ofd": self.cfg.LOSS.FEAT_WEIGHT * ofd,
        }
