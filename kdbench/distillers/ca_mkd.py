"""CA-MKD: several teachers, weighted by how right each is about a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.aver import AVER
from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.spec import ModelOutput, ModelSpec


def confidence(logits: Sequence[Tensor], target: Tensor) -> Tensor:
    """Weights (N, B) of N teachers: ``(1 - softmax_n(CE_n)) / (N - 1)``, which add up to 1 for each sample; 1 for a single one.

    Args:
        logits: one (B, K) a teacher.
        target: (B,) labels or (B, K) soft labels.
    """
    errors = torch.stack([F.cross_entropy(z, target, reduction="none") for z in logits])
    if len(errors) == 1:
        return torch.ones_like(errors)
    return (1 - F.softmax(errors, dim=0)) / (len(errors) - 1)


@full_precision
def ca_mkd_loss(
    student_logits: Tensor,
    teacher_logits: Sequence[Tensor],
    target: Tensor,
    *,
    temperature: float = 4.0,
    return_terms: bool = False,
) -> Any:
    """``mean_n mean_b w_nb T^2 KL(softmax(z_n / T) || softmax(z_s / T))`` with the weights of :func:`confidence` from the teachers'
    own cross entropies (Zhang et al., ICASSP 2022; CA-MKD@acc8c2b, which divides by the number of teachers, too, though the
    weights of a sample add up to 1).

    Args:
        student_logits: (B, K).
        teacher_logits: one (B, K) a teacher, no gradient.
        target: (B,) labels or (B, K) soft labels.
        temperature: T > 0.
        return_terms: also return the terms, ``{"kl": ...}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    rows = torch.stack([tempered_kl(student_logits, z, temperature) for z in teacher_logits])
    loss = (confidence(teacher_logits, target) * rows).mean()
    return with_terms(loss, {"kl": loss}, return_terms)


@full_precision
def ca_mkd_feature_loss(
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    read_logits: Sequence[Tensor],
    target: Tensor,
    *,
    return_terms: bool = False,
) -> Any:
    """``mean_n mean_b v_nb mean (F_sn - F_n)^2`` with the weights of :func:`confidence` from what each teacher's classifier reads
    of the student's map; their gradient is kept (Zhang et al., ICASSP 2022; CA-MKD@acc8c2b).

    Args:
        student_maps: the student's map as each teacher's, (B, C_n, H_n, W_n).
        teacher_maps: the same shapes, no gradient.
        read_logits: one (B, K) a teacher, its classifier on ``student_maps``.
        target: (B,) labels or (B, K) soft labels.
        return_terms: also return the terms, ``{"feature": ...}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    rows = torch.stack([F.mse_loss(s, t, reduction="none").flatten(1).mean(dim=1) for s, t in pairs])
    loss = (confidence(read_logits, target) * rows).mean()
    return with_terms(loss, {"feature": loss}, return_terms)


@register_distiller("CA_MKD", aliases=("CAMKD",))
class CAMKD(Distiller):
    """Confidence-aware multi-teacher distillation (Zhang et al., ICASSP 2022): each teacher of ``DISTILLER.TEACHERS`` counts for a
    sample as much as it is right about it, in its logits and, from the second epoch on, in its last map.

    Defaults are those of the release's ``run.sh``. There every map is resized from the one before, here from the student's own; the
    results are the same where maps are of one size. Maps of token networks take part on their grid (ours). A teacher of which the
    classifier does not read the average of that map takes part with ``LOSS.FEAT_WEIGHT: 0``, by its logits alone, and only then can
    its outputs be cached.
    """

    reference = (
        "Zhang, Chen, Wang. Confidence-Aware Multi-Teacher Knowledge Distillation. ICASSP 2022, arXiv 2201.00007"
    )
    verified = "CA-MKD@acc8c2b"
    several_teachers = True
    teacher_needs = {"logits", "region_maps", "classifier"}
    student_needs = {"logits", "region_maps"}
    defaults = {
        "TEMPERATURE": 4.0,
        "FIRST_EPOCH": 2,
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "FEAT_WEIGHT": 50.0},
    }
    domains = {
        "TEMPERATURE": "(0, inf)",
        "FIRST_EPOCH": "[1, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {
        "TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"},
        "FIRST_EPOCH": {"LOSS.FEAT_WEIGHT": "(0, inf)"},
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if not cfg.LOSS.FEAT_WEIGHT:
            return AVER.refuses(student, teacher, cfg, data)  # by its logits alone
        reason = super().refuses(student, teacher, cfg, data)
        if reason is None and teacher is not None and (teacher.head != "gap" or not teacher.stages):
            reason = f"the classifier of the teacher {teacher.name} does not read the average of its last map"
        return f"{reason}; CA_MKD.LOSS.FEAT_WEIGHT=0 does without maps" if reason else None

    def setup(self) -> None:
        self.embeds = nn.ModuleList()
        if not self.cfg.LOSS.FEAT_WEIGHT:
            self.teacher_needs = self.student_needs = {"logits"}
            return
        for number, teacher in enumerate(self.teacher_specs):
            with self.seeded(f"embed_{number}"):
                conv = nn.Conv2d(self.student_spec.penultimate, teacher.penultimate, 1)
                self.embeds.append(nn.Sequential(conv, nn.BatchNorm2d(teacher.penultimate), nn.ReLU()))

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        weights, temperature = self.cfg.LOSS, self.cfg.TEMPERATURE
        kd = ca_mkd_loss(student.logits, [one.logits for one in teacher.each], batch.target, temperature=temperature)
        terms = {
            "ce": weights.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": weights.KD_WEIGHT * kd,
        }
        if weights.FEAT_WEIGHT:
            begun = float(batch.epoch >= self.cfg.FIRST_EPOCH)
            terms["feature"] = begun * weights.FEAT_WEIGHT * self._feature(student, teacher, batch)
        return terms

    def _feature(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Tensor:
        own, made, read = asked(student.region_maps), [], []
        maps = [asked(one.region_maps) for one in teacher.each]
        for embed, target, one in zip(self.embeds, maps, teacher.each, strict=True):
            height, width = target.shape[2:]
            if own.shape[2] >= height:
                fitted = adaptive_average(own, (height, width))
            else:
                fitted = F.interpolate(own, (height, width), mode="bilinear", align_corners=False)
            made.append(embed(fitted))
            weight, bias = (part.to(made[-1].dtype) for part in asked(one.classifier))
            read.append(F.linear(made[-1].mean(dim=(2, 3)), weight, bias))
        return ca_mkd_feature_loss(made, maps, read, batch.target)
