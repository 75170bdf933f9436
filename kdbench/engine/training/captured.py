"""Steps from CUDA graphs: which can be, and what stands in for the numbers of Python that a graph would freeze."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from kdbench.distillers.base import Batch
from kdbench.engine.runtime import Runtime
from kdbench.engine.training.graphs import WARM_UP, CudaGraph, Fixed, Graph
from kdbench.engine.training.optimiser.optim import can_be_captured
from kdbench.engine.training.step import Step

log = logging.getLogger(__name__)
MakeGraph = Callable[[], Graph]
#: what the host counts or knows of a step; a graph would keep the first one's
_STEPWISE = ("progress", "host_draw")


def graph_maker(cfg: CfgNode, runtime: Runtime) -> MakeGraph | None:
    """What makes the graphs of a run's steps; None where they are run one by one: on a CPU, over several processes, compiled, with
    scaled float16, or with ``SOLVER.GRAPH: off``."""
    whole = runtime.device.type == "cuda" and runtime.world == 1
    plain = not cfg.SOLVER.COMPILE and cfg.SOLVER.PRECISION != "fp16"
    return CudaGraph if whole and plain and cfg.SOLVER.GRAPH == "auto" else None


class NotedBatch(Batch):
    """A batch that notes which of the host's numbers are read of it."""

    def __getattribute__(self, name: str) -> Any:
        if name in _STEPWISE or name == "epoch":
            object.__getattribute__(self, "__dict__").setdefault("noted", set()).add(name)
        return object.__getattribute__(self, name)

    @classmethod
    def of(cls, batch: Batch, clock: Tensor) -> NotedBatch:
        """The same batch, with its epoch on the device."""
        made = cls(**{part.name: getattr(batch, part.name) for part in fields(Batch)} | {"clock": clock})
        made.__dict__["noted"] = set()
        return made


class StepRunner:
    """Runs a member's steps from a graph, but for the first ones and those whose inputs are not at fixed addresses.

    Args:
        step: forward, backward, update.
        make: makes graphs; None runs every step by itself.
    """

    def __init__(self, step: Step, make: MakeGraph | None) -> None:
        self.step = step
        self.name = step.module.distiller.name
        self.make = make if step.module.distiller.capturable and step.capturable else None
        self._graph: Graph | None = None
        self._batch: NotedBatch | None = None
        self._epoch = self._warm = 0
        self._number = torch.zeros((), dtype=torch.int64, device=step.device)
        self._clock = torch.zeros((), dtype=torch.int64, device=step.device)
        self._gradients: list[Tensor | None] = []

    @property
    def whole(self) -> bool:
        """Whether the optimiser's step is part of the graph."""
        return can_be_captured(self.step.optimizer)

    def __call__(self, given: Any, batch: Batch, number: int, *, fixed: bool) -> bool:
        """Take a step from a graph; False where there is none for it, so that it has to be run by itself.

        Args:
            given: of the teacher.
            batch: the inputs.
            number: of the step, from 0.
            fixed: ``given`` and ``batch`` are at the addresses that they have always had.
        """
        if self.make is None or not fixed:
            # a method may keep something of the batch before, of which it makes nothing behind one of another size
            self._warm = min(self._warm + 1, WARM_UP - 1)
            return False
        if self._warm < WARM_UP:
            self._warm += 1
            return False
        noted = set() if self._batch is None else self._batch.__dict__["noted"]
        if noted & set(_STEPWISE):
            log.info("%s reads Batch.%s, which no graph can; its steps run one by one", self.name, noted.pop())
            self.make = None
            return False
        stale = self._graph is None or ("epoch" in noted and batch.epoch != self._epoch)
        if stale and not self._record(given, batch):
            return False
        self._number.fill_(number)
        self._clock.fill_(batch.epoch)
        assert self._graph is not None
        self._graph.replay()
        if not self.whole:
            self._finish()
        return True

    def _record(self, given: Any, batch: Batch) -> bool:
        assert self.make is not None
        if self._graph is not None:
            self._graph.close()
        self._graph, self._epoch, self._batch = self.make(), batch.epoch, NotedBatch.of(batch, self._clock)
        known = self.step.ledger.names
        try:
            self._graph.record(lambda: self._work(given))
            if self.step.ledger.names != known:
                # sums that are made in a graph are made anew at every replay
                self.step.ledger.forget(self.step.ledger.names - known)
                raise RuntimeError("its loss terms have other names than in the steps before")
        except RuntimeError as error:
            log.warning(
                "%s cannot be captured as a CUDA graph, so its steps run one by one (capturable = False in its class says so "
                "beforehand): %s",
                *(self.name, str(error).splitlines()[0]),
            )
            self._graph = self.make = None
            self.step.optimizer.zero_grad(set_to_none=True)
            return False
        return True

    def _work(self, given: Any) -> None:
        assert self._batch is not None
        loss, _ = self.step.forward(given, self._batch, self._number)
        self.step.backward(loss)
        self._gradients = [p.grad for p in self.step.trained]
        if self.whole:
            self.step.update()

    def _finish(self) -> None:
        """The optimiser's step with the gradients that the graph has written. A step that ran by itself has left others."""
        for parameter, gradient in zip(self.step.trained, self._gradients):
            parameter.grad = gradient
        self.step.update()


class OutputsRunner:
    """A teacher's outputs at fixed addresses: computed ones from a graph, stored ones copied.

    Args:
        outputs: of the teacher.
        make: makes graphs; None = none are made.
        computed: ``outputs`` are those of a forward pass.
    """

    def __init__(self, outputs: Callable[[Batch], Any], make: MakeGraph | None, *, computed: bool) -> None:
        self.outputs, self.make, self.computed = outputs, make, computed
        self._graph: Graph | None = None
        self._warm = 0
        self._fixed = Fixed()

    def __call__(self, batch: Batch, *, fixed: bool) -> Any:
        """The outputs for a batch, at fixed addresses if the batch is."""
        if self.make is None or not fixed:
            return self.outputs(batch)
        if not self.computed:
            return self._fixed.put(self.outputs(batch))
        if self._warm < WARM_UP:
            self._warm += 1
            return self.outputs(batch)
        if self._graph is None:
            self._graph = self.make()
            try:
                self._graph.record(lambda: self.outputs(batch))
            except RuntimeError as error:
                log.warning("the teacher cannot be captured as a CUDA graph: %s", str(error).splitlines()[0])
                self._graph = self.make = None
                return self.outputs(batch)
        return self._graph.replay()

    @property
    def settled(self) -> bool:
        """Whether the outputs for batches at fixed addresses are at fixed addresses themselves."""
        return self.make is not None and (self._graph is not None or not self.computed)
