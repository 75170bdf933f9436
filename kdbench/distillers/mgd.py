"""Masked generative distillation, in its form for classification."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision
from kdbench.distillers.parts.stage_pairs import asked, same_grid
from kdbench.models.spec import ModelOutput


@full_precision
def mgd_loss(generated: Tensor, teacher_map: Tensor) -> Tensor:
    """``sum (G - F_t)^2 / B`` (Yang et al., ECCV 2022, Eq. 4; a sum over channels and places, as the release has it).

    Args:
        generated: (B, C, H, W), what was generated of the student's masked map.
        teacher_map: (B, C, H, W), no gradient.

    Returns:
        0-d tensor.
    """
    return (generated - teacher_map).square().sum() / len(generated)


class Generation(nn.Module):
    """From a student's map to the teacher's: a 1x1 convolution where the widths differ, whole channels set to 0, then 3x3
    convolution, ReLU, 3x3 convolution.

    Args:
        channels: of the student.
        width: of the teacher.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(channels, width, 1) if channels != width else nn.Identity()
        self.generation = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, student_map: Tensor, noise: Tensor, mask_ratio: float) -> Tensor:
        """(B, C, H, W) -> (B, width, H, W); ``noise`` is (B, width), and numbers below ``mask_ratio`` drop their channel."""
        aligned = self.align(student_map)
        kept: Any = (noise >= mask_ratio).to(aligned.dtype)
        masked: Tensor = self.generation(aligned * kept[:, :, None, None])
        return masked


@register_distiller("MGD")
class MGD(Distiller):
    """Masked Generative Distillation (Yang et al., ECCV 2022), for classification: a small network generates the teacher's last map
    from the student's, of which some channels are dropped.

    The spatial mask of the paper is the release's form for detection. The release takes maps of one size alone; here the larger is
    average-pooled, and token networks take part with their patches on the grid (both ours).
    """

    reference = "Yang, Li, Shao, Shi, Yuan, Yuan. Masked Generative Distillation. ECCV 2022, arXiv 2205.01529"
    verified = "cls_KD@1e5d48f"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {"CE_WEIGHT": 1.0, "ALPHA": 7e-5, "MASK_RATIO": 0.15}
    domains = {"CE_WEIGHT": "[0, inf)", "ALPHA": "[0, inf)", "MASK_RATIO": "[0, 1)"}
    presets = {"cifar100": {"ALPHA": 1.2e-3}}

    def setup(self) -> None:
        student, teacher = self.student_spec.stages[-1], self.teacher_spec.stages[-1]
        with self.seeded("generation"):
            self.generation = Generation(student.channels, teacher.channels)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        mine, target = same_grid(asked(student.stages)[-1], asked(teacher.stages)[-1])
        noise = batch.generator("mgd/channels").uniform(target.shape[1]).to(target.device)
        mgd = mgd_loss(self.generation(mine, noise, self.cfg.MASK_RATIO), target)
        return {
            "ce": self.cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "mgd": self.cfg.ALPHA * mgd,
        }
