"""Optimiser and learning-rate schedule, both timm's."""

from __future__ import annotations

from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.optim import Optimizer
from yacs.config import CfgNode

_SCHEDULES = {"step": "multistep", "cosine": "cosine"}


def build_optimizer(cfg: CfgNode, modules: nn.Module) -> Optimizer:
    """The optimiser over the student and the method's own modules, with one learning rate and weight decay.

    mdistiller's ``SGD`` has no Nesterov momentum and decays every parameter; ``NESTEROV`` and ``DECAY_ALL: False`` give
    timm's form, which OFA-KD uses.
    """
    node = cfg.SOLVER
    name = {"SGD": "sgd" if node.NESTEROV else "momentum"}.get(node.TYPE, node.TYPE.lower())
    extra: dict[str, Any] = {"momentum": node.MOMENTUM} if node.TYPE == "SGD" else {}
    return create_optimizer_v2(
        modules, opt=name, lr=node.LR, weight_decay=node.WEIGHT_DECAY, filter_bias_and_bn=not node.DECAY_ALL, **extra
    )


class Schedule:
    """Learning rate as a function of epoch (from 1) or step, so that a resumed run needs no state of it.

    Args:
        cfg: configuration.
        optimizer: whose groups are set.
        steps: steps of one epoch.
    """

    def __init__(self, cfg: CfgNode, optimizer: Optimizer, steps: int) -> None:
        node = cfg.SOLVER
        self.optimizer, self.steps, self.per_step = optimizer, steps, node.SCHEDULE_PER == "step"
        self.timm = None
        if node.SCHEDULE == "constant" and node.WARMUP_EPOCHS == 0:
            return
        warmup = node.WARMUP_EPOCHS
        constant = node.SCHEDULE == "constant"
        # timm lowers the rate when epoch - 1 + 1 reaches a milestone; mdistiller after that epoch has passed.
        milestones = [] if constant else [m + 1 for m in node.LR_DECAY_STAGES]
        self.timm, _ = create_scheduler_v2(
            optimizer,
            sched="multistep" if constant else _SCHEDULES[node.SCHEDULE],
            num_epochs=node.EPOCHS,
            decay_milestones=milestones,
            decay_rate=node.LR_DECAY_RATE,
            min_lr=node.MIN_LR,
            warmup_lr=node.WARMUP_LR,
            warmup_epochs=warmup if self.per_step else round(warmup),
            step_on_epochs=not self.per_step,
            updates_per_epoch=steps,
        )

    def set(self, epoch: int, step: int) -> float:
        """Set the rate for step ``step`` (from 0) of ``epoch`` (from 1); returns it."""
        if self.timm is not None:
            if self.per_step:
                self.timm.step_update((epoch - 1) * self.steps + step)
            else:
                self.timm.step(epoch - 1)
        return float(self.optimizer.param_groups[0]["lr"])
