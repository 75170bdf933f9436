"""SemCKD: stages are matched sample by sample, by how alike the samples of a batch are in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.kd import kd_loss
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.stage_pairs import asked, same_grid
from kdbench.errors import LossError
from kdbench.models.spec import ModelOutput, ModelSpec

#: of the release; where nothing says how large a run's batches are
_BATCH = 64


@full_precision
def semckd_loss(
    student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], weight: Tensor, *, return_terms: bool = False
) -> Any:
    """``1 / (B S) sum_b sum_ij w[b, i, j] mean (F_s[i, j] - F_t[i, j])_b^2`` (Chen et al., AAAI 2021; SemCKD@ebe5db1,
    SimKD@2b389c3).

    Args:
        student_maps: S T maps (B, C_j, H, W), row by row: stage i brought to the shape of the teacher's stage j.
        teacher_maps: S T maps of the same shapes, no gradient.
        weight: (B, S, T), rows sum to 1 over the teacher's stages.
        return_terms: also return ``{"feature"}``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    distances = torch.stack([(s - t).square().flatten(1).mean(1) for s, t in pairs], dim=1)
    loss = (weight * distances.view_as(weight)).sum() / (weight.shape[0] * weight.shape[1])
    return with_terms(loss, {"feature": loss}, return_terms)


@register_distiller("SEMCKD")
class SemCKD(Distiller):
    """Semantic calibration (Chen et al., AAAI 2021): every student stage learns from every teacher stage through a projection,
    weighed for each sample by an attention over rows of the batch's Gram matrices, beside KD.

    The attention's first layers have an input for each sample of a batch, so that the size of the batch is part of the method: that
    of the run, in each process, or ``BATCH``. The release skips a smaller last batch; here its missing samples are alike to none
    (zeros). Layers start as PyTorch's do. Token networks take part with their patches on the grid (ours).
    """

    reference = "Chen et al. Cross-Layer Distillation with Semantic Calibration. AAAI 2021"
    verified = "SemCKD@ebe5db1, SimKD@2b389c3"
    teacher_needs = {"logits", "stages"}
    student_needs = {"logits", "stages"}
    min_batch = 2  # of one sample there is nothing to compare it with
    batch_coupled = True
    defaults = {
        "FACTOR": 4,
        "SOFT": 1.0,
        "BATCH": 0,  # 0 = the run's in each process
        "TEMPERATURE": 4.0,
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "FEAT_WEIGHT": 400.0},
    }
    domains = {
        "FACTOR": "[1, inf)",
        "SOFT": "(0, inf)",
        "BATCH": "0 or [2, inf)",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if 0 < cfg.BATCH < data.batch:
            return f"SEMCKD.BATCH is {cfg.BATCH}, and batches have {data.batch} samples; expects 0, the run's own"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        own, told = ([stage.channels for stage in spec.stages] for spec in (self.student_spec, self.teacher_spec))
        batch = self.cfg.BATCH or self.data.batch or _BATCH
        self.matching = StageMatching(own, told, batch=batch, factor=self.cfg.FACTOR, soft=self.cfg.SOFT)

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        cfg = self.cfg
        matched = self.matching(asked(student.stages), asked(teacher.stages))
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * kd_loss(student.logits, teacher.logits, temperature=cfg.TEMPERATURE),
            "semckd": cfg.LOSS.FEAT_WEIGHT * semckd_loss(*matched),
        }


class StageMatching(nn.Module):
    """Projections of every student stage to every teacher stage, and the attention between them."""

    def __init__(
        self, student: Sequence[int], teacher: Sequence[int], *, batch: int, factor: int, soft: float = 1
    ) -> None:
        super().__init__()
        self.batch, self.soft = batch, soft
        self.queries = nn.ModuleList(_embedding(batch, factor) for _ in student)
        self.keys = nn.ModuleList(_embedding(batch, factor) for _ in teacher)
        self.projections = nn.ModuleList(_projection(s, t) for s in student for t in teacher)

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """S maps and T maps (B, C, H, W) -> the S T pairs of :func:`semckd_loss`, and its (B, S, T) weight."""
        if len(student[0]) > self.batch:
            raise LossError(
                f"SEMCKD is built for batches of {self.batch}, and one has {len(student[0])}: set SEMCKD.BATCH"
            )
        sides = ((self.queries, student), (self.keys, teacher))
        queries, keys = (
            torch.stack([layer(_gram(x, self.batch)) for layer, x in zip(layers, maps)], 1) for layers, maps in sides
        )
        projected, targets = [], []
        for projection, (s, t) in zip(self.projections, product(student, teacher)):
            pooled, target = same_grid(s, t)
            projected.append(projection(pooled))
            targets.append(target)
        return projected, targets, _attention(queries, keys, self.soft)


def _embedding(batch: int, factor: int) -> nn.Sequential:
    middle, after = max(1, 2 * batch // factor), max(1, batch // factor)
    return nn.Sequential(nn.Linear(batch, middle), nn.ReLU(), nn.Linear(middle, after))


def _projection(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b, side in ((before, 2 * after, 1), (2 * after, 2 * after, 3)):
        layers += [nn.Conv2d(a, b, side, padding=side // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(2 * after, after, 1, bias=False))


@full_precision
def _gram(feature_map: Tensor, batch: int) -> Tensor:
    """(B, C, H, W) -> (B, batch): products with every sample, zeros where there is none."""
    rows = feature_map.flatten(1)
    return F.pad(rows @ rows.mT, (0, batch - len(rows)))


@full_precision
def _attention(queries: Tensor, keys: Tensor, soft: float) -> Tensor:
    return (F.normalize(queries, dim=2) @ F.normalize(keys, dim=2).mT / soft).softmax(2)
