"""Variational information distillation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, pair_stages, same_grid
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelOutput


@full_precision
def vid_loss(
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    log_scales: Sequence[Tensor],
    *,
    eps: float = 1e-5,
    return_terms: bool = False,
) -> Any:
    """``sum_i mean 1/2 ((mu_i - F_t[i])^2 / var_i + log var_i)``, ``var = softplus(log_scale) + eps`` (Ahn et al., CVPR 2019).

    The negative log-likelihood of the teacher's map under normal distributions around what the student predicts, without its
    constant; it may be negative. Equal to mdistiller@a08d46f and RepDistiller@b84f547, whose ``log(1 + exp(log_scale))``
    overflows in float32 above 88.

    Args:
        student_maps: regressor outputs ``mu``, (B, C, H, W) with the teacher's channels.
        teacher_maps: (B, C, H, W) each, no gradient; where the sizes differ the larger map is average-pooled.
        log_scales: (C,) each, one number a channel of the teacher.
        eps: least variance.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms = {}
    for i, (mean, target, log_scale) in enumerate(zip(student_maps, teacher_maps, log_scales, strict=True)):
        mean, target = same_grid(mean, target)
        variance = (F.softplus(log_scale) + eps).view(1, -1, 1, 1)
        terms[f"stage_{i}"] = 0.5 * ((mean - target).square() / variance + variance.log()).mean()
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("VID")
class VID(Distiller):
    """Variational Information Distillation (Ahn et al., CVPR 2019): at every stage a regressor predicts the teacher's map from the
    student's, with a learned variance for each channel.

    A regressor is three 1x1 convolutions without bias, of the teacher's width, with ReLUs between them; a larger student map is
    average-pooled before it. ``TRAIN_SCALE: False`` keeps the variances at ``INIT_PRED_VAR``, as mdistiller does, which forgets to
    hand them to its optimiser; published tables come from RepDistiller, which trains them. ``INPUT_SIZE`` is accepted from
    mdistiller's files and not used. Token networks take part with their patches on the grid (ours; no release does it).
    """

    reference = (
        "Ahn, Hu, Damianou, Lawrence, Dai. Variational Information Distillation for Knowledge Transfer. CVPR 2019, "
        "arXiv 1904.05835"
    )
    verified = "mdistiller@a08d46f, RepDistiller@b84f547"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {
        "EPS": 1e-5,
        "INIT_PRED_VAR": 5.0,
        "INPUT_SIZE": [32, 32],
        "TRAIN_SCALE": True,
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 1.0},
    }
    domains = {
        "EPS": "(0, inf)",
        "INIT_PRED_VAR": "(0, inf)",
        "INPUT_SIZE": "[1, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {"INPUT_SIZE": "the networks say it"}
    presets = {"mdistiller": {"TRAIN_SCALE": False}}

    def setup(self) -> None:
        variance = self.cfg.INIT_PRED_VAR - self.cfg.EPS
        if variance <= 0:
            raise ConfigError(
                f"VID.INIT_PRED_VAR: expects more than VID.EPS ({self.cfg.EPS}), got {self.cfg.INIT_PRED_VAR}"
            )
        start = variance + math.log(-math.expm1(-variance))  # the inverse of softplus, without overflow
        self.regressors, self.log_scales = nn.ModuleList(), nn.ParameterList()
        for i, (s, t) in enumerate(pair_stages(self.student_spec.stages, self.teacher_spec.stages)):
            with self.seeded(f"regressor_{i}"):
                self.regressors.append(_regressor(s.channels, t.channels))
            self.log_scales.append(nn.Parameter(torch.full((t.channels,), start), requires_grad=self.cfg.TRAIN_SCALE))

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(student.stages), asked(teacher.stages))
        means = [regressor(same_grid(s, t)[0]) for regressor, (s, t) in zip(self.regressors, pairs)]
        vid = vid_loss(means, [t for _, t in pairs], list(self.log_scales), eps=self.cfg.EPS)
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "vid": self.cfg.LOSS.FEAT_WEIGHT * vid,
        }


def _regressor(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
    )
