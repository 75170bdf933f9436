"""What the methods share that act before the first epoch alone: what is trained after it."""

from __future__ import annotations

from typing import Any

from kdbench.distillers.base import Batch, Distiller, Losses
from kdbench.distillers.parts.numerics import full_precision, tempered_kl
from kdbench.models.spec import ModelOutput

_kd = full_precision(tempered_kl)


class Initialised(Distiller):
    """A student that was initialised by its teacher in a first phase: cross entropy, and KD's term where ``LOSS.KD_WEIGHT`` is
    above 0. Without that term the teacher is not asked after the first phase.
    """

    teacher_needs = {"logits"}
    student_needs = {"logits"}
    defaults = {"INIT_EPOCHS": 30, "TEMPERATURE": 4.0, "LOSS": {"CE_WEIGHT": 1.0, "KD_WEIGHT": 0.0}}
    domains = {
        "INIT_EPOCHS": "[1, inf)",
        "TEMPERATURE": "(0, inf)",
        "LOSS.CE_WEIGHT": "[0, inf)",
        "LOSS.KD_WEIGHT": "[0, inf)",
    }
    effective = {"TEMPERATURE": {"LOSS.KD_WEIGHT": "(0, inf)"}}

    def setup(self) -> None:
        self.uses_teacher = self.cfg.LOSS.KD_WEIGHT > 0

    def losses(self, student: ModelOutput, teacher: Any, batch: Batch) -> Losses:
        cfg = self.cfg
        terms = {"ce": cfg.LOSS.CE_WEIGHT * self.cross_entropy(student.logits, batch)}
        if self.uses_teacher:
            terms["kd"] = cfg.LOSS.KD_WEIGHT * _kd(student.logits, teacher.logits, cfg.TEMPERATURE).mean()
        return terms
