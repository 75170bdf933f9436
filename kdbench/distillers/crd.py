"""Contrastive representation distillation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, DataInfo, Distiller, Losses, register_distiller
from kdbench.distillers.parts.contrast import contrast, occurrences
from kdbench.distillers.parts.numerics import full_precision, with_terms
from kdbench.distillers.parts.ranks import AllRanks
from kdbench.models.spec import ModelOutput, ModelSpec


@full_precision
def crd_loss(
    student_feat: Tensor,
    teacher_feat: Tensor,
    sample_index: Tensor,
    negative_index: Tensor,
    memory_student: Tensor,
    memory_teacher: Tensor,
    *,
    temperature: float = 0.07,
    momentum: float = 0.5,
    z_student: Tensor,
    z_teacher: Tensor,
    num_data: int,
    z_is_set: bool | None = None,
    gather: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    return_terms: bool = False,
) -> Any:
    """Contrastive loss against two memory banks, which it updates (Tian, Krishnan and Isola, ICLR 2020).

    The student is scored against the teacher's bank and the teacher against the student's:
    ``x_bk = exp(<v_b, M[I_bk]> / T) / Z``, ``I_b = [sample_index_b, negatives]``, and with ``c = m / n``, m negatives,
    ``nce(x) = -mean_b [log(x_b0 / (x_b0 + c + 1e-7)) + sum_k log(c / (x_bk + c + 1e-7))]``. A negative Z is set to n
    times the mean of exp(...) of this batch and then kept; it is a constant for autograd. After scoring, in place and
    without gradient, ``M[index] <- normalise(momentum M[index] + (1 - momentum) v)``. An index that occurs twice in a
    batch is updated once, from its last occurrence. Equal to mdistiller@a08d46f and RepDistiller@b84f547 in float64
    (they hold T in float32).

    Args:
        student_feat, teacher_feat: (B, D) L2-normalised embeddings, both with gradient.
        sample_index: (B,) int64 rows of the banks.
        negative_index: (B, m) int64.
        memory_student, memory_teacher: (n, D) banks, updated in place.
        temperature: T.
        momentum: share of the old row.
        z_student, z_teacher: 0-d, the constants Z of the student's and the teacher's scores, set in place.
        num_data: n.
        z_is_set: whether both Z are set already; None looks at their signs, which waits for a device.
        gather: stacks a tensor of all ranks along dimension 0, so that their banks stay equal; see :class:`AllRanks`.
        return_terms: also return ``student`` and ``teacher``.

    Returns:
        0-d tensor, or ``(loss, terms)``.
    """
    index = torch.cat((sample_index.unsqueeze(1), negative_index), dim=1)
    counts = occurrences(index, len(memory_student))
    student, teacher = (
        contrast(
            feature,
            memory,
            index,
            counts,
            temperature,
            z,
            not bool(z < 0) if z_is_set is None else z_is_set,
            num_data,
            gather,
        )
        for feature, memory, z in (
            (student_feat, memory_teacher, z_student),
            (teacher_feat, memory_student, z_teacher),
        )
    )
    rows = gather(sample_index)
    for memory, feature in ((memory_student, student_feat), (memory_teacher, teacher_feat)):
        update_memory(memory, rows, gather(feature.detach()), momentum)
    return with_terms(student + teacher, {"student": student, "teacher": teacher}, return_terms)


@torch.no_grad()
def update_memory(memory: Tensor, index: Tensor, feature: Tensor, momentum: float) -> None:
    """``M[index] <- normalise(momentum M[index] + (1 - momentum) feature)``; the last of equal indices counts."""
    position = torch.arange(len(index), device=index.device)
    last = (position * (index[:, None] == index[None, :])).amax(1)
    updated = F.normalize(momentum * memory[index] + (1.0 - momentum) * feature[last].to(memory), dim=1, eps=0.0)
    memory[index] = updated  # rows of one index hold the same values, so the order of writing is immaterial


@register_distiller("CRD")
class CRD(Distiller):
    """Contrastive Representation Distillation (Tian, Krishnan and Isola, ICLR 2020) on penultimate features.

    The positive is the sample itself (mode "exact"); negatives are drawn, with replacement, from the samples of other
    classes, anew for every sample and epoch. Both embeddings are trained and dropped afterwards. ``MODE``,
    ``FEAT.STUDENT_DIM`` and ``FEAT.TEACHER_DIM`` are accepted from mdistiller's files; the widths come from the
    networks. The banks (2 n DIM floats) are buffers; above ``MEMORY_GB`` the method is refused.
    """

    reference = "Tian, Krishnan, Isola. Contrastive Representation Distillation. ICLR 2020, arXiv 1910.10699"
    kind = "relations"
    verified = "mdistiller@a08d46f, RepDistiller@b84f547"
    teacher_needs = {"penultimate"}
    student_needs = {"logits", "penultimate"}
    needs_labels = True
    batch_coupled = True
    defaults = {
        "MODE": "exact",
        "FEAT": {"DIM": 128, "STUDENT_DIM": 256, "TEACHER_DIM": 256},
        "LOSS": {"CE_WEIGHT": 1.0, "FEAT_WEIGHT": 0.8},
        "NCE": {"K": 16384, "MOMENTUM": 0.5, "TEMPERATURE": 0.07},
        "MEMORY_GB": 4.0,
    }
    domains = {
        "MODE": ("exact",),
        "FEAT.DIM": "[1, inf)",
        "FEAT.STUDENT_DIM": "[1, inf)",
        "FEAT.TEACHER_DIM": "[1, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.FEAT_WEIGHT": "[0, inf)",
        "NCE.K": "[1, inf)",
        "NCE.MOMENTUM": "[0, 1]",
        "NCE.TEMPERATURE": "(0, inf)",
        "MEMORY_GB": "[0, inf)",
    }
    effective = {"FEAT.STUDENT_DIM": "the networks say it", "FEAT.TEACHER_DIM": "the networks say it"}
    memory_student: Tensor
    memory_teacher: Tensor
    z_student: Tensor
    z_teacher: Tensor
    by_class: Tensor
    class_start: Tensor
    class_size: Tensor

    @classmethod
    def refuses(cls, student: ModelSpec, teacher: ModelSpec | None, cfg: CfgNode, data: DataInfo) -> str | None:
        if data.labels is None or data.num_samples < 1:
            return "its negatives are drawn by the labels of the training set, which are not known"
        if len(data.labels) != data.num_samples:
            return f"there are {len(data.labels)} labels for {data.num_samples} training samples"
        if (data.labels == data.labels[0]).all():
            return "its negatives come from other classes, and the training set has only one"
        size = 2 * data.num_samples * cfg.FEAT.DIM * 4 / 1e9
        if size > cfg.MEMORY_GB:
            return f"its memory banks would take {size:.1f} GB, above MEMORY_GB = {cfg.MEMORY_GB}"
        return super().refuses(student, teacher, cfg, data)

    def setup(self) -> None:
        width, rows = self.cfg.FEAT.DIM, self.data.num_samples
        with self.seeded("embed_student"):
            self.embed_student = nn.Linear(self.student_spec.penultimate, width)
        with self.seeded("embed_teacher"):
            self.embed_teacher = nn.Linear(self.teacher_spec.penultimate, width)
        bound = 1.0 / math.sqrt(width / 3.0)
        for name in ("memory_student", "memory_teacher"):
            with self.seeded(name):
                self.register_buffer(name, torch.empty(rows, width).uniform_(-bound, bound))
        self.register_buffer("z_student", torch.tensor(-1.0))
        self.register_buffer("z_teacher", torch.tensor(-1.0))
        self._gather = AllRanks()
        #: what the host knows of Z, so that no step has to read it
        self._z_is_set = False
        labels = torch.as_tensor(self.data.labels).long()
        count = torch.bincount(labels)
        # Samples in the order of their classes, and each sample's class as a range of that order.
        self.register_buffer("by_class", labels.argsort(stable=True), persistent=False)
        self.register_buffer("class_start", (count.cumsum(0) - count)[labels], persistent=False)
        self.register_buffer("class_size", count[labels], persistent=False)

    def contrast(self, batch: Batch) -> dict[str, Any]:
        """Arguments that :func:`crd_loss` takes from the state and the batch."""
        return {
            "sample_index": batch.positions,
            "negative_index": self.negatives(batch),
            "memory_student": self.memory_student,
            "memory_teacher": self.memory_teacher,
            "z_student": self.z_student,
            "z_teacher": self.z_teacher,
            "z_is_set": self._z_is_set,
            "temperature": self.cfg.NCE.TEMPERATURE,
            "momentum": self.cfg.NCE.MOMENTUM,
            "num_data": self.data.num_samples,
            "gather": self._gather,
        }

    def negatives(self, batch: Batch) -> Tensor:
        """(B, m) int64: samples of other classes, uniform, with replacement."""
        start, size = self.class_start[batch.positions, None], self.class_size[batch.positions, None]
        bits = batch.generator("crd/negatives").bits(self.cfg.NCE.K).to(start.device)
        place = (bits * (self.data.num_samples - size)) >> 32
        return self.by_class[place + size * (place >= start)]

    def losses(self, student: ModelOutput, teacher: ModelOutput, batch: Batch) -> Losses:
        crd = crd_loss(
            unit(self.embed_student(student.penultimate)),
            unit(self.embed_teacher(teacher.penultimate)),
            **self.contrast(batch),
        )
        self._z_is_set = True
        return {
            "ce": self.cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch),
            "crd": self.cfg.LOSS.FEAT_WEIGHT * crd,
        }

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        saved = [state_dict[key] for name in ("z_student", "z_teacher") if (key := f"{prefix}{name}") in state_dict]
        if saved:
            self._z_is_set = not any(bool(z < 0) for z in saved)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@full_precision
def unit(feature: Tensor) -> Tensor:
    """(B, D), each row divided by its L2 norm."""
    return F.normalize(feature, dim=1)
