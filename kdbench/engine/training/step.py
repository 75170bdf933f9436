"""One step of one student: forward, backward, update. Nothing of it is read by the host but on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.batch import check_terms
from kdbench.distillers.cut import cut
from kdbench.distillers.unused import check_used, left_out
from kdbench.engine.precision import autocast
from kdbench.engine.runtime import share_buffers
from kdbench.engine.training.finite import Skip
from kdbench.engine.training.ledger import Ledger
from kdbench.engine.training.optimiser.dot import DOT
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput

_HALF = (torch.bfloat16, torch.float16)


class TrainStep(nn.Module):
    """Student and method as one module, whose forward is one step's losses: what DDP wraps and the optimiser sees."""

    def __init__(self, student: FeatureModel, distiller: Distiller) -> None:
        super().__init__()
        self.student, self.distiller = student, distiller

    def forward(self, teacher: Any, batch: Any) -> dict[str, Any]:
        """Named loss terms; ``teacher`` is what the method asked for."""
        return self.distiller(self.student, teacher, batch)

    @property
    def brought(self) -> bool:
        """Whether the method or the student's network comes from outside kdbench and the libraries that it is built on."""
        known = ("kdbench.", "timm.", "torchvision.", "torch.")
        return not all(type(part).__module__.startswith(known) for part in self.modules())


class Step:
    """What is done with every batch.

    Args:
        cfg: configuration.
        module: student and method.
        optimizer: over their parameters.
        ledger: takes in the loss terms.
        device: where they are.
        world: processes of the run.
        apart: method and student are given copies of images, labels and the teacher's outputs, from which others learn.
    """

    def __init__(
        self,
        cfg: CfgNode,
        module: TrainStep,
        optimizer: Optimizer,
        ledger: Ledger,
        device: torch.device,
        world: int,
        *,
        apart: bool = False,
    ) -> None:
        self.apart = apart
        #: into which a batch is cut
        self.parts: int = cfg.SOLVER.ACCUMULATE
        self.cfg, self.module, self.optimizer, self.ledger, self.device = cfg, module, optimizer, ledger, device
        scaled = cfg.SOLVER.PRECISION == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.trained = [p for p in module.parameters() if p.requires_grad]
        #: where the task's gradient and the distillation's are kept apart: what does so
        self.dot = optimizer if isinstance(optimizer, DOT) else None
        self.world = world
        self.skip = Skip(module, optimizer, ledger, world) if cfg.SOLVER.NON_FINITE == "skip" else None
        self._forward: nn.Module = module
        self._all_used = False  # each parameter gets a gradient in every step, and several processes count on it
        if world > 1 and self.dot is None:  # DDP adds up one gradient of a parameter
            student, distiller = module.student, module.distiller
            unused = distiller.unused_parameters or getattr(student.backbone, "unused_parameters", False)
            self._all_used = not (unused or left_out(student, distiller.student_needs))
            # Unless it looks for them, DDP regroups the gradients behind a process's first step. From three processes on, another
            # group is another order of additions, and a resumed run would differ in its last bits.
            self._forward = DistributedDataParallel(module, find_unused_parameters=not self._all_used or world > 2)
        if cfg.SOLVER.COMPILE:
            self._forward.compile()

    @property
    def capturable(self) -> bool:
        """Whether a CUDA graph can hold it: one forward and one backward pass."""
        return self.parts == 1 and self.dot is None

    def gradients(
        self, teacher: Any, batch: Batch, step: int, weight: float, look: Callable[[], None] | None = None
    ) -> None:
        """The gradients of a batch, as a whole or in parts.

        Args:
            teacher: what the method was given.
            batch: the step's.
            step: its number in the epoch, from 0.
            weight: see :meth:`backward`.
            look: called when the loss is known, to raise where it is not finite; None waits for nothing.
        """
        if self.parts > 1:
            self._in_parts(teacher, batch, step, weight)
            if look is not None:
                look()
            return
        loss, terms = self.forward(teacher, batch, step)
        if look is not None:
            look()
        if self.dot is None:
            self.backward(loss, weight)
            return
        self.optimizer.zero_grad(set_to_none=True)
        self._add_gradients(terms, weight)
        self._finish_gradients()

    def forward(self, teacher: Any, batch: Batch, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, 0-d, and its terms, which are entered in the ledger.

        Raises:
            LossError: the method returned something else than loss terms.
        """
        if self.skip is not None:
            self.skip.remember()
        terms = self._terms(teacher, batch)
        loss = _total(terms)
        self.ledger.enter(step, terms, loss, len(batch.draw))
        return loss, terms

    def _terms(self, teacher: Any, batch: Batch) -> dict[str, Tensor]:
        if self.apart:
            # within a captured step, too: it copies what then lies at the addresses of its inputs
            batch = replace(
                batch,
                **{name: getattr(batch, name).clone() for name in ("images", "target", "index", "draw")},
                looks={name: images.clone() for name, images in batch.looks.items()},
            )
            teacher = teacher.map(torch.clone) if isinstance(teacher, ModelOutput) else teacher
        if self.dot is not None and self.world > 1:
            share_buffers(self.module.distiller)  # as DDP does; the student's own decide over nothing in training
        with autocast(self.cfg.SOLVER.PRECISION, self.device):
            terms = self._forward(teacher, batch)
        check_terms(self.module.distiller.name, terms)
        return terms

    def _in_parts(self, teacher: Any, batch: Batch, step: int, weight: float) -> None:
        """:meth:`forward` and :meth:`backward` for one part of the batch after the other, whose gradients are added up
        (``SOLVER.ACCUMULATE``): those of the whole batch up to rounding, in the memory of one part."""
        if self.skip is not None:
            self.skip.remember()
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        parts = list(cut(batch, teacher, self.parts))
        for number, (part, given, share) in enumerate(parts, 1):
            # several processes add up their gradients once, in the last part's backward pass
            with contextlib.nullcontext() if number == len(parts) else self._alone():
                terms = self._terms(given, part)
                self._add_gradients(terms, weight * share)
            for name, term in terms.items():
                value = term.detach().double() * share
                sums[name] = sums[name] + value if name in sums else value
        self.ledger.enter(step, sums, torch.stack(list(sums.values())).sum(), len(batch.draw))
        self._finish_gradients()

    def _add_gradients(self, terms: dict[str, Tensor], weight: float) -> None:
        """Add the gradients of loss terms to those that are there; the distillation's apart, where they are kept apart."""
        if self.dot is None:
            self.scaler.scale(_total(terms) * weight).backward()
            return
        distilled, task = (
            {name: t for name, t in terms.items() if self._of_task(name) is kind} for kind in (False, True)
        )
        self.dot.exchange()
        self._pass(distilled, weight, keep=True)
        self.dot.exchange()
        self._pass(task, weight, keep=False)

    def _of_task(self, name: str) -> bool:
        return name in self.module.distiller.task_terms

    def _pass(self, terms: dict[str, Tensor], weight: float, *, keep: bool) -> None:
        """A backward pass through some of a step's terms, none where none of them depends on a parameter."""
        total = _total(terms) if terms else None
        if total is not None and total.requires_grad:
            self.scaler.scale(total * weight).backward(retain_graph=keep)

    def _alone(self) -> contextlib.AbstractContextManager[Any]:
        """Inside, gradients of several processes stay apart."""
        return (
            self._forward.no_sync() if isinstance(self._forward, DistributedDataParallel) else contextlib.nullcontext()
        )

    def backward(self, loss: Tensor, weight: float = 1.0) -> None:
        """Gradients of the loss, clipped.

        Args:
            loss: of :meth:`forward`.
            weight: of this process's part of the batch: DDP takes the plain mean of the processes' gradients.

        Raises:
            LossError: in one of several processes: a parameter got no gradient, which nobody had declared.
        """
        if weight != 1.0:
            loss = loss * weight
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self._finish_gradients()

    def _finish_gradients(self) -> None:
        if self._all_used:
            check_used(self.module.student, self.module.distiller)
        if self.dot is not None and self.world > 1:
            self.dot.average(self.world)
        if self.cfg.SOLVER.CLIP_GRAD > 0:
            self.scaler.unscale_(self.optimizer)
            for holders in self._holders():
                torch.nn.utils.clip_grad_norm_(holders, self.cfg.SOLVER.CLIP_GRAD)

    def update(self) -> None:
        """The optimiser's step, or none where the step is skipped."""
        if self.skip is not None:
            self.skip.judge(
                [holder for holders in self._holders() for holder in holders], scaled=self.scaler.is_enabled()
            )
        if self.skip is None or self.skip.may_update():
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.skip is not None:
            self.skip.put_back()

    def _holders(self) -> list[list[Tensor]]:
        """What holds a gradient: the trained parameters, and where two are kept apart their twins."""
        return [list(self.trained)] if self.dot is None else [list(holders) for holders in zip(*self.dot.pairs)]


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack([term.float() if term.dtype in _HALF else term for term in terms.values()]).sum()
