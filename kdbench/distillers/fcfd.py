"""Function-consistent feature distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.grafts import bridge, grid_ratio, pooled, run_from, untouched_statistics
from kdbench.distillers.parts.numerics import full_precision, tempered_kl, with_terms
from kdbench.distillers.parts.stage_pairs import asked
from kdbench.errors import ConfigError
from kdbench.models.spec import ModelSpec


@full_precision
def fcfd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    mixed_logits: Sequence[Tensor],
    student_maps: Sequence[Tensor],
    teacher_maps: Sequence[Tensor],
    *,
    temperature: float = 4.0,
    l2_weight: float = 5.0,
    mixed_maps: Sequence[tuple[Tensor, Tensor]] = (),
    return_terms: bool = False,
) -> Any:
    """``CE + KL_T(student) + sum KL_T(mixed) + l2_weight sum MSE`` (Liu et al., ICLR 2023; FCFD@2aefb7b).

    Every KL is ``T^2 mean_b KL(teacher || .)``. The last stage adds the mean squared error of its rectified and pooled
    maps.

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K), no gradient.
        target: (B,) int64, or (B, K) soft labels.
        mixed_logits: (B, K) each, of the paths through both networks.
        student_maps: (B, C, H, W) bridged student maps in the teacher's space, one a stage, shallow to deep.
        teacher_maps: the teacher's map for each of them, no gradient.
        temperature: T > 0.
        l2_weight: weight of the squared errors.
        mixed_maps: further pairs of tensors to compare, student's side first: what mixed paths have in the teacher's
            space.
        return_terms: also return ``ce``, ``kl``, ``mixed_kl`` and ``l2`` (unweighted).

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    zero = student_logits.new_zeros(())
    pairs = [*zip(student_maps, teacher_maps, strict=True), *mixed_maps]
    pairs.append((pooled(student_maps[-1]), pooled(teacher_maps[-1])))
    terms = {
        "ce": F.cross_entropy(student_logits, target),
        "kl": tempered_kl(student_logits, teacher_logits, temperature).mean(),
        "mixed_kl": sum((tempered_kl(mixed, teacher_logits, temperature).mean() for mixed in mixed_logits), zero),
        "l2": sum((F.mse_loss(s, t) for s, t in pairs), zero),
    }
    return with_terms(terms["ce"] + terms["kl"] + terms["mixed_kl"] + l2_weight * terms["l2"], terms, return_terms)


@register_distiller("FCFD")
class FCFD(Distiller):
    """Function-Consistent Feature Distillation (Liu, Kan, Shan and Chen, ICLR 2023).

    Bridges between the two feature spaces let a student map continue through the teacher's later stages and a teacher
    map through the student's. Of the 2 (S - 1) ways to switch after a stage that is not the last, ``PATHS`` are drawn
    at every step, from the draw of the batch's sample that comes first in the epoch. Mixed paths learn from the
    teacher's logits, without cross entropy. Bridged and mixed maps in the teacher's space are compared with the
    teacher's, and so are the last stage's rectified and pooled vectors.

    A pass of foreign maps must not touch the student's running statistics. The release keeps statistics of its own for
    every path, which nothing ever reads; here such a pass leaves the statistics as they are. The release also leaves the
    teacher's batch normalisation in training mode, so that its maps, its targets and the paths through it are normalised
    by the batch: ``TEACHER_STATISTICS: batch`` does the same (but keeps the running statistics, which the release lets
    drift); the default is the teacher as it was trained. Stages are compared as the next stage receives them. Undefined
    for token networks and for stages whose grids are not equal, double or half.
    """

    reference = "Liu, Kan, Shan, Chen. Function-Consistent Feature Distillation. ICLR 2023, arXiv 2304.11832"
    verified = "FCFD@2aefb7b (the KL from its file; the sums around it were transcribed from its training loop)"
    teacher_needs = {"logits", "stages"}
    student_needs = {"logits", "stages"}
    needs_networks = True
    grad_teacher = True
    unused_parameters = True  # the bridges of paths that are not drawn
    capturable = False  # which paths are computed is drawn at every step
    defaults = {
        "TEMPERATURE": 4.0,
        "PATHS": 2,
        "WARMUP": 20,
        "TEACHER_STATISTICS": "running",
        "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 1.0, "MIXED_WEIGHT": 1.0, "FEAT_WEIGHT": 5.0},
    }
    domains = {
        "TEMPERATURE": "(0, inf)",
        "PATHS": "[1, inf)",
        "WARMUP": "[0, inf)",
        "TEACHER_STATISTICS": ("running", "batch"),
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
        "LOSS.MIXED_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
    }
    presets = {
        "res56_res20": {"LOSS": {"FEAT_WEIGHT": 0.02}},
        "imagenet": {"TEMPERATURE": 1.0, "WARMUP": 5, "LOSS": {"FEAT_WEIGHT": 0.02}},  # ResNet34 -> ResNet18
        "imagenet_r50_mv1": {"TEMPERATURE": 1.0, "WARMUP": 5},
    }

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if teacher is not None:
            if student.token_features or teacher.token_features:
                return "maps of a token network cannot continue through the other network's stages"
            for role, spec in (("student", student), ("teacher", teacher)):
                if spec.stem is None:
                    return f"the {role} {spec.name} cannot be run stage by stage"
            if len(student.stages) != len(teacher.stages) or len(student.stages) < 2:
                return f"its stages do not correspond: {len(teacher.stages)} and {len(student.stages)}"
            for s, t in zip(student.stages, teacher.stages):
                if grid_ratio(s.grid, t.grid) is None:
                    return f"no bridge leads from a grid of {s.grid} to one of {t.grid}"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        student, teacher = self.student_spec, self.teacher_spec
        ways = 2 * (len(student.stages) - 1)
        if ways < self.cfg.PATHS:
            raise ConfigError(
                f"FCFD.PATHS: expects 1 to {ways}, the ways that there are for this pair, got {self.cfg.PATHS}"
            )
        self.to_teacher, self.to_student = nn.ModuleList(), nn.ModuleList()
        for i, (s, t) in enumerate(zip(student.stages, teacher.stages)):
            with self.seeded(f"to_teacher_{i}"):
                self.to_teacher.append(bridge(s, t, "pre_activation" in teacher.provides))
            if i + 1 < len(student.stages):
                with self.seeded(f"to_student_{i}"):
                    self.to_student.append(bridge(t, s, "pre_activation" in student.provides))

    def paths(self, batch: Batch) -> list[tuple[bool, int]]:
        """The step's paths: (from the student into the teacher?, stage after which it switches)."""
        candidates = [(into, i) for into in (True, False) for i in range(len(self.to_student))]
        rng = batch.generator("fcfd/paths", host=True)  # the host draws: it decides what is computed
        draws = rng.uniform(len(candidates))[rng.index.argmin()]
        return [candidates[k] for k in draws.argsort()[: self.cfg.PATHS].tolist()]

    def forward(self, student: nn.Module, teacher: Any, batch: Batch) -> Losses:
        if self.cfg.TEACHER_STATISTICS == "running":
            return self._step(student, teacher, batch)
        with untouched_statistics(teacher, of_batch=True):
            return self._step(student, teacher, batch)

    def _step(self, student: nn.Module, teacher: Any, batch: Batch) -> Losses:
        cfg = self.cfg
        own = student(batch.images, need=self.student_needs)
        with torch.no_grad():
            target = teacher(batch.images, need=self.teacher_needs)
        student_maps, teacher_maps = asked(own.stages), asked(target.stages)
        bridged = [across(x) for across, x in zip(self.to_teacher, student_maps)]
        mixed: list[Tensor] = []
        mixed_maps: list[tuple[Tensor, Tensor]] = []
        for into_teacher, i in self.paths(batch):
            if into_teacher:
                output, maps = run_from(teacher, teacher.from_map(i, bridged[i], None), i + 1)
                mixed_maps += zip(maps, teacher_maps[i + 1 :])
                mixed_maps.append((pooled(maps[-1]), pooled(teacher_maps[-1])))
            else:
                with untouched_statistics(student):
                    start = student.from_map(i, self.to_student[i](teacher_maps[i]), None)  # type: ignore[operator]
                    output, _ = run_from(student, start, i + 1)
            mixed.append(output.logits)
        _, terms = fcfd_loss(
            own.logits,
            target.logits,
            batch.labels,
            mixed,
            bridged,
            teacher_maps,
            temperature=cfg.TEMPERATURE,
            l2_weight=1.0,
            mixed_maps=mixed_maps,
            return_terms=True,
        )
        return {
            "ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(own.logits, batch),
            "kd": cfg.LOSS.KD_WEIGHT * terms["kl"],
            "mixed": cfg.LOSS.MIXED_WEIGHT * terms["mixed_kl"],
            "feature": cfg.LOSS.FEAT_WEIGHT * self.warmup(batch, cfg.WARMUP) * terms["l2"],
        }
