"""Training without a teacher: the lower bound of every comparison, and how teachers are made."""

from __future__ import annotations

from kdbench.distillers.base import Batch, Distiller, Losses, register_distiller
from kdbench.models.spec import ModelOutput


@register_distiller("Vanilla", aliases=("NONE",))
class Vanilla(Distiller):
    """Cross entropy alone; ``NONE`` in a configuration is the same method."""

    reference = "plain supervised training"
    verified = "by definition"
    uses_teacher = False
    teacher_needs = frozenset(())

    def losses(self, student: ModelOutput, teacher: ModelOutput | None, batch: Batch) -> Losses:  # type: ignore[override]
        return {"ce": self.cross_entropy(student.logits, batch)}
