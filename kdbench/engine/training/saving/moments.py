"""When a run is saved within an epoch, and when it stops: decided after each step, by all processes alike."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist

from kdbench import stopping
from kdbench.config.values import checkpoint_every
from kdbench.engine.runtime import Runtime

#: what a process has to say after a step, the larger of which counts
_GO_ON, _SAVE, _STOP = 0, 1, 2


class Moments:
    """Asked after every step whether to save, and whether to stop.

    Several processes may be asked to stop at different steps, and their clocks differ. Each tells the others after its step, on the
    host and without waiting; what was told is taken up after the next step, which it has then reached everywhere.

    Args:
        every: ``SOLVER.CHECKPOINT_EVERY``.
        runtime: the processes.
    """

    def __init__(self, every: str, runtime: Runtime) -> None:
        steps, minutes = checkpoint_every(every)
        self.steps, self.seconds = steps, 60.0 * minutes
        self.world = runtime.world
        self._group: Any = None
        if self.world > 1:
            # one of its own: told between the collectives of a step, which may be a GPU's
            self._group = dist.new_group(backend="gloo")
        self._told: tuple[Any, torch.Tensor] | None = None
        self._since = time.monotonic()

    def after_step(self, step: int) -> tuple[bool, bool]:
        """(save, stop) after step ``step`` of an epoch, from 0."""
        late = self.seconds > 0 and time.monotonic() - self._since >= self.seconds
        word = self._agreed(_STOP if stopping.asked() else _SAVE if late else _GO_ON)
        stop, save = word == _STOP, word >= _SAVE or (self.steps > 0 and (step + 1) % self.steps == 0)
        if save:
            self._since = time.monotonic()
        return save, stop

    def begin(self) -> None:
        """An epoch begins; it is saved."""
        self._since = time.monotonic()

    def close(self) -> None:
        """The last step was taken: hear what is still under way."""
        if self._told is not None:
            self._told[0].wait()
            self._told = None

    def _agreed(self, word: int) -> int:
        """The largest word of all processes, told after the step before; with one process its own, of this step."""
        if self.world == 1:
            return word
        before, heard = self._told, _GO_ON
        if before is not None:
            before[0].wait()
            heard = int(before[1])
        box = torch.tensor(word)
        self._told = (dist.all_reduce(box, op=dist.ReduceOp.MAX, group=self._group, async_op=True), box)
        return heard
