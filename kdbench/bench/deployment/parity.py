"""Whether a file says of the test images what the run's student says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdbench.bench.deployment.student import Student
from kdbench.engine.evaluation import Score, score
from kdbench.engine.parts import evaluation_options
from kdbench.engine.runtime import Runtime
from kdbench.errors import ModelError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput

#: largest difference of a logit, relative to the largest of them all where that is above 1
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """A file beside its student, on the test split.

    Attributes:
        top1: of the file, in percent.
        student_top1: of the student, computed here by PyTorch.
        recorded_top1: that the run has recorded.
        difference: largest difference of a logit, relative to the largest logit where that is above 1.
        undecided: images whose two largest logits are so close that the tolerance may exchange them.
        images: of the split.
    """

    top1: float
    student_top1: float
    recorded_top1: float
    difference: float
    undecided: int
    images: int

    def fault(self) -> str:
        """Why the file is none of this student; empty where it is one. Accuracies may differ by the images that are undecided."""
        if not self.difference <= TOLERANCE:
            return f"its outputs differ from PyTorch's by {self.difference:.1e}, and {TOLERANCE:.0e} is allowed"
        allowed = 100 * self.undecided / self.images + 1e-3  # accuracies are rounded to four digits
        for what, other in (("PyTorch has", self.student_top1), ("the run has recorded", self.recorded_top1)):
            if not abs(self.top1 - other) <= allowed:
                return f"its top-1 accuracy is {self.top1:.2f} where {what} {other:.2f}"
        return ""


def compare(student: Student, call: Callable[[Tensor], Tensor]) -> Parity:
    """Evaluate the student and a file on every test image.

    Args:
        student: of a run.
        call: the file's function, (B, 3, side, side) images in [0, 1] -> (B, K) logits, on the CPU.

    Raises:
        ModelError: the file cannot be run, or returns another number of outputs.
        RunStoppedError: a signal asked this process to stop.
    """
    own, expected = _evaluated(student, student.model)
    try:
        its, found = _evaluated(student, _Called(call, student.model))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"it cannot be run: {' '.join(str(error).split())[:200]}") from error
    if found.shape != expected.shape:
        raise ModelError(f"its outputs have the shape {tuple(found.shape)}, not {tuple(expected.shape)}")
    scale = max(1.0, float(expected.abs().max()))
    undecided = 0
    if expected.shape[1] > 1:
        largest = expected.topk(2, dim=1).values
        undecided = int((largest[:, 0] - largest[:, 1] <= 2 * TOLERANCE * scale).sum())
    difference = float((found - expected).abs().max()) / scale
    recorded = float(student.about.get("top1", own.top1))
    return Parity(its.top1, own.top1, recorded, difference, undecided, own.images)


def _evaluated(student: Student, network: nn.Module) -> tuple[Score, Tensor]:
    """Its score, and (N, K) logits."""
    logits: list[Tensor] = []
    options: dict[str, Any] = evaluation_options(student.cfg, student.data)
    runtime = Runtime(torch.device("cpu"))

    def observe(output: Tensor, labels: Tensor) -> None:
        logits.append(output)

    # what is not a FeatureModel here has the little of it that an evaluation asks for
    found = score(cast(FeatureModel, network), student.data.test, runtime=runtime, observe=observe, **options)
    return found, torch.cat(logits)


class _Called(nn.Module):
    """A function as an evaluation takes a network."""

    def __init__(self, call: Callable[[Tensor], Tensor], model: FeatureModel) -> None:
        super().__init__()
        self.call, self.spec = call, model.spec

    def forward(self, images: Tensor) -> ModelOutput:
        logits = self.call(images)
        return ModelOutput(logits, logits)
