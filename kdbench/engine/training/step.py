"""One step of one student: forward, backward, update. Nothing of it is read by the host but on a CPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from yacs.config import CfgNode

from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.batch import check_terms
from kdbench.distillers.unused import check_used, left_out
from kdbench.engine.precision import autocast
from kdbench.engine.training.finite import Skip
from kdbench.engine.training.ledger import Ledger
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
        self.cfg, self.module, self.optimizer, self.ledger, self.device = cfg, module, optimizer, ledger, device
        scaled = cfg.SOLVER.PRECISION == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=scaled)
        self.trained = [p for p in module.parameters() if p.requires_grad]
        self.skip = Skip(module, optimizer, ledger, world) if cfg.SOLVER.NON_FINITE == "skip" else None
        self._forward: nn.Module = module
        self._all_used = False  # each parameter gets a gradient in every step, and several processes count on it
        if world > 1:
            student, distiller = module.student, module.distiller
            unused = distiller.unused_parameters or getattr(student.backbone, "unused_parameters", False)
            self._all_used = not (unused or left_out(student, distiller.student_needs))
            # Unless it looks for them, DDP regroups the gradients behind a process's first step. From three processes on, another
            # group is another order of additions, and a resumed run would differ in its last bits.
            self._forward = DistributedDataParallel(module, find_unused_parameters=not self._all_used or world > 2)
        if cfg.SOLVER.COMPILE:
            self._forward.compile()

    def forward(self, teacher: Any, batch: Batch, step: int | Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, 0-d, and its terms, which are entered in the ledger.

        Raises:
            LossError: the method returned something else than loss terms.
        """
        if self.skip is not None:
            self.skip.remember()
        if self.apart:
            # within a captured step, too: it copies what then lies at the addresses of its inputs
            batch = replace(
                batch, **{name: getattr(batch, name).clone() for name in ("images", "target", "index", "draw")}
            )
            teacher = teacher.map(torch.clone) if isinstance(teacher, ModelOutput) else teacher
        with autocast(self.cfg.SOLVER.PRECISION, self.device):
            terms = self._forward(teacher, batch)
        check_terms(self.module.distiller.name, terms)
        loss = torch.stack([term.float() if term.dtype in _HALF else term for term in terms.values()]).sum()
        self.ledger.enter(step, terms, loss, len(batch.draw))
        return loss, terms

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
        if self._all_used:
            check_used(self.module.student, self.module.distiller)
        if self.cfg.SOLVER.CLIP_GRAD > 0:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.cfg.SOLVER.CLIP_GRAD)

    def update(self) -> None:
        """The optimiser's step, or none where the step is skipped."""
        if self.skip is not None:
            self.skip.judge(self.trained, scaled=self.scaler.is_enabled())
        if self.skip is None or self.skip.may_update():
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.skip is not None:
            self.skip.put_back()
