"""Optimiser and learning-rate schedule, timm's but for DOT."""

from __future__ import annotations

from typing import Any

import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.optim import Optimizer
from yacs.config import CfgNode

from kdbench.config.defaults import DOT_TRAINERS
from kdbench.engine.training.optimiser.dot import DOT

_SCHEDULES = {"step": "multistep", "cosine": "cosine"}


#: optimisers of PyTorch, which have one kernel for all parameters; timm's LAMB counts its steps on the host
_FUSED = ("SGD", "ADAM", "ADAMW")
#: what an optimiser's state says of the device that it was made for
_OF_THE_DEVICE = ("fused", "foreach", "capturable")


def build_optimizer(cfg: CfgNode, modules: nn.Module, device: torch.device) -> Optimizer:
    """The optimiser over the student and the method's own modules, with one learning rate and weight decay. PyTorch's own
    optimisers update all parameters by one kernel.

    mdistiller's ``SGD`` has no Nesterov momentum and decays every parameter; ``NESTEROV`` and ``DECAY_ALL: False`` give
    timm's form, which OFA-KD uses.
    """
    node = cfg.SOLVER
    if node.TRAINER in DOT_TRAINERS:
        return _dot(node, modules)
    name = {"SGD": "sgd" if node.NESTEROV else "momentum"}.get(node.TYPE, node.TYPE.lower())
    extra: dict[str, Any] = {"momentum": node.MOMENTUM} if node.TYPE == "SGD" else {}
    if device.type in ("cuda", "cpu") and node.TYPE in _FUSED:
        extra |= {"fused": True} | ({"capturable": True} if device.type == "cuda" and node.TYPE != "SGD" else {})
    optimizer = create_optimizer_v2(
        modules, opt=name, lr=node.LR, weight_decay=node.WEIGHT_DECAY, filter_bias_and_bn=not node.DECAY_ALL, **extra
    )
    _begin_momentum(optimizer)
    return optimizer


def _dot(node: CfgNode, modules: nn.Module) -> DOT:
    """The distillation-oriented trainer; its values are those of SGD, and DELTA."""
    trained = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    parameters: list[Any] = trained if node.DECAY_ALL else param_groups_weight_decay(modules, node.WEIGHT_DECAY)
    return DOT(parameters, lr=node.LR, momentum=node.MOMENTUM, delta=node.DOT.DELTA, weight_decay=node.WEIGHT_DECAY)


def _begin_momentum(optimizer: Optimizer) -> None:
    """Zeros where SGD would begin with a parameter's first gradient, which is the same. Its one kernel for all takes either all or
    none of the parameters to be at their first step; some methods leave parameters out of some steps."""
    for group in optimizer.param_groups:
        if group.get("fused") and group.get("momentum"):
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)


def can_be_captured(optimizer: Optimizer) -> bool:
    """Whether its step does the same on the device whenever it is taken."""
    return all(group.get("fused") for group in optimizer.param_groups)


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimiser's state dict, learning rates as numbers."""
    state = optimizer.state_dict()
    return {**state, "param_groups": [{**group, "lr": float(group["lr"])} for group in state["param_groups"]]}


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Take over a state that may have been made on another device."""
    groups = [
        {**stored, **{key: own[key] for key in _OF_THE_DEVICE if key in own}}
        for stored, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    _begin_momentum(optimizer)


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
        #: the present learning rate
        self.rate = float(node.LR)
        # on a GPU the optimiser reads its rate from the device, so that a captured step sees every new one
        self.boxes: list[Tensor] = []
        if can_be_captured(optimizer):
            first = optimizer.param_groups[0]["params"][0]
            self.boxes = [first.new_tensor(node.LR, dtype=torch.float32) for _ in optimizer.param_groups]
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
            self.rate = float(self.optimizer.param_groups[0]["lr"])  # a number: timm has just put it there
        for group, box in zip(self.optimizer.param_groups, self.boxes):
            box.fill_(self.rate)
            group["lr"] = box
        return self.rate
