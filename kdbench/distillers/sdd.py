"""Scale decoupled distillation on plain KD."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.errors import ConfigError
from kdbench.models.feature_model.regions import sdd_pool
from kdbench.models.spec import ModelOutput, ModelSpec

__all__ = ["SDD", "RegionDistiller", "region_rows", "region_weight", "sdd_kd_loss", "sdd_pool"]
__functional__ = ("sdd_pool",)


def region_weight(teacher_region_logits: Tensor, target: Tensor) -> Tensor:
    """1 where the teacher's region n and its region 0 are both right or both wrong about the label, else 2.

    Args:
        teacher_region_logits: (B, K, N).
        target: (B,) int64.

    Returns:
        (B, N).
    """
    right = teacher_region_logits.argmax(1) == target.unsqueeze(1)
    return 1.0 + (right != right[:, :1]).to(teacher_region_logits)


@full_precision
def sdd_kd_loss(
    student_region_logits: Tensor,
    teacher_region_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    return_terms: bool = False,
) -> Any:
    """``1 / (N B) sum_bn w_bn T^2 KL(softmax(z_t^n / T) || softmax(z_s^n / T))`` (Wei et al., CVPR 2024).

    Equal to SDD-CVPR2024@e412036, but for its silent replacement of NaN by 0.

    Args:
        student_region_logits: (B, K, N), region 0 the whole image.
        teacher_region_logits: (B, K, N), no gradient.
        target: (B,) int64.
        temperature: T > 0.
        return_terms: also return ``region_weight``, (B, N).

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    weight = region_weight(teacher_region_logits, target)
    rows = tempered_kl(region_rows(student_region_logits), region_rows(teacher_region_logits), temperature)
    return with_terms((weight * rows).mean(), {"region_weight": weight}, return_terms)


def region_rows(region_logits: Tensor) -> Tensor:
    """(B, K, N) -> (B, N, K), laid out so that the classes are contiguous."""
    return region_logits.transpose(1, 2).contiguous()


class RegionDistiller(Distiller):
    """What SD-KD and SD-DKD share: region logits, and the pairs for which they exist.

    Heterogeneous pairs (ours) work wherever the classifier reads a mean over places (Swin, Mixer, ConvNeXt); behind a
    class token the patch tokens were never trained with the classifier, so the method is undefined.
    """

    teacher_needs = {"logits", "region_logits"}
    student_needs = {"logits", "region_logits"}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        for role, spec in (("student", student), ("teacher", teacher)):
            if spec is not None and spec.head == "token":
                return f"the classifier of the {role} {spec.name} reads a class token, which has no regions"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        scales = tuple(self.cfg.M)
        if scales not in ((1,), (1, 2), (1, 2, 4)):
            raise ConfigError(f"{self.name}.M must be [1], [1, 2] or [1, 2, 4], got {list(scales)}")
        self.regions = sum(scale**2 for scale in scales)

    def region_logits(self, output: ModelOutput) -> Tensor:
        """(B, K, N): the regions of the scales in ``M``, which come first."""
        return asked(output.region_logits)[..., : self.regions]


@register_distiller("SDD")
class SDD(RegionDistiller):
    """Scale Decoupled Distillation on KD (Wei, Luo and Luo, CVPR 2024), SD-KD."""

    reference = "Wei, Luo, Luo. Scaled Decoupled Distillation. CVPR 2024, arXiv 2403.13512"
    verified = "SDD-CVPR2024@e412036"
    defaults = {"TEMPERATURE": 4.0, "M": [1, 2, 4], "LOSS": {"CE_WEIGHT": 0.1, "KD_WEIGHT": 0.9}}
    domains = {"TEMPERATURE": "(0, inf)", "M": "[1, inf)", "LOSS.CE_WEIGHT": "[0, inf)", "LOSS.KD_WEIGHT": "[0, inf)"}
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}
    presets = {"same_structure": {"M": [1, 2]}}  # the release's choice where both networks are of one design

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        kd = sdd_kd_loss(
            self.region_logits(student),
            self.region_logits(teacher),
            batch.labels,
            temperature=self.cfg.TEMPERATURE,
        )
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": self.cfg.LOSS.KD_WEIGHT * kd,
        }
