"""SRRL: the student's features, judged by the teacher's classifier."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.spec import ModelOutput


@full_precision
def srrl_loss(
    student_feat: Tensor,
    cross_logits: Tensor,
    teacher_feat: Tensor,
    teacher_logits: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    return_terms: bool = False,
) -> Any:
    """``alpha mean (f_s - f_t)^2 + beta mean (z_x - z_t)^2``, both over all elements (Yang et al., ICLR 2021; KD_SRRL@d2e802f).

    The logits are raw: no softmax, no temperature.

    Args:
        student_feat: (B, D), pooled, of the connector.
        cross_logits: (B, K), the teacher's classifier on ``student_feat``.
        teacher_feat: (B, D), no gradient.
        teacher_logits: (B, K), no gradient.
        alpha, beta: weights of the two terms.
        return_terms: also return ``{"feature", "regression"}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms = {
        "feature": F.mse_loss(student_feat, teacher_feat),
        "regression": F.mse_loss(cross_logits, teacher_logits),
    }
    return with_terms(alpha * terms["feature"] + beta * terms["regression"], terms, return_terms)


@register_distiller("SRRL")
class SRRL(Distiller):
    """Softmax regression representation learning (Yang et al., ICLR 2021): a connector brings the student's last map to the
    teacher's width; its average shall equal the teacher's features, and get the same logits from the teacher's frozen classifier.

    Of the teacher it needs what is cached, and its classifier. The student's map is the one that its classifier reads, where it
    reads the average of one; else that of its last stage. Token students with their patches on the grid are ours.
    """

    reference = "Yang et al. Knowledge Distillation via Softmax Regression Representation Learning. ICLR 2021"
    verified = "KD_SRRL@d2e802f"
    teacher_needs = {"logits", "penultimate", "classifier"}
    student_needs = {"logits", "stages"}
    defaults = {"ALPHA": 1.0, "BETA": 1.0, "LOSS": {"CE_WEIGHT": 1.0}}
    domains = {"ALPHA": "[0, inf)", "BETA": "[0, inf)", "LOSS.CE_WEIGHT": "[0, inf)"}
    presets = {"cls_kd_cifar": {"BETA": 5.0}}  # cls_KD@1e5d48f, ResNet34 -> ResNet18 on CIFAR-100

    def setup(self) -> None:
        spec = self.student_spec
        # behind an average over places the penultimate vector is as wide as the map
        self.reads_map = spec.head == "gap" and "region_maps" in spec.provides
        self.student_needs = {"logits", "region_maps" if self.reads_map else "stages"}
        channels, width = (
            spec.penultimate if self.reads_map else spec.stages[-1].channels,
            self.teacher_spec.penultimate,
        )
        self.connector = Connector(channels, width)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        last = asked(student.region_maps) if self.reads_map else asked(student.stages)[-1]
        vector = self.connector(last).mean((2, 3))
        weight, bias = asked(teacher.classifier)
        _, terms = srrl_loss(
            vector, _linear(vector, weight, bias), teacher.penultimate, teacher.logits, return_terms=True
        )
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "feature": cfg.ALPHA * terms["feature"],
            "regression": cfg.BETA * terms["regression"],
        }


_linear = full_precision(F.linear)


class Connector(nn.Sequential):
    """1x1 convolution, batch normalisation, ReLU: (B, C, H, W) -> (B, D, H, W)."""

    def __init__(self, channels: int, width: int) -> None:
        conv = nn.Conv2d(channels, width, 1, bias=False)
        nn.init.normal_(conv.weight, std=math.sqrt(2.0 / width))
        super().__init__(conv, nn.BatchNorm2d(width), nn.ReLU())
