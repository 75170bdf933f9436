"""Curriculum temperature for knowledge distillation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, kl_rows, with_terms
from kdbench.models.spec import ModelOutput

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
    instance-wise temperature of the paper is in no release.
    """

    reference = "Li et al. Curriculum Temperature for Knowledge Distillation. AAAI 2023, arXiv 2211.16231"
    verified = "CTKD@7d52522"
    defaults = {
        "T_START": 1.0, "T_END": 20.0, "LAMBDA_EPOCHS": 10, "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9},
    }  # fmt: skip
    domains = {
        "T_START": "(0, inf)",
        "T_END": "[0, inf)",
        "LAMBDA_EPOCHS": "[0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    presets = {"imagenet": {"LAMBDA_EPOCHS": 5, "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0}}}  # 120 epochs

    def setup(self) -> None:
        self.theta = nn.Parameter(torch.ones(()))

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.cfg.T_END == 0:
            yield "the temperature is T_START whatever is learned, since T_END, the width of its range, is 0"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        kd = ctkd_loss(
            student.logits,
            teacher.logits,
            self.theta,
            grl_lambda=ctkd_lambda(batch.epoch, self.cfg.LAMBDA_EPOCHS),
            t_start=self.cfg.T_START,
            t_end=self.cfg.T_END,
        )
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": self.cfg.LOSS.KD_WEIGHT * kd,
        }
