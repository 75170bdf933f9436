"""HCD: heterogeneous complementary distillation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.kd import kd_loss
from kdbench.distillers.ofa import stage_numbers
from kdbench.distillers.parts.branches import ConvBranch, initialise
from kdbench.distillers.parts.networks.hcd import ComplementaryFeatureMapper, ConvProjector
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.models.spec import ModelOutput


def _fuse(sub_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Eq. 6: add the teacher's logits to every sub-logit; (L, B, n, K) + (B, K)."""
    return sub_logits + teacher_logits.unsqueeze(1)


@full_precision
def sub_logit_kd_loss(
    student_logits: Tensor,
    sub_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    detach_target: bool = True,
    return_terms: bool = False,
) -> Any:
    """Mean over stages, sub-logits and batch of ``T^2 KL(fused sub-logit || student)`` (Xu et al., AAAI 2026, Eq. 8).

    Args:
        student_logits, teacher_logits: (B, K).
        sub_logits: (L, B, n, K), before fusion with the teacher's logits.
        temperature: T > 0.
        detach_target: knowledge flows from sub-logits to student only.
        return_terms: also return ``{"per_stage": (L,)}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    fused = _fuse(sub_logits, teacher_logits)
    fused = fused.detach() if detach_target else fused
    student = student_logits[None, :, None, :].expand_as(fused)
    per_stage = tempered_kl(student, fused, temperature).mean((1, 2))
    return with_terms(per_stage.mean(), {"per_stage": per_stage}, return_terms)


@full_precision
def sub_logit_ce_loss(
    sub_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    return_terms: bool = False,
) -> Any:
    """Mean over stages, sub-logits and batch of the cross entropy of the fused sub-logits (Eq. 9); T is 1.

    Args:
        sub_logits: (L, B, n, K), before fusion.
        teacher_logits: (B, K).
        target: (B,) labels or (B, K) soft labels.
        label_smoothing: 0 in the paper.
        return_terms: also return ``{"per_stage": (L,)}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    fused = _fuse(sub_logits, teacher_logits)
    stages, batch, n, classes = fused.shape
    target = target[None, :, None].expand(stages, batch, n, *target.shape[1:])
    flat = target.reshape(-1, classes) if target.dim() == 4 else target.reshape(-1)
    rows = F.cross_entropy(fused.reshape(-1, classes), flat, reduction="none", label_smoothing=label_smoothing)
    per_stage = rows.view(stages, -1).mean(1)
    return with_terms(per_stage.mean(), {"per_stage": per_stage}, return_terms)


@full_precision
def orthogonality_loss(
    sub_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    threshold: float = 0.5,
    mask_eps: float = 1e-6,
    mask_index: str = "target",
    fuse: bool = True,
    return_terms: bool = False,
) -> Any:
    """Mean over stages, batch and ordered pairs p != q of ``relu(cos(v_p, v_q) - threshold)^2`` (Eqs. 10-14), where v is
    a fused sub-logit whose ground-truth entry is replaced by ``-mask_eps``; 0 for n = 1.

    Args:
        sub_logits: (L, B, n, K), before fusion.
        teacher_logits: (B, K).
        target: (B,) int64 labels.
        threshold: cosines below it cost nothing.
        mask_eps: see above.
        mask_index: what is masked: the ``"target"``, the sub-logit's ``"argmax"``, or the target where ``"both"`` agree.
        fuse: add the teacher's logits first.
        return_terms: also return ``{"per_stage": (L,)}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    fused = _fuse(sub_logits, teacher_logits) if fuse else sub_logits
    n = fused.shape[2]
    labels = target[None, :, None].expand(fused.shape[:3])
    top = fused.detach().argmax(-1)
    index = top if mask_index == "argmax" else labels
    hit = torch.zeros_like(fused, dtype=torch.bool).scatter_(-1, index.unsqueeze(-1), True)
    if mask_index == "both":
        hit = hit & (top == labels).unsqueeze(-1)
    vectors = F.normalize(fused.masked_fill(hit, -mask_eps), dim=-1, eps=1e-12)
    excess = F.relu(vectors @ vectors.transpose(-1, -2) - threshold).square()
    off_diagonal = excess.sum((-1, -2)) - excess.diagonal(dim1=-2, dim2=-1).sum(-1)
    per_stage = (off_diagonal / max(n * (n - 1), 1)).mean(1)
    return with_terms(per_stage.mean(), {"per_stage": per_stage}, return_terms)


@register_distiller("HCD")
class HCD(Distiller):
    """Heterogeneous Complementary Distillation (Xu et al., AAAI 2026), after the paper's text: complementary feature
    mapper, sub-logit decoupled distillation, orthogonality. Projectors and mappers are dropped at inference.

    The weights beta = 6, lambda = omega = 1 at T = 1 are second-hand (the paper prints none). The preset ``release`` is a
    second-hand reading of the authors' unpublished code: OFA's branch as projector, sums over stages, target not detached.
    Readings of the text that the paper leaves open are options: see ``docs/methods``.
    """

    reference = "Xu et al. Heterogeneous Complementary Distillation. AAAI 2026, arXiv 2511.10942, Eqs. 2-15"
    verified = "the paper's equations (independent loop implementation); no official code seen"
    teacher_needs = {"logits", "penultimate"}
    student_needs = {"logits", "stages"}
    defaults = {
        "N": 4,
        "PROJ_DIM": 256,
        "PROJ_STRIDE": 1,
        "PROJECTOR": "conv",
        "SHARE_CFM": False,
        "CFM_HIDDEN": 0,  # 0 = the teacher's penultimate width
        "STAGES": (),  # from 1; () = all
        "TEMPERATURE": 1.0,
        "T_SQUARED": True,
        "THRESHOLD": 0.5,
        "MASK_EPS": 1e-6,
        "MASK_INDEX": "target",
        "ORTH_ON": "fused",
        "STAGE_REDUCTION": "mean",
        "DETACH_TARGET": True,
        "DETACH_STUDENT_FEATURES": False,
        "SUB_CE_SMOOTHING": 0.0,
        "LOSS": {"CE_WEIGHT": 1.0, "SUB_CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "SUB_KD_WEIGHT": 6.0, "ORTH_WEIGHT": 1.0},
    }
    domains = {
        "N": "[1, inf)",
        "PROJ_DIM": "[1, inf)",
        "PROJ_STRIDE": "[1, inf)",
        "PROJECTOR": ("conv", "sepconv"),
        "CFM_HIDDEN": "[0, inf)",
        "STAGES": "[1, inf)",
        "TEMPERATURE": "(0, inf)",
        "THRESHOLD": "[-1, 1]",
        "MASK_EPS": "[0, inf)",
        "MASK_INDEX": ("target", "argmax", "both"),
        "ORTH_ON": ("fused", "raw"),
        "STAGE_REDUCTION": ("mean", "sum"),
        "SUB_CE_SMOOTHING": "[0, 1)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.SUB_CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.SUB_KD_WEIGHT": "[0, inf)",
        "LOSS.ORTH_WEIGHT": "[0, inf)",
    }
    effective = {
        "PROJ_DIM": {"PROJECTOR": ("conv",)},
        "PROJ_STRIDE": {"PROJECTOR": ("conv",)},
        "THRESHOLD": {"LOSS.ORTH_WEIGHT": "(0, inf)"},
        "MASK_EPS": {"LOSS.ORTH_WEIGHT": "(0, inf)"},
        "MASK_INDEX": {"LOSS.ORTH_WEIGHT": "(0, inf)"},
        "ORTH_ON": {"LOSS.ORTH_WEIGHT": "(0, inf)"},
        "DETACH_TARGET": {"LOSS.SUB_KD_WEIGHT": "(0, inf)"},
        "SUB_CE_SMOOTHING": {"LOSS.SUB_CE_WEIGHT": "(0, inf)"},
    }
    presets = {
        "heterogeneous": {},
        "homogeneous32": {"TEMPERATURE": 4.0},  # ours
        "release": {  # second-hand
            "PROJECTOR": "sepconv",
            "STAGE_REDUCTION": "sum",
            "DETACH_TARGET": False,
            "SUB_CE_SMOOTHING": 0.1,
        },
    }

    def setup(self) -> None:
        cfg, spec, teacher = self.cfg, self.student_spec, self.teacher_spec
        self.stages = stage_numbers("HCD.STAGES", cfg.STAGES, len(spec.stages))
        self.projectors, self.mappers = nn.ModuleDict(), nn.ModuleDict()
        d = teacher.penultimate
        width = cfg.PROJ_DIM if cfg.PROJECTOR == "conv" else max(spec.penultimate, d)
        for number in self.stages:
            with self.seeded(f"projector{number}"):
                self.projectors[str(number)] = self._projector(number, width)
            if number == self.stages[0] or not cfg.SHARE_CFM:
                with self.seeded(f"mapper{number}"):
                    mapper = ComplementaryFeatureMapper(width + d, cfg.CFM_HIDDEN or d, cfg.N, spec.num_classes)
                    self.mappers[str(number)] = mapper if cfg.PROJECTOR == "conv" else mapper.apply(initialise)

    def _projector(self, number: int, width: int) -> nn.Module:
        channels = self.student_spec.stages[number - 1].channels
        if self.cfg.PROJECTOR == "conv":
            return ConvProjector(channels, width, self.cfg.PROJ_STRIDE)
        return ConvBranch(channels, width, deeper=len(self.student_spec.stages) - number).apply(initialise)

    def sub_logits(self, student: ModelOutput, teacher: ModelOutput) -> Tensor:
        """(L, B, n, K) sub-logits before fusion."""
        assert student.stages is not None
        found = []
        for number in self.stages:
            stage = student.stages[number - 1]
            vector = self.projectors[str(number)](stage.detach() if self.cfg.DETACH_STUDENT_FEATURES else stage)
            mapper = self.mappers[str(self.stages[0] if self.cfg.SHARE_CFM else number)]
            found.append(mapper(torch.cat((vector, teacher.penultimate.to(vector.dtype)), dim=1)))
        return torch.stack(found)

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.cfg.LOSS.ORTH_WEIGHT > 0:
            if self.cfg.N == 1:
                yield "a single sub-logit (N: 1) has no other to be orthogonal to: the term weighted by LOSS.ORTH_WEIGHT is 0"
            elif self.cfg.THRESHOLD >= 1:
                yield "no cosine exceeds THRESHOLD: 1, so that the term weighted by LOSS.ORTH_WEIGHT is 0"
            elif self.data.num_classes == 2:
                yield (
                    "with two classes and one masked, the cosine of sub-logits is +1 or -1, so that the term weighted by "
                    "LOSS.ORTH_WEIGHT has no gradient"
                )

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg, weight, labels = self.cfg, self.cfg.LOSS, batch.labels
        sub, z_t, T = self.sub_logits(student, teacher), teacher.logits, cfg.TEMPERATURE
        kd = kd_loss(student.logits, z_t, temperature=T)
        sub_kd = sub_logit_kd_loss(student.logits, sub, z_t, temperature=T, detach_target=cfg.DETACH_TARGET)
        sub_ce = sub_logit_ce_loss(sub, z_t, batch.target, label_smoothing=cfg.SUB_CE_SMOOTHING)
        orth = orthogonality_loss(
            sub,
            z_t,
            labels,
            threshold=cfg.THRESHOLD,
            mask_eps=cfg.MASK_EPS,
            mask_index=cfg.MASK_INDEX,
            fuse=cfg.ORTH_ON == "fused",
        )
        stages = len(self.stages) if cfg.STAGE_REDUCTION == "sum" else 1
        scale = 1.0 if cfg.T_SQUARED else T**-2
        return {
            "ce": weight.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "sub_ce": weight.SUB_CE_WEIGHT * stages * sub_ce,
            "kd": weight.KD_WEIGHT * scale * kd,
            "sub_kd": weight.SUB_KD_WEIGHT * stages * scale * sub_kd,
            "orth": weight.ORTH_WEIGHT * stages * orth,
        }
