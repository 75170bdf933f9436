"""Class attention transfer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.backbone.pooling import adaptive_average
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def cat_kd_loss(
    student_cams: Tensor,
    teacher_cams: Tensor,
    *,
    resolution: int = 2,
    normalize: bool = False,
    return_terms: bool = False,
) -> Any:
    """Mean squared difference of class activation maps, pooled to r x r and then normalised over their pixels if asked.

    Guo et al., CVPR 2023; equal to CAT-KD@4467073.

    Args:
        student_cams: (B, K, H_s, W_s).
        teacher_cams: (B, K, H_t, W_t), no gradient.
        resolution: r.
        normalize: divide each class's map by its L2 norm.
        return_terms: also return ``cat``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    maps = [adaptive_average(cams, resolution).flatten(2) for cams in (student_cams, teacher_cams)]
    if normalize:
        maps = [F.normalize(each, dim=2) for each in maps]
    loss = F.mse_loss(maps[0], maps[1])
    return with_terms(loss, {"cat": loss}, return_terms)


@register_distiller("CATKD")
class CATKD(Distiller):
    """Class Attention Transfer (Guo et al., CVPR 2023): ``CE + beta * L``, no KD term.

    The release turns both classifiers into 1x1 convolutions without bias and deploys the student so; here the class
    activation maps leave the bias out in the same way, while student and teacher keep their heads and logits. Undefined
    behind a class token, whose classifier was never trained on the patches; maps of pooled token networks are ours.
    """

    reference = "Guo et al. Class Attention Transfer Based Knowledge Distillation. CVPR 2023, arXiv 2304.12777"
    verified = "CAT-KD@4467073"
    teacher_needs = {"cams"}
    student_needs = {"logits", "cams"}
    defaults = {"RESOLUTION": 2, "NORMALIZE": False, "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 15.0}}
    domains = {"RESOLUTION": "[1, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.FEAT_WEIGHT": "[0, inf)"}
    presets = {
        "res110_res32": {"LOSS": {"FEAT_WEIGHT": 1.8}},
        "res32x4_res8x4": {"LOSS": {"FEAT_WEIGHT": 15.0}},
        "res32x4_shuv1": {"RESOLUTION": 4, "NORMALIZE": True, "LOSS": {"FEAT_WEIGHT": 600.0}},
        "res32x4_shuv2": {"RESOLUTION": 4, "NORMALIZE": True, "LOSS": {"FEAT_WEIGHT": 600.0}},
        "res50_mv2": {"NORMALIZE": True, "LOSS": {"FEAT_WEIGHT": 40.0}},
        "res56_res20": {"LOSS": {"FEAT_WEIGHT": 0.7}},
        "vgg13_mv2": {"NORMALIZE": True, "LOSS": {"FEAT_WEIGHT": 15.0}},
        "vgg13_vgg8": {"LOSS": {"FEAT_WEIGHT": 4.5}},
        "wrn40_2_shuv1": {"RESOLUTION": 4, "NORMALIZE": True, "LOSS": {"FEAT_WEIGHT": 80.0}},
        "wrn40_2_wrn16_2": {"LOSS": {"FEAT_WEIGHT": 12.0}},
        "wrn40_2_wrn40_1": {"LOSS": {"FEAT_WEIGHT": 1.5}},
        "imagenet": {"RESOLUTION": 4, "LOSS": {"FEAT_WEIGHT": 0.5}},  # ResNet34 -> ResNet18
        "imagenet_r50_mv2": {"NORMALIZE": True, "LOSS": {"FEAT_WEIGHT": 10.0}},
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        for role, spec in (("student", student), ("teacher", teacher)):
            if spec is not None and spec.head == "token":
                return (
                    f"the classifier of the {role} {spec.name} reads a class token, so it has no class activation maps"
                )
        if teacher is not None and teacher.num_classes != student.num_classes:
            return f"the teacher knows {teacher.num_classes} classes, the student {student.num_classes}"
        return super().refuses(student, teacher, cfg, data)

    def vanishing(self, batch: int) -> Iterator[str]:
        if self.cfg.NORMALIZE and self.cfg.RESOLUTION == 1:
            yield "a map of one pixel that is divided by its norm (NORMALIZE, RESOLUTION: 1) is +1 or -1 and has no gradient"

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cat = cat_kd_loss(
            asked(student.cams), asked(teacher.cams), resolution=self.cfg.RESOLUTION, normalize=self.cfg.NORMALIZE
        )
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "cat": self.cfg.LOSS.FEAT_WEIGHT * cat,
        }
