"""Knowledge review."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, hierarchical_mse, pair_stages
from kdbench.models.spec import ModelOutput


@full_precision
def review_kd_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], *, return_terms: bool = False
) -> Any:
    """Sum over stages of the hierarchical context loss (Chen et al., CVPR 2021).

    Each stage compares the full maps and their average pools to 4, 2 and 1 (those below the height) with weights 1,
    1/2, 1/4, 1/8 in the order used, divided by the sum of the weights. Equal to ReviewKD@cede6ea and
    mdistiller@a08d46f.

    Args:
        student_maps: (B, C, H, W) each, fused and brought to the teacher's shapes; the last is the pooled vector, 1x1.
        teacher_maps: (B, C, H, W) each, no gradient.
        return_terms: also return ``stage_0`` ...

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    terms = {
        f"stage_{i}": hierarchical_mse(s, t) for i, (s, t) in enumerate(zip(student_maps, teacher_maps, strict=True))
    }
    return with_terms(torch.stack(tuple(terms.values())).sum(), terms, return_terms)


@register_distiller("REVIEWKD")
class ReviewKD(Distiller):
    """Distilling Knowledge via Knowledge Review (Chen et al., CVPR 2021): deep student stages review the teacher's
    shallow ones, through attention-based fusion (ABF), dropped afterwards.

    Levels are the stages and the pooled vector. The teacher gives its stages before the last activation where it has
    such maps; other teachers (tokens, ConvNeXt) give their stages as they are, which is ours, as is every pair with a
    token network. ``MAX_MID_CHANNEL`` acts as in the authors' release (mdistiller reads and ignores it). ``SHAPES``,
    ``OUT_SHAPES``, ``IN_CHANNELS`` and ``OUT_CHANNELS`` are accepted from mdistiller's files and derived from the
    networks instead.
    """

    reference = "Chen, Liu, Zhao, Jia. Distilling Knowledge via Knowledge Review. CVPR 2021, arXiv 2104.09044"
    verified = "ReviewKD@cede6ea, mdistiller@a08d46f"
    teacher_needs = {"stages", "penultimate"}
    student_needs = {"logits", "stages", "penultimate"}
    defaults = {
        "CE_WEIGHT": 1.0,
        "REVIEWKD_WEIGHT": 1.0,
        "WARMUP_EPOCHS": 20,
        "SHAPES": [1, 8, 16, 32],
        "OUT_SHAPES": [1, 8, 16, 32],
        "IN_CHANNELS": [64, 128, 256, 256],
        "OUT_CHANNELS": [64, 128, 256, 256],
        "MAX_MID_CHANNEL": 512,
        "STU_PREACT": False,
    }
    min_batch = 2  # the pooled vector, a map of one place, passes batch normalisation
    domains = {
        "CE_WEIGHT": "[0, inf)",
        "REVIEWKD_WEIGHT": "[0, inf)",
        "WARMUP_EPOCHS": "[0, inf)",
        "SHAPES": "[1, inf)",
        "OUT_SHAPES": "[1, inf)",
        "IN_CHANNELS": "[1, inf)",
        "OUT_CHANNELS": "[1, inf)",
        "MAX_MID_CHANNEL": "[1, inf)",
    }
    effective = {
        "SHAPES": "the networks say it",
        "OUT_SHAPES": "the networks say it",
        "IN_CHANNELS": "the networks say it",
        "OUT_CHANNELS": "the networks say it",
    }
    presets = {
        "wrn40_2_wrn16_2": {"REVIEWKD_WEIGHT": 5.0},
        "wrn40_2_wrn40_1": {"REVIEWKD_WEIGHT": 5.0},
        "res32x4_res8x4": {"REVIEWKD_WEIGHT": 5.0},
        "res32x4_shuv1": {"REVIEWKD_WEIGHT": 5.0},
        "res32x4_shuv2": {"REVIEWKD_WEIGHT": 8.0},
        "res56_res20": {"REVIEWKD_WEIGHT": 0.6},
        "res110_res32": {"REVIEWKD_WEIGHT": 1.0},
        "imagenet": {"WARMUP_EPOCHS": 1, "STU_PREACT": True},  # ResNet34 -> ResNet18
        "imagenet_r50_mv1": {
            "REVIEWKD_WEIGHT": 8.0,
            "WARMUP_EPOCHS": 1,
            "STU_PREACT": True,
            "MAX_MID_CHANNEL": 256,
        },
    }

    def setup(self) -> None:
        student, teacher = self.student_spec, self.teacher_spec
        preact = self.cfg.STU_PREACT and "pre_activation" in student.provides
        self.student_kind = "pre_activation" if preact else "stages"
        self.teacher_kind = "pre_activation" if "pre_activation" in teacher.provides else "stages"
        self.student_needs = {"logits", "penultimate", self.student_kind}
        self.teacher_needs = {"penultimate", self.teacher_kind}
        pairs = pair_stages(getattr(student, self.student_kind), getattr(teacher, self.teacher_kind))
        middle = min(self.cfg.MAX_MID_CHANNEL, student.penultimate)
        widths = [(s.channels, t.channels) for s, t in pairs] + [(student.penultimate, teacher.penultimate)]
        self.fusions = nn.ModuleList()
        for i, (s, t) in enumerate(widths):
            with self.seeded(f"fusion_{i}"):
                self.fusions.append(_Fusion(s, middle, t, fuse=i < len(pairs)))

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        pairs = pair_stages(asked(getattr(student, self.student_kind)), asked(getattr(teacher, self.teacher_kind)))
        maps = [s for s, _ in pairs] + [student.penultimate[..., None, None]]
        targets = [t for _, t in pairs] + [teacher.penultimate[..., None, None]]
        fused: list[Tensor] = []
        residual: Tensor | None = None
        for fusion, x, target in zip(reversed(self.fusions), reversed(maps), reversed(targets)):
            out, residual = fusion(x, residual, target.shape[2:])
            fused.insert(0, out)
        weight = self.cfg.REVIEWKD_WEIGHT * self.warmup(batch, self.cfg.WARMUP_EPOCHS)
        return {
            "ce": self.cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "reviewkd": weight * review_kd_loss(fused, targets),
        }


class _Fusion(nn.Module):
    """Attention-based fusion of a student map with what comes up from the deeper level."""

    def __init__(self, channels: int, middle: int, out_channels: int, fuse: bool) -> None:
        super().__init__()
        reduce = nn.Conv2d(channels, middle, 1, bias=False)
        expand = nn.Conv2d(middle, out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_uniform_(reduce.weight, a=1)
        nn.init.kaiming_uniform_(expand.weight, a=1)
        self.reduce = nn.Sequential(reduce, nn.BatchNorm2d(middle))
        self.expand = nn.Sequential(expand, nn.BatchNorm2d(out_channels))
        self.gates = nn.Sequential(nn.Conv2d(2 * middle, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(self, x: Tensor, residual: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """``x`` (B, C, H, W) and the deeper level's residual -> the output at ``size`` and this level's residual."""
        x = self.reduce(x)
        if self.gates is not None and residual is not None:
            residual = F.interpolate(residual, x.shape[2:], mode="nearest")
            gates = self.gates(torch.cat((x, residual), dim=1))
            x = x * gates[:, :1] + residual * gates[:, 1:]
        if x.shape[2:] != size:
            x = F.interpolate(x, size, mode="nearest")
        return self.expand(x), x
