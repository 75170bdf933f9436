"""Numbers that are not finite: named with their cause, skipped where that is wanted, and never evaluated, saved or exported."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from kdbench.data.loader import TrainLoader
from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.batch import run
from kdbench.distillers.phase import Phase
from kdbench.engine.evaluation import Score
from kdbench.engine.precision import precision
from kdbench.engine.teacher.several import Teachers
from kdbench.engine.training.ledger import Ledger
from kdbench.engine.training.optimiser.optim import can_be_captured
from kdbench.errors import NonFiniteLossError
from kdbench.models.spec import ModelOutput

_ADVICE = "lower SOLVER.LR or the term's weight, or set SOLVER.CLIP_GRAD"


def loss_error(where: str, images: Tensor, outputs: Mapping[str, ModelOutput]) -> NonFiniteLossError:
    """The error of a step whose loss is not finite, with its cause: the images, the teacher, or the training itself.

    Args:
        where: which terms, and when.
        images: the step's batch.
        outputs: of the teachers for that batch, by name.
    """
    if not bool(torch.isfinite(images).all()):
        return NonFiniteLossError(f"{where}: the images of that batch hold NaN or infinity; mend the data set")
    for teacher, output in outputs.items():
        if bad := not_finite(output):
            return NonFiniteLossError(
                f"{where}: teacher {teacher!r} gives NaN or infinite {', '.join(bad)} for that batch; are its weights damaged, "
                "or its TEACHER.NORM wrong? (SOLVER.PRECISION fp16 may overflow where bf16 does not)"
            )
    return NonFiniteLossError(f"{where}; {_ADVICE}")


def explainer(
    loader: TrainLoader, method: Distiller | Phase, teacher: Teachers | None, epoch: int, what: str
) -> Callable[[int, list[str]], NonFiniteLossError]:
    """Makes the error of a step, of which the batch is then loaded again.

    Args:
        loader: of the batches.
        method: what asks for the teacher's outputs.
        teacher: from which it learns; None without one.
        epoch: whose batches they are.
        what: is not finite, and in which epoch; for the message.
    """

    def explain(step: int, terms: list[str]) -> NonFiniteLossError:
        loaded = next(loader.epoch(epoch, step))
        outputs = {}
        batch = Batch(loaded.images, loaded.target, loaded.index, loaded.draw, looks=loaded.looks)
        for source in [] if teacher is None else teacher.sources:
            with torch.no_grad(), precision(source.precision, loader.device):
                outputs[source.cfg.DISTILLER.TEACHER] = run(source.network, batch, method.teacher_needs, method.looks)
        where = f"loss term {', '.join(terms)} of {what}, step {step + 1}"
        return loss_error(where, loaded.images, outputs)

    return explain


def not_finite(output: ModelOutput) -> list[str]:
    """Names of the parts of a network's output that hold NaN or infinity."""
    found = []
    for part in fields(output):
        value = getattr(output, part.name)
        if isinstance(value, dict):
            found += [f"{bad} of {name!r} images" for name, look in value.items() for bad in not_finite(look)]
            continue
        tensors = () if value is None else (value,) if isinstance(value, Tensor) else value
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            found.append(part.name)
    return found


def check_state(modules: Mapping[str, nn.Module], epoch: int) -> None:
    """Refuse weights and running statistics that are not finite, before they are evaluated, saved or exported.

    Args:
        modules: by what they are.
        epoch: after which this is.

    Raises:
        NonFiniteLossError: some are not.
    """
    for what, module in modules.items():
        state = {key: value for key, value in module.state_dict().items() if value.is_floating_point()}
        if not state:
            continue
        bad = torch.stack([~torch.isfinite(value).all() for value in state.values()])
        if bool(bad.any()):
            name = next(key for key, wrong in zip(state, bad.tolist()) if wrong)
            raise NonFiniteLossError(
                f"after epoch {epoch} {name} of the {what} is not finite, though the loss was: a gradient or a running "
                "statistic overflowed; lower SOLVER.LR, or set SOLVER.CLIP_GRAD"
            )


def check_score(score: Score, what: str, advice: str = _ADVICE) -> None:
    """Refuse an accuracy of outputs that are not finite.

    Raises:
        NonFiniteLossError: they are not, since their cross entropy is not.
    """
    if not math.isfinite(score.loss):
        raise NonFiniteLossError(f"{what} are not finite, so that their accuracy means nothing; {advice}")


class Skip:
    """``SOLVER.NON_FINITE: skip``: a step with NaN or infinity in its loss or gradients changes nothing.

    Judges each step on the device. PyTorch's fused optimisers are told there, as GradScaler tells them; for others the host
    reads the verdict, and so waits for a GPU.

    Args:
        module: student and method, whose running statistics a bad step must not change.
        optimizer: over their parameters.
        ledger: judges the loss terms, and counts.
        world: processes of the run, which skip a step together.
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer, ledger: Ledger, world: int) -> None:
        self.module, self.optimizer, self.ledger, self.world = module, optimizer, ledger, world
        self.on_device = can_be_captured(optimizer)
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._wrong = ledger.wrong
        self._scaled = False

    def remember(self) -> None:
        """A step begins: what it may change besides parameters is kept."""
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in self.module.buffers()]

    def judge(self, parameters: Sequence[Tensor], *, scaled: bool) -> None:
        """Gradients are there: decide whether the step is skipped, and count.

        Args:
            parameters: those that are trained.
            scaled: gradients are a GradScaler's, which looks at them itself, and some of which may overflow without harm.
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        wrong = self.ledger.wrong
        if gradients and not scaled:
            sizes = torch.stack(torch._foreach_norm(gradients, float("inf")))
            wrong = wrong | ~torch.isfinite(sizes).all()
        if self.world > 1:
            box = wrong.float()
            dist.all_reduce(box, op=dist.ReduceOp.MAX)
            wrong = box > 0
        self._wrong, self._scaled = wrong, scaled
        self.ledger.skipped.add_(wrong)
        if scaled and gradients:  # whose scaler then skips it, too
            gradients[0].add_(torch.where(wrong, float("nan"), 0.0))
        elif self.on_device:
            self.optimizer.found_inf = wrong.float()  # type: ignore[attr-defined]

    def may_update(self) -> bool:
        """Whether the optimiser's step is to be called; a fused one looks for itself."""
        return self._scaled or self.on_device or not bool(self._wrong)

    def put_back(self) -> None:
        """Running statistics of a skipped step as they were before."""
        for buffer, old in self._buffers:
            buffer.copy_(torch.where(self._wrong, old, buffer))
        self._buffers = []
