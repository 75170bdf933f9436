"""ViTKD: features of the first blocks imitated, of the last block generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def vitkd_loss(
    student_low: Sequence[Tensor],
    teacher_low: Sequence[Tensor],
    generated: Tensor,
    teacher_high: Tensor,
    masked: Tensor,
    *,
    alpha: float = 3e-5,
    beta: float = 3e-6,
    mask_ratio: float = 0.5,
    return_terms: bool = False,
) -> Any:
    """``alpha / B * sum (s_i - t_i)^2`` over the first blocks, and ``beta / (mask_ratio B) * sum over masked places (g - t)^2``
    of the last one (Yang et al., 2022; cls_KD@1e5d48f, which sums and takes no mean).

    Args:
        student_low: aligned maps of the student, (B, C, H, W) each.
        teacher_low: those of the teacher, no gradient.
        generated: (B, C, H, W), made of the student's masked map.
        teacher_high: (B, C, H, W), no gradient.
        masked: (B, 1, H, W), 1 where a place was masked.
        alpha, beta: weights of the two terms.
        mask_ratio: share of the places that are masked.
        return_terms: also return ``mimic`` and ``generation``, weighted.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    mimic = torch.stack([(s - t).square().sum() for s, t in zip(student_low, teacher_low, strict=True)]).sum()
    generation = ((generated - teacher_high).square() * masked).sum() / mask_ratio
    terms = {"mimic": alpha * mimic / len(generated), "generation": beta * generation / len(generated)}
    return with_terms(terms["mimic"] + terms["generation"], terms, return_terms)


class TokenGeneration(nn.Module):
    """The student's tokens as wide as the teacher's; of the last block's, those with the largest of uniform numbers are replaced by
    a learned one, and two 3x3 convolutions generate the teacher's of all.

    Args:
        low: (student's, teacher's) channels of the first blocks.
        high: of the last one.
    """

    def __init__(self, low: Sequence[tuple[int, int]], high: tuple[int, int]) -> None:
        super().__init__()
        self.align2 = nn.ModuleList(_align(*widths) for widths in low)
        self.align = _align(*high)
        width = high[1]
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.generation = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(
        self, low: Sequence[Tensor], high: Tensor, noise: Tensor, mask_ratio: float
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Aligned maps of the first blocks, the generated map, and (B, 1, H, W) where it was masked.

        Args:
            low: (B, C, H, W) each.
            high: (B, C, H, W).
            noise: (B, H * W), uniform.
            mask_ratio: share of the places that are masked.
        """
        kept = int(noise.shape[1] * (1 - mask_ratio))
        places = noise.argsort(dim=1).argsort(dim=1) >= kept
        masked = places.view(len(high), 1, *high.shape[2:]).to(high.dtype)
        aligned = _places(self.align, high)
        token = self.mask_token.to(aligned.dtype).view(1, -1, 1, 1)
        generated: Tensor = self.generation(aligned * (1 - masked) + token * masked)
        return [_places(align, x) for align, x in zip(self.align2, low, strict=True)], generated, masked


@register_distiller("VITKD")
class ViTKD(Distiller):
    """ViTKD (Yang et al., 2022): between transformers with equal grids; the first two blocks are imitated, the last one is
    generated from a student's of which half of the tokens are masked. The class token takes no part.

    ``DISTILLER.PRESET: blocks`` takes the maps of the paper, behind blocks 1, 2 and the last. With automatic stages the two
    shallowest stand in for the first two blocks (ours), and Swin's and Mixers' tokens take part (ours). The release adds NKD's
    terms: ``DISTILLER.TYPE: "VITKD+NKD"`` with ``DISTILLER.PART_CE_WEIGHTS: [1, 0]``.
    """

    reference = "Yang, Li, Zeng, Li, Yuan, Li. ViTKD: Practical Guidelines for ViT Feature Knowledge Distillation. arXiv 2209.02432"
    verified = "cls_KD@1e5d48f"
    teacher_needs = {"stages"}
    student_needs = {"logits", "stages"}
    defaults = {"CE_WEIGHT": 1.0, "ALPHA": 3e-5, "BETA": 3e-6, "MASK_RATIO": 0.5}
    domains = {"CE_WEIGHT": "[0, inf)", "ALPHA": "[0, inf)", "BETA": "[0, inf)", "MASK_RATIO": "(0, 1)"}
    effective = {"MASK_RATIO": {"BETA": "(0, inf)"}}
    presets = {"blocks": {"STUDENT": {"STAGES": [0, 1, -1]}, "TEACHER": {"STAGES": [0, 1, -1]}}}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if teacher is not None:
            for role, spec in (("student", student), ("teacher", teacher)):
                if not spec.token_features or len(spec.stages) < 3:
                    return f"the {role} {spec.name or spec.family} is no transformer with three stages or more"
            for s, t in zip(_taken(student.stages), _taken(teacher.stages)):
                if s.grid != t.grid:
                    return f"the student's {s.grid} tokens do not stand where the teacher's {t.grid} do"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        pairs = zip(_taken(self.student_spec.stages), _taken(self.teacher_spec.stages))
        *low, high = [(s.channels, t.channels) for s, t in pairs]
        with self.seeded("generation"):
            self.generation = TokenGeneration(low, high)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        *low, high = _taken(asked(student.stages))
        *teacher_low, teacher_high = _taken(asked(teacher.stages))
        noise = batch.generator("vitkd/tokens").uniform(high.shape[2] * high.shape[3]).to(high.device)
        made = self.generation(low, high, noise, cfg.MASK_RATIO)
        weights = {"alpha": cfg.ALPHA, "beta": cfg.BETA, "mask_ratio": cfg.MASK_RATIO}
        _, terms = vitkd_loss(made[0], teacher_low, made[1], teacher_high, made[2], **weights, return_terms=True)
        return {"ce": cfg.CE_WEIGHT * self.cross_entropy(student.logits, batch), **terms}


def _taken(stages: Sequence[Any]) -> list[Any]:
    return [*stages[:2], stages[-1]]


def _align(student: int, teacher: int) -> nn.Module:
    return nn.Linear(student, teacher) if student != teacher else nn.Identity()


def _places(align: nn.Module, feature_map: Tensor) -> Tensor:
    """A linear layer at each place of a map."""
    made: Tensor = align(feature_map.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return made
