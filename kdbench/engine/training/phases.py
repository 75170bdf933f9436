"""What takes a student's steps in its first phase and after it: an optimiser, a schedule, a ledger and a step of each.

Epochs of a first phase stand before epoch 1: the last of them is epoch 0. Their images and draws are those of epochs far behind
any that is trained, so that epoch 1 sees what it sees without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer
from yacs.config import CfgNode

from kdbench.distillers.phase import Phase
from kdbench.engine.training.captured import MakeGraph, StepRunner
from kdbench.engine.training.ledger import Ledger
from kdbench.engine.training.optimiser.optim import Schedule, build_optimizer
from kdbench.engine.training.step import Step, TrainStep

#: added to the numbers of epochs whose images a first phase sees; no run has so many
BEHIND = 1 << 20


def drawn_as(epoch: int) -> int:
    """The number of the epoch whose order, images and draws an epoch has; the epochs of a first phase are 0, -1 ... backwards."""
    return epoch if epoch > 0 else BEHIND - epoch


def in_words(epoch: int) -> str:
    """An epoch, for messages."""
    return f"epoch {epoch}" if epoch > 0 else f"epoch {epoch} (of the first phase, which ends with epoch 0)"


class PhaseStep(TrainStep):
    """Student and method as one module, whose forward is a step of the method's first phase."""

    def __init__(self, whole: TrainStep, phase: Phase) -> None:
        super().__init__(whole.student, whole.distiller)
        self.phase = phase

    def forward(self, teacher: Any, batch: Any) -> dict[str, Any]:
        """Named loss terms; ``teacher`` is what the phase asked for."""
        return self.phase.terms(self.student, teacher, batch)


@dataclass
class Gear:
    """What takes the steps of some epochs."""

    optimizer: Optimizer
    schedule: Schedule
    ledger: Ledger
    step: Step
    captured: StepRunner

    @classmethod
    def of(
        cls,
        cfg: CfgNode,
        module: TrainStep,
        steps: int,
        device: torch.device,
        world: int,
        make_graph: MakeGraph | None,
        *,
        apart: bool,
    ) -> Gear:
        """Made for a module, as a configuration has it.

        Args:
            cfg: configuration.
            module: student and method.
            steps: of an epoch.
            device, world: of the run.
            make_graph: makes the graphs of captured steps; None runs all one by one.
            apart: see :class:`Step`.
        """
        optimizer = build_optimizer(cfg, module, device)
        ledger = Ledger(device, skipping=cfg.SOLVER.NON_FINITE == "skip")
        step = Step(cfg, module, optimizer, ledger, device, world, apart=apart)
        return cls(optimizer, Schedule(cfg, optimizer, steps), ledger, step, StepRunner(step, make_graph))


def for_phase(cfg: CfgNode, phase: Phase) -> CfgNode:
    """A run's configuration as its first phase has it: one gradient and a constant rate."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.TRAINER, cfg.SOLVER.SCHEDULE, cfg.SOLVER.WARMUP_EPOCHS = "base", "constant", 0.0
    cfg.SOLVER.LR = phase.rate or cfg.SOLVER.LR
    cfg.freeze()
    return cfg
