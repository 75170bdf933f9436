"""Curriculum temperature for knowledge distillation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import STANDARDIZED_PAIR, full_precision, kl_rows, standardize, with_terms
from kdbench.models.spec import ModelOutput, ModelSpec

__functional__ = ("ctkd_lambda",)


def ctkd_lambda(epoch: float, epochs: int) -> float:
    """``-1 + (cos(pi min(e, N) / N) + 1) / 2``: from 0 down to -1 over N epochs; e = 1 in the first epoch."""
    return (math.cos(math.pi * min(epoch, epochs) / epochs) - 1.0) / 2.0 if epochs > 0 else -1.0


@full_precision
def ctkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    theta: Tensor,
    *,
    grl_lambda: float = -1.0,
    t_start: float = 1.0,
    t_end: float = 20.0,
    return_terms: bool = False,
) -> Any:
    """``T^2 mean_b KL(softmax(z_t / T) || softmax(z_s / T))`` with the learned ``T = t_start + t_end sigmoid(theta)``.

    The gradient flows through T and its square and is multiplied by ``grl_lambda`` on its way to theta; a negative
    value makes theta ascend while the student descends. Li et al., AAAI 2023; equal to CTKD@7d52522.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), no gradient.
        theta: 0-d parameter.
        grl_lambda: see :func:`ctkd_lambda`.
        t_start, t_end: lowest temperature, and the width of its range.
        return_terms: also return ``temperature``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    fixed = theta.detach()
    temperature = t_start + t_end * torch.sigmoid(fixed + grl_lambda * (theta - fixed))
    rows = kl_rows((teacher_logits / temperature).log_softmax(-1), (student_logits / temperature).log_softmax(-1))
    return with_terms(temperature**2 * rows.mean(), {"temperature": temperature}, return_terms)


@register_distiller("CTKD")
class CTKD(Distiller):
    """Curriculum Temperature for Knowledge Distillation (Li et al., AAAI 2023), the global temperature, on plain KD.

    Theta is one scalar beside the student's parameters, in the same optimiser with the same weight decay. The
    instance-wise temperature of the paper is in no release. ``STANDARDIZE`` feeds it standardised logits (Sun et al., CVPR 2024;
    logit-standardization-KD@6083e2d, whose folder CTKD always does so, without the small number in the denominator).
    """

    reference = "Li et al. Curriculum Temperature for Knowledge Distillation. AAAI 2023, arXiv 2211.16231"
    verified = "CTKD@7d52522"
    defaults = {
        "T_START": 1.0, "T_END": 20.0, "LAMBDA_EPOCHS": 10, "STANDARDIZE": False,
        "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9},
    }  # fmt: skip
    added = ("STANDARDIZE",)
    domains = {
        "T_START": "(0, inf)",
        "T_END": "[0, inf)",
        "LAMBDA_EPOCHS": "[0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    presets = {"imagenet": {"LAMBDA_EPOCHS": 5, "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0}}}  # 120 epochs

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if cfg.STANDARDIZE and data.num_classes < 3:
            return f"{STANDARDIZED_PAIR}: leave CTKD.STANDARDIZE off, or use another method"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        self.theta = nn.Parameter(torch.ones(()))

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.cfg.T_END == 0:
            yield "the temperature is T_START whatever is learned, since T_END, the width of its range, is 0"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        mine, taught = (standardize(z) if self.cfg.STANDARDIZE else z for z in (student.logits, teacher.logits))
        kd = ctkd_loss(
            mine,
            taught,
            self.theta,
            grl_lambda=ctkd_lambda(batch.epoch, self.cfg.LAMBDA_EPOCHS),
            t_start=self.cfg.T_START,
            t_end=self.cfg.T_END,
        )
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": self.cfg.LOSS.KD_WEIGHT * kd,
        }
