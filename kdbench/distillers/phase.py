"""What a method trains before its first epoch: on the student, or on the teacher alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kdbench.distillers.batch import Batch, run
from kdbench.models.spec import ModelOutput

#: ``loss(student, teacher, batch)``: named loss terms; the student's output is None where the teacher alone is trained on
PhaseLoss = Callable[[Any, ModelOutput, Batch], dict[str, Tensor]]


@dataclass(frozen=True)
class Phase:
    """Epochs before the first one, with a loss of their own.

    With ``student_needs`` they train the student, as far as the loss reaches it, and ``modules``; a checkpoint holds how far they
    have come. Without, they train ``modules`` on the teacher's outputs alone: what comes of it is a function of teacher, data,
    seed and ``keys``, and is kept in the teacher cache's folder for all students of that teacher.

    Attributes:
        name: what is trained, a word.
        epochs: how many.
        loss: see :data:`PhaseLoss`.
        modules: of the method, frozen but in this phase.
        teacher_needs: kinds of outputs of the teacher.
        student_needs: those of the student; None = it takes no part.
        looks: further looks at each image that are asked for.
        rate: learning rate; 0 = the run's. It is constant, but for ``milestones``.
        milestones: epochs behind which the rate falls to a tenth; on the teacher alone.
        keys: on the teacher alone: the method's hyperparameters that decide over the outcome, and a number that changes with the
            loss.
    """

    name: str
    epochs: int
    loss: PhaseLoss
    modules: tuple[nn.Module, ...]
    teacher_needs: AbstractSet[str]
    student_needs: AbstractSet[str] | None = None
    looks: tuple[str, ...] = ()
    rate: float = 0.0
    milestones: tuple[int, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def on_teacher(self) -> bool:
        """Whether the student takes no part."""
        return self.student_needs is None

    def train(self, mode: bool) -> None:
        """Let gradients reach the modules, or freeze them."""
        for module in self.modules:
            module.requires_grad_(mode)

    def terms(self, student: nn.Module | None, teacher: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """One step's loss terms.

        Args:
            student: a FeatureModel; not run where it takes no part.
            teacher: its outputs for the batch, without gradient.
            batch: the batch.
        """
        own = None if self.student_needs is None else run(student, batch, self.student_needs, self.looks)
        return self.loss(own, teacher, batch)


def first_phase(phases: Iterable[Phase]) -> Phase | None:
    """The phase that trains the student, of which a method has one at most; None where there is none, or it has no epochs."""
    return next((phase for phase in phases if not phase.on_teacher and phase.epochs > 0), None)
