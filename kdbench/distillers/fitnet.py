"""Hints for thin deep nets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.conv_regressor import conv_regressor, leads
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, pair_stages
from kdbench.models.spec import ModelOutput, ModelSpec, StageSpec


@full_precision
def fitnet_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False) -> Any:
    """``sum_i mean (r_i(F_s[i]) - F_t[i])^2`` (Romero et al., ICLR 2015), a mean over elements, a sum over stages.

    Equal to RepDistiller@b84f547 and mdistiller@a08d46f (one stage), and to OFAKD@f7bb896 (several).

    Args:
        student_maps: regressor outputs, each of the teacher map's shape.
        teacher_maps: (B, C, H, W) each, no gradient.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms = {f"stage_{i}": F.mse_loss(s, t) for i, (s, t) in enumerate(zip(student_maps, teacher_maps, strict=True))}
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("FITNET")
class FitNet(Distiller):
    """FitNets (Romero et al., ICLR 2015), trained jointly with the cross entropy as all benchmarks do.

    ``HINT_LAYER`` counts as mdistiller does: 0 is the stem, which is never a stage here, 1 the first stage.
    ``ALL_STAGES`` takes every pair of stages, from the deepest, with one regressor each (the form of OFA-KD, PAT and
    RSD). Between convolution maps the regressor is mdistiller's (``REGRESSOR: conv``), or a 1x1 convolution between
    maps of one size (``linear``, the OFA family's). With a token network on either side grids must be multiples of each
    other: a larger student grid is merged by a patch convolution, a smaller one is spread by a 1x1 convolution and a
    pixel shuffle. That is PAT's and RSD's regressor up to the order of learned weights, but for token pairs with more
    teacher tokens, where they reshape across places and this one keeps each token's place. ``INPUT_SIZE`` is accepted
    from mdistiller's files and not used. RSD's further factor 0.1 and PAT's added KD term are left out.
    """

    reference = "Romero et al. FitNets: Hints for Thin Deep Nets. ICLR 2015, arXiv 1412.6550"
    verified = "mdistiller@a08d46f, RepDistiller@b84f547; heterogeneous regressors: PAT@a7aff3f, RSD@e4c7b3d"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {
        "HINT_LAYER": 2,
        "ALL_STAGES": False,
        "REGRESSOR": "conv",
        "INPUT_SIZE": [32, 32],
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 100.0},
    }
    domains = {
        "HINT_LAYER": "[0, inf)",
        "REGRESSOR": ("conv", "linear"),
        "INPUT_SIZE": "[1, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {"HINT_LAYER": {"ALL_STAGES": (False,)}, "INPUT_SIZE": "the networks say it"}
    presets = {  # the OFA family's defaults
        "heterogeneous": {"ALL_STAGES": True, "REGRESSOR": "linear", "LOSS": {"FEAT_WEIGHT": 1.0}}
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if teacher is not None:
            pairs = _chosen(student.stages, teacher.stages, student, teacher, cfg)
            if not pairs:
                return f"hint layer {cfg.HINT_LAYER} is no stage that both networks have"
            tokens = student.token_features or teacher.token_features
            for s, t in pairs:
                if not _regressible(s.grid, t.grid, tokens, cfg.REGRESSOR):
                    return f"no regressor leads from a grid of {s.grid} to one of {t.grid}"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        student, teacher = self.student_spec, self.teacher_spec
        self.regressors = nn.ModuleList()
        for i, (s, t) in enumerate(_chosen(student.stages, teacher.stages, student, teacher, self.cfg)):
            with self.seeded(f"regressor_{i}"):
                if student.token_features or teacher.token_features:
                    regressor = _token_regressor(s, t, student.token_features, teacher.token_features)
                else:
                    regressor = _conv_regressor(s, t, self.cfg.REGRESSOR)
                self.regressors.append(regressor)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = _chosen(asked(student.stages), asked(teacher.stages), self.student_spec, self.teacher_spec, self.cfg)
        hint = fitnet_loss([r(s) for r, (s, _) in zip(self.regressors, pairs)], [t for _, t in pairs])
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "fitnet": self.cfg.LOSS.FEAT_WEIGHT * hint,
        }


def _chosen(
    student_stages: Sequence[Any], teacher_stages: Sequence[Any], student: ModelSpec, teacher: ModelSpec, cfg: CfgNode
) -> list[tuple[Any, Any]]:
    """The pairs in use: all, or the one whose student stage is the hint layer."""
    pairs = pair_stages(student_stages, teacher_stages)
    if cfg.ALL_STAGES:
        return pairs
    skipped = len(student_stages) - len(pairs)
    position = cfg.HINT_LAYER - 1 - skipped
    return pairs[position : position + 1] if position >= 0 else []


def _regressible(student: tuple[int, int], teacher: tuple[int, int], tokens: bool, kind: str) -> bool:
    if student == teacher:
        return True
    larger = student[0] >= teacher[0] and student[1] >= teacher[1]
    if tokens:
        a, b = (student, teacher) if larger else (teacher, student)
        return a[0] % b[0] == 0 and (a[0] // b[0]) * b[1] == a[1]
    return kind == "conv" and leads(student, teacher)


def _conv_regressor(student: StageSpec, teacher: StageSpec, kind: str) -> nn.Module:
    if kind == "linear":
        linear = nn.Conv2d(student.channels, teacher.channels, 1, bias=False)
        nn.init.kaiming_normal_(linear.weight, mode="fan_out", nonlinearity="relu")
        return linear
    return nn.Sequential(*conv_regressor(student, teacher), nn.ReLU())


def _token_regressor(student: StageSpec, teacher: StageSpec, student_tokens: bool, teacher_tokens: bool) -> nn.Module:
    s, t = student.channels, teacher.channels
    up = teacher.grid[0] > student.grid[0]
    k = teacher.grid[0] // student.grid[0] if up else student.grid[0] // teacher.grid[0]
    # A patch convolution of stride k is "merge k x k tokens, then a linear map"; k = 1 is a linear map of each token.
    conv = nn.Conv2d(s, t * k * k, 1) if up else nn.Conv2d(s, t, k, stride=k)
    if student_tokens and (teacher_tokens or up or k == 1):
        nn.init.trunc_normal_(conv.weight, std=0.02)
    else:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.PixelShuffle(k)) if up else conv
