"""The distillation-oriented trainer: SGD with a momentum for the task's gradient and one for the distillation's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer


class DOT(Optimizer):
    """Distillation-Oriented Trainer (Zhao, Cui, Song, Qiu and Liang, ICCV 2023); ``SOLVER.TRAINER: dot``.

    A parameter that both parts of the loss reach has a velocity for each: ``v_t <- (momentum - delta) v_t + g_t + wd p`` and
    ``v_k <- (momentum + delta) v_k + g_k``, then ``p <- p - lr (v_t + v_k)``. One that a single part reaches has ``momentum``.
    Weight decay goes with the task's gradient; where there is none, with the distillation's, but for the first step. A velocity
    begins as the parameter's first gradient. Equal to mdistiller@a08d46f in float64. With delta 0, and a parameter that both
    reach in every step, it is SGD on the sum of the gradients.

    The second gradient lies in ``.grad`` of a parameter's twin, which shares its memory and stands in a group of its own; so
    gradient scaling, clipping, the learning rate and state dicts treat both alike.

    Args:
        parameters: tensors, or groups of them with a ``weight_decay`` of their own.
        lr: learning rate.
        momentum: of a parameter that one part reaches.
        delta: what the distillation's momentum is greater by, and the task's smaller.
        weight_decay: of groups that have none of their own.
    """

    def __init__(
        self, parameters: Iterable[Any], *, lr: float, momentum: float, delta: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": weight_decay})
        for group in list(self.param_groups):
            twins = [nn.Parameter(parameter.detach()) for parameter in group["params"]]
            self.add_param_group({**group, "params": twins})

    @property
    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each parameter, with the task's gradient, and its twin, with the distillation's."""
        for group, other in self._halves():
            yield from zip(group["params"], other["params"])

    def exchange(self) -> None:
        """Have a backward pass add to the other gradient, until the next call."""
        for parameter, twin in self.pairs:
            parameter.grad, twin.grad = twin.grad, parameter.grad

    @torch.no_grad()
    def average(self, world: int) -> None:
        """Give all processes the mean of both gradients; one that some process has counts as zero in the others. The host learns
        which there are, and so waits for a GPU.

        Args:
            world: number of processes.
        """
        holders = [holder for pair in self.pairs for holder in pair]
        there = torch.tensor([float(holder.grad is not None) for holder in holders]).to(holders[0].device)
        dist.all_reduce(there, op=dist.ReduceOp.MAX)
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for holder, found in zip(holders, there.tolist()):
            if found:
                if holder.grad is None:
                    holder.grad = torch.zeros_like(holder, memory_format=torch.preserve_format)
                kinds.setdefault(holder.dtype, []).append(holder.grad)
        for gradients in kinds.values():
            whole = torch.cat([gradient.reshape(-1) for gradient in gradients]) / world
            dist.all_reduce(whole)
            for gradient, mean in zip(gradients, whole.split([gradient.numel() for gradient in gradients])):
                gradient.copy_(mean.view(gradient.shape))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters with the gradients that are there."""
        for group, other in self._halves():
            steps: list[tuple[Tensor, Tensor, Tensor, float]] = []  # parameter, whose velocity, gradient, momentum
            for parameter, twin in zip(group["params"], other["params"]):
                task, distilled = parameter.grad, twin.grad
                part = group["delta"] if task is not None and distilled is not None else 0.0
                if task is not None:
                    decayed = _decayed(task, parameter, group["weight_decay"])
                    steps.append((parameter, parameter, decayed, group["momentum"] - part))
                if distilled is not None:
                    decay = group["weight_decay"] if task is None and self.state.get(twin) else 0.0
                    steps.append((parameter, twin, _decayed(distilled, parameter, decay), group["momentum"] + part))
            self._move(steps, group["lr"])

    def _move(self, steps: list[tuple[Tensor, Tensor, Tensor, float]], lr: float) -> None:
        going = [(holder, gradient, momentum) for _, holder, gradient, momentum in steps if self.state.get(holder)]
        if going:
            velocities = [self.state[holder]["momentum_buffer"] for holder, *_ in going]
            torch._foreach_mul_(velocities, [momentum for *_, momentum in going])
            torch._foreach_add_(velocities, [gradient for _, gradient, _ in going])
        for _, holder, gradient, _ in steps:
            if not self.state.get(holder):
                self.state[holder]["momentum_buffer"] = gradient.clone(memory_format=torch.preserve_format)
        # one half after the other: no parameter may stand twice in a list of which the order is not told
        for of_task in (True, False):
            half = [(parameter, holder) for parameter, holder, *_ in steps if (parameter is holder) is of_task]
            if half:
                velocities = [self.state[holder]["momentum_buffer"] for _, holder in half]
                torch._foreach_add_([parameter for parameter, _ in half], velocities, alpha=-lr)

    def _halves(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Groups of the parameters, each with that of its twins."""
        half = len(self.param_groups) // 2
        return zip(self.param_groups[:half], self.param_groups[half:])


def _decayed(gradient: Tensor, parameter: Tensor, decay: float) -> Tensor:
    return gradient.add(parameter, alpha=decay) if decay else gradient
