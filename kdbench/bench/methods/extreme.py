"""What every method must survive: huge logits, zeros, equal samples, half precision, the smallest batch, two classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdbench.bench.methods.conformance import BATCH, CLASSES, NETWORKS, create_pair, make_batch
from kdbench.bench.methods.conformance import step as one_step
from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.batch import check_terms
from kdbench.engine.precision import autocast
from kdbench.engine.training.ledger import Ledger
from kdbench.errors import KdbenchError
from kdbench.models.backbone.classifier import classifier_names
from kdbench.models.feature_model.model import FeatureModel

#: what PyTorch's batch normalisation says of a single value; a run is refused for it before it begins
_NO_SPREAD = "more than 1 value per channel"
#: of the step that is taken
_RATE = 1e-4


class Extreme(NamedTuple):
    """An extreme situation.

    Attributes:
        classifiers: what the weights and biases of the student's and the teacher's classifiers are multiplied with.
        change: changes the batch.
        precision: as ``SOLVER.PRECISION``.
        smallest: the batch is the smallest that the method declares.
        classes: of the data.
        overflows: the networks' own outputs are beyond the precision, so that a step may be refused.
    """

    classifiers: tuple[float, float] = (1.0, 1.0)
    change: Callable[[Batch], Batch] = lambda batch: batch
    precision: str = "fp32"
    smallest: bool = False
    classes: int = CLASSES
    overflows: bool = False


def _black(batch: Batch) -> Batch:
    black = torch.zeros_like(batch.images)
    return replace(batch, images=black, looks=dict.fromkeys(batch.looks, black))


def _identical(batch: Batch) -> Batch:
    def same(rows: Tensor) -> Tensor:
        return rows[:1].expand_as(rows).clone()

    looks = {name: same(images) for name, images in batch.looks.items()}
    return replace(batch, images=same(batch.images), target=same(batch.target), looks=looks)


def _soft(classes: int) -> Callable[[Batch], Batch]:
    """Labels as mixup makes them."""

    def change(batch: Batch) -> Batch:
        hard = torch.nn.functional.one_hot(batch.target, classes).float()
        return replace(batch, target=0.7 * hard + 0.3 * hard.flip(0))

    return change


#: situations by name
EXTREMES: dict[str, Extreme] = {
    "large": Extreme(classifiers=(1e4, 1e4)),
    "large student": Extreme(classifiers=(1e4, 1.0)),
    "large teacher": Extreme(classifiers=(1.0, 1e4)),
    "zeros": Extreme(classifiers=(0.0, 0.0), change=_black),
    "identical": Extreme(change=_identical),
    "bf16": Extreme(precision="bf16"),
    "bf16 large": Extreme(classifiers=(1e4, 1e4), precision="bf16"),
    "fp16": Extreme(precision="fp16"),
    "fp16 large": Extreme(classifiers=(1e6, 1e6), precision="fp16", overflows=True),
    "smallest batch": Extreme(smallest=True),
    "smallest batch, identical": Extreme(smallest=True, change=_identical),
    "two classes": Extreme(classes=2),
    "two classes, large": Extreme(classes=2, classifiers=(1e4, 1e4)),
    "two classes, smallest batch, soft": Extreme(classes=2, smallest=True, change=_soft(2)),
    "soft labels": Extreme(change=_soft(CLASSES)),
    "soft labels, large": Extreme(classifiers=(1e4, 1e4), change=_soft(CLASSES)),
}


def check_extreme(method: str, teacher: str, student: str, situation: str) -> str:
    """Two steps of ``method`` in an extreme situation, each with an update.

    Checks: every term is finite (or, where the networks themselves overflow, the ledger of a run sees that it is not, so that the
    step is refused); so is every gradient; so are parameters and running statistics behind the updates; a batch below the
    declared ``min_batch`` is refused.

    Args:
        method: registered name.
        teacher, student: keys of :data:`NETWORKS`.
        situation: a key of :data:`EXTREMES`.

    Returns:
        ``"runs"``, or the reason of a refusal.

    Raises:
        AssertionError: a check failed.
    """
    extreme = EXTREMES[situation]
    where = f"{method}, {teacher} -> {student}, {situation}"
    try:
        s_model, t_model, distiller = create_pair(method, NETWORKS[teacher], NETWORKS[student], classes=extreme.classes)
        size = distiller.min_batch if extreme.smallest else BATCH
        distiller.check_batch(size)
    except KdbenchError as error:
        return str(error)
    _check_refused_below(where, distiller)
    for model, factor in zip((s_model, t_model), extreme.classifiers):
        _scale(model, factor)
    optimizer = torch.optim.SGD([*s_model.parameters(), *distiller.parameters()], lr=_RATE)
    for number in range(2):
        batch = extreme.change(make_batch(s_model, size, first=number * size, classes=extreme.classes))
        try:
            with autocast(extreme.precision, torch.device("cpu")):
                terms = one_step(distiller, s_model, t_model, batch)
            check_terms(method, terms)
        except KdbenchError as error:
            return str(error)
        except ValueError as error:
            if _NO_SPREAD not in str(error):
                raise
            return str(error)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        if extreme.overflows:
            ledger = Ledger(loss.device)
            ledger.enter(number, terms, loss, size)
            if ledger.found() is not None:
                return f"refused: {ledger.found()}"
        _check_finite(f"{where}: term", terms)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        modules = {"student": s_model, "method": distiller}
        for name, module in modules.items():
            grads = {key: p.grad for key, p in module.named_parameters() if p.grad is not None}
            _check_finite(f"{where}: gradient of the {name}'s", grads)
        optimizer.step()
        for name, module in modules.items():
            _check_finite(f"{where}: after the step the {name}'s", dict(module.state_dict()))
    return "runs"


def _check_refused_below(where: str, distiller: Distiller) -> None:
    if distiller.min_batch == 1:
        return
    try:
        distiller.check_batch(distiller.min_batch - 1)
    except KdbenchError:
        return
    raise AssertionError(f"{where}: a batch below min_batch is not refused")


def _check_finite(what: str, values: dict[str, Tensor]) -> None:
    for name, value in values.items():
        if value.is_floating_point():
            assert bool(torch.isfinite(value).all()), f"{what} {name} is not finite"


def _scale(model: FeatureModel | None, factor: float) -> None:
    """Multiply the classifier's weights and biases, and so the logits."""
    if model is None or factor == 1.0:
        return
    with torch.no_grad():
        for name in classifier_names(model.backbone):
            module: nn.Module = model.backbone.get_submodule(name)
            for parameter in module.parameters():
                parameter.mul_(factor)
