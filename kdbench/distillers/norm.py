"""NORM: many student channels match each channel of the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, HasClassifier, Losses, register_distiller
from kdbench.distillers.kd import kd_loss
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.errors import LossError
from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.feature_model.adapted import AdaptedBackbone, adapt
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def norm_loss(
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    *,
    n: int = 8,
    pool: str = "teacher",
    return_terms: bool = False,
) -> Any:
    """``sum_i N * MSE(f_s[i], tile(F_t[i]))``: channel j of the student's N C_t faces the teacher's channel j mod C_t (Liu et al.,
    ICLR 2023; NORM@c6dfc39).

    A map that is ``k`` times as high as the other, and of the ``pool``ed side, is max-pooled k x k; where sizes still differ,
    the larger is averaged to the smaller (ours; the release has no such pair).

    Args:
        student_maps: (B, N C_t, H_s, W_s) each, expanded.
        teacher_maps: (B, C_t, H_t, W_t) each, no gradient.
        n: N.
        pool: ``"teacher"`` (the release on CIFAR) or ``"student"`` (on ImageNet).
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    if pool not in ("teacher", "student"):
        raise ValueError(f"pool is 'teacher' or 'student', got {pool!r}")
    terms = {}
    for i, (student, teacher) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        if pool == "teacher":
            teacher = _max_pooled(teacher, student)
        else:
            student = _max_pooled(student, teacher)
        student, teacher = _averaged(student, teacher), _averaged(teacher, student)
        terms[f"stage_{i}"] = n * (student.unflatten(1, (n, -1)) - teacher.unsqueeze(1)).square().mean()
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("NORM")
class NORM(Distiller):
    """N-to-one representation matching (Liu et al., ICLR 2023): behind the student's last map stand an expansion to N C_t channels,
    N for each of the teacher's, and a way back beside an identity.

    Both stay in the deployed student, as they do in the release, and are counted, evaluated and exported with it. The student's
    logits are 2.5 times standardised ones in training and afterwards, the teacher's in training. In one's own loop, ``student =
    method.adapt(student, teacher)`` comes before the optimiser.

    This is the release's form for CIFAR; that for ImageNet expands stages 2 and 3 as well. Layers start as PyTorch's do. A
    student whose map is larger than the teacher's is pooled in its place, and token networks whose head is an average over
    patches take part with these on their grid (ours).
    """

    reference = "Liu, Li, Li, Yao. NORM: Knowledge Distillation via N-to-One Representation Matching. ICLR 2023"
    verified = "NORM@c6dfc39"
    teacher_needs = {"logits", "stages"}
    student_needs = {"logits"}
    adapts_student = True
    min_classes = 3  # two standardised logits are constants
    defaults = {
        "N": 8,
        "SCALE": 2.5,
        "TEMPERATURE": 4.0,
        "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.0, "FEAT_WEIGHT": 1.0},
    }
    domains = {
        "N": "[1, inf)",
        "SCALE": "(0, inf)",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}
    # the weights of cross entropy that the release's script sweeps
    presets = {f"r{int(1 / r)}": {"LOSS": {"CE_WEIGHT": r}} for r in (0.0625, 0.125, 0.25, 0.5)}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if student.head != "gap" or "region_maps" not in student.provides:
            return f"the classifier of the student {student.name} does not read the average of a map"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        self.adapted = False

    def adapt(self, student: FeatureModel, teacher: HasClassifier | None = None) -> FeatureModel:
        """The student with the expansion, which is its own from now on."""
        width = self.cfg.N * self.teacher_spec.stages[-1].channels
        with self.seeded("expansion"):
            made = adapt(student, {"kind": "expansion", "width": width, "scale": float(self.cfg.SCALE)})
        self.adapted = True
        return made

    def forward(self, student: nn.Module, teacher: Any, batch: Batch) -> Losses:
        if not (self.adapted and isinstance(student, FeatureModel) and isinstance(student.backbone, AdaptedBackbone)):
            raise LossError("NORM: the student has no expansion; train method.adapt(student, teacher) in its place")
        wide, last = student.backbone.with_expansion(student.prepare(batch.images))
        return self._terms(student.backbone.forward_head(last), wide, teacher, batch)

    def _terms(self, logits: Tensor, wide: Tensor, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg, target = self.cfg, asked(teacher.stages)[-1]
        pool = "student" if wide.shape[2] > target.shape[2] else "teacher"
        terms = {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(logits, batch),
            "norm": cfg.LOSS.FEAT_WEIGHT * norm_loss([wide], [target], n=cfg.N, pool=pool),
        }
        if cfg.LOSS.KD_WEIGHT > 0:
            terms["kd"] = cfg.LOSS.KD_WEIGHT * _kd(logits, teacher.logits, cfg.SCALE, cfg.TEMPERATURE)
        return terms


@full_precision
def _kd(logits: Tensor, teacher_logits: Tensor, scale: float, temperature: float) -> Any:
    told = scale * F.layer_norm(teacher_logits, teacher_logits.shape[1:], eps=1e-7)
    return kd_loss(logits, told, temperature=temperature)


def _max_pooled(x: Tensor, other: Tensor) -> Tensor:
    """``x`` max-pooled by how many times it is as high as ``other``."""
    times = x.shape[2] // other.shape[2]
    return F.max_pool2d(x, times) if times > 1 else x


def _averaged(x: Tensor, other: Tensor) -> Tensor:
    """``x`` at the size of the smaller of both."""
    size = min(x.shape[2], other.shape[2]), min(x.shape[3], other.shape[3])
    return x if size == (x.shape[2], x.shape[3]) else adaptive_average(x, size)
