"""Trained parameters that get no gradient: what several processes must know before they add up their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kdbench.distillers.base import Distiller
from kdbench.errors import LossError

if TYPE_CHECKING:
    from kdbench.models.feature_model.model import FeatureModel


def left_out(student: FeatureModel, needs: Iterable[str]) -> set[str]:
    """Names of the student's trained parameters on which none of the outputs depends that a method asks for.

    Args:
        student: it runs once, in evaluation mode, on a black image; nothing of it is changed.
        needs: the method's ``student_needs``.
    """
    trained = {name: p for name, p in student.named_parameters() if p.requires_grad}
    if not trained:
        return set()
    device = next(iter(trained.values())).device
    was_training = {module: module.training for module in student.modules()}
    try:
        with torch.enable_grad():
            output = student.eval()(torch.zeros(1, 3, *student.input_size, device=device), need=set(needs))
            sums = [value.float().sum() for value in _tensors(output) if value.requires_grad]
            found = torch.autograd.grad(torch.stack(sums).sum(), list(trained.values()), allow_unused=True)
    finally:
        for module, mode in was_training.items():
            module.training = mode
    return {name for name, gradient in zip(trained, found) if gradient is None}


def check_used(student: nn.Module, distiller: Distiller) -> None:
    """Refuse a step behind which a trained parameter has no gradient although the method declares that all get one.

    Raises:
        LossError: names such parameters and the declaration.
    """
    missing = list(without_gradient(student, distiller))
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise LossError(
            f"{distiller.name}: no gradient reaches {names}, for which several processes would wait; declare "
            "unused_parameters = True in the method's class (or in the network's, if it is the network that leaves them out)"
        )


def without_gradient(student: nn.Module, distiller: nn.Module) -> Iterator[str]:
    """Names of trained parameters that have no gradient: of the student, then of the method."""
    for what, module in (("student", student), ("method", distiller)):
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                yield f"{what}.{name}"


def _tensors(output: object) -> Iterator[Tensor]:
    for part in fields(output):  # type: ignore[arg-type]
        value = getattr(output, part.name)
        if value is not None:
            yield from (value,) if isinstance(value, Tensor) else value
