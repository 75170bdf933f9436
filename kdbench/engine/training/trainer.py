"""One student in training: its parts, its steps, its evaluations, its files. :mod:`kdbench.engine.training.loop` drives it."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from yacs.config import CfgNode

from kdbench.data.loader import TrainLoader
from kdbench.data.source import DataSource
from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.phase import first_phase
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.runtime import Runtime
from kdbench.engine.training.captured import MakeGraph
from kdbench.engine.training.finite import check_state
from kdbench.engine.training.optimiser.average import WeightAverage
from kdbench.engine.training.phases import Gear, PhaseStep, for_phase
from kdbench.engine.training.saving.lines import evaluated, record
from kdbench.engine.training.saving.selection import BestWeights, reason_to_stop
from kdbench.engine.training.saving.state import resume, save
from kdbench.engine.training.step import TrainStep
from kdbench.engine.training.tracking.several import Tracking
from kdbench.errors import NonFiniteLossError, RunStoppedError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.random import derive_seed

log = logging.getLogger(__name__)
#: ``fn(epoch, step, steps)`` after every step, for progress bars
Progress = Callable[[int, int, int], None]
#: ``fn(step, terms)``: the error of a step (from 0) with terms that are not finite
Explain = Callable[[int, list[str]], NonFiniteLossError]


@dataclass
class Parts:
    """What a run trains and with what, built by :mod:`kdbench.engine.session.prepare`."""

    cfg: CfgNode
    data: DataSource
    loader: TrainLoader
    student: FeatureModel
    distiller: Distiller
    folder: RunFolder
    #: lines of what was trained before, on the teacher alone, and the seconds that it took
    before: list[dict[str, Any]] = field(default_factory=list, kw_only=True)
    before_seconds: float = field(default=0.0, kw_only=True)


class Trainer:
    """Trains one student with one method; the batches and the teacher's outputs come from a loop, which may serve others, too.

    Everything random is a function of (seed, epoch, step or sample), so a run that was killed goes on from its last epoch
    and ends in the same bits as one that was not, and one that shares its batches ends in the same bits as one that does not.

    Args:
        parts: student, method and the rest; the student is trained in place.
        runtime: device and processes.
        progress: called after every step.
        make_graph: makes the graphs of captured steps; None runs all steps one by one.
        others: others learn from the same batches. A method or network from outside kdbench, which might write into what it is
            given, then works on copies.
        tracking: is told how it goes; None tells nobody.
    """

    def __init__(
        self,
        parts: Parts,
        runtime: Runtime,
        progress: Progress | None = None,
        make_graph: MakeGraph | None = None,
        *,
        others: bool = False,
        tracking: Tracking | None = None,
    ) -> None:
        cfg, device = parts.cfg, runtime.device
        self.cfg, self.data, self.folder, self.loader = cfg, parts.data, parts.folder, parts.loader
        self.runtime, self.progress = runtime, progress
        self.student, self.distiller = parts.student.to(device), parts.distiller.to(device)
        if cfg.SOLVER.CHANNELS_LAST:
            self.student.to(memory_format=torch.channels_last)
        module = TrainStep(self.student, self.distiller)
        #: moving average of the student's weights, which is evaluated and exported in its place
        self.average: WeightAverage | None = None
        if cfg.SOLVER.EMA > 0:
            self.average = WeightAverage(self.student, cfg.SOLVER.EMA, cfg.SOLVER.EPOCHS * len(self.loader))
        #: whether something of it comes from outside kdbench
        self.brought = module.brought
        apart = others and self.brought
        steps, world = len(self.loader), runtime.world
        #: epochs before epoch 1, with a loss of their own
        self.phase = first_phase(self.distiller.phases())
        self._first: Gear | None = None
        if self.phase is not None:
            self.phase.train(True)
            own = for_phase(cfg, self.phase), PhaseStep(module, self.phase)
            self._first = Gear.of(*own, steps, device, world, None, apart=apart)
            self.phase.train(False)
        #: what takes the steps from epoch 1 on
        self.main = Gear.of(cfg, module, steps, device, world, make_graph, apart=apart)
        if self._first is not None:
            self._first.ledger.skipped = self.main.ledger.skipped
        #: where it goes on: an epoch from 1, or of the first phase, and the steps of it that were taken before
        self.first_epoch, self.first_step = 1 - (self.phase.epochs if self.phase is not None else 0), 0
        self.shift(self.first_epoch)
        #: lines of what was trained before epoch 1, and the seconds that it took
        self.before, self.before_seconds = list(parts.before), parts.before_seconds
        self.tracking = tracking or Tracking()
        self.history: list[dict[str, Any]] = []
        #: weights of the best epoch, where those are what the run leaves
        self.best = BestWeights() if cfg.SOLVER.KEEP == "best" else None
        #: why it takes no further epoch though some are left; empty while it does
        self.stopped = ""
        #: what had been added up in that epoch
        self.begun: dict[str, Any] = {}
        #: images of this epoch, in this process
        self.images = 0

    def shift(self, epoch: int) -> None:
        """Make ready for the steps of an epoch: those of the first phase are taken by another optimiser, and train more."""
        gear = self.main if epoch > 0 or self._first is None else self._first
        self.optimizer, self.schedule, self.ledger = gear.optimizer, gear.schedule, gear.ledger
        self.step, self.captured = gear.step, gear.captured
        if self.phase is not None:
            self.phase.train(gear is self._first)

    @property
    def outcome(self) -> FeatureModel:
        """The network that the run is about: the student, or the average of its weights."""
        return self.student if self.average is None else self.average.network

    def begin(self, epoch: int) -> None:
        """An epoch begins."""
        self.shift(epoch)
        self.step.module.train()
        self.ledger.start()
        self.images = 0
        if self.starts(epoch):
            self.ledger.put_back(self.begun["ledger"])
            self.images = self.begun["images"]
            self.schedule.set(epoch, self.first_step - 1)  # perhaps no step is left
        else:
            self.begun = {}

    def starts(self, epoch: int) -> int:
        """Steps of an epoch that it has taken already."""
        return self.first_step if epoch == self.first_epoch else 0

    def take(self, batch: Batch, given: Any, step: int, explain: Explain, *, epoch: int, fixed: bool = False) -> None:
        """One step.

        Args:
            epoch: of the run; that of the batch is another one in a first phase.
            batch: the step's; no other student has this object, though others see its tensors.
            given: what the method asked of the teacher.
            step: its number in the epoch, from 0.
            explain: makes the error of a step that is not finite.
            fixed: batch and ``given`` lie where they have always lain, so that the step may be captured.

        Raises:
            NonFiniteLossError: a term is NaN or infinite. On a CPU nothing was updated; on a GPU, which is not waited for at every
                step, nothing that it updated is evaluated or saved.
        """
        self.schedule.set(epoch, step)
        # A student's own dropout: a function of the step, not of what ran before it.
        seed = derive_seed("step", self.cfg.EXPERIMENT.SEED, batch.epoch, step, self.runtime.rank)
        torch.manual_seed(seed)
        if self.brought:  # kdbench's own methods draw from nothing else
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that such a method would draw from
        self.train_step(batch, given, step, explain, fixed)
        self.images += len(batch.draw)
        count = (epoch - 1) * len(self.loader) + step
        if epoch > 0 and self.tracking.due(count):
            self.tracking.terms(count, self.ledger.last())
        if self.progress is not None:
            self.progress(epoch, step + 1, len(self.loader))

    def train_step(self, batch: Batch, given: Any, step: int, explain: Explain, fixed: bool) -> None:
        """Forward, backward, update; see :meth:`take`."""
        if not self.captured(given, batch, step, fixed=fixed):
            at_once = self.runtime.device.type == "cpu" and not self.ledger.skipping
            look = functools.partial(self.look, explain) if at_once else None
            self.step.gradients(given, batch, step, self.loader.weight(step), look)
            self.step.update()
        if self.average is not None and self.step is self.main.step:
            self.average.update(self.student, (batch.epoch - 1) * len(self.loader) + step)
        if (self.runtime.device.type != "cpu" or self.ledger.skipping) and self.ledger.due(step):
            self.look(explain)

    def look(self, explain: Explain) -> None:
        """Raise the error of the epoch's first step whose loss is not finite, if there is one."""
        if self.ledger.skipping:
            most, skipped = self.cfg.SOLVER.MAX_SKIPPED, int(self.ledger.skipped)
            if skipped > most:
                raise NonFiniteLossError(f"{skipped} steps were not finite and skipped, SOLVER.MAX_SKIPPED is {most}")
            return
        found = self.ledger.found()
        if found is not None:
            raise explain(*found)

    def end(self, epoch: int, timing: dict[str, Any], explain: Explain) -> None:
        """An epoch has ended: judge, evaluate and save it.

        Args:
            epoch: counted from 1; 0 and less in the first phase.
            timing: ``seconds`` and ``data_seconds`` of the epoch.
            explain: see :meth:`take`.

        Raises:
            NonFiniteLossError: a loss, a weight, a running statistic or an output is NaN or infinite.
        """
        # Each process kept running statistics of its own share of the last batch; what is evaluated is one network.
        self.runtime.share_buffers(self.student)
        if self.average is not None:
            self.runtime.share_buffers(self.average.network)
        self.check(epoch, explain)
        if epoch < 1:
            self._end_of_phase(epoch, self._whole(timing)["seconds"])
            return
        terms, timing = self.ledger.means(self.images, self.runtime, self.folder.path.name), self._whole(timing)
        rate = self.images * self.runtime.world / max(timing["seconds"], 1e-9)
        if epoch % self.cfg.SOLVER.EVAL_EVERY == 0 or epoch == self.cfg.SOLVER.EPOCHS:
            try:
                line = evaluated(self, epoch, terms)
            except RunStoppedError:
                save(self, epoch - 1, len(self.loader), timing)
                raise
            record(self, line, {"epoch": epoch, **timing, "images_per_second": rate})
            if self.best is not None:
                self.best.see(self.history, self.outcome.backbone)
            self._judge()
            if self.stopped:
                log.info("%s stops after epoch %d: %s", self.folder.path.name, epoch, self.stopped)
        save(self, epoch)

    def _end_of_phase(self, epoch: int, seconds: float) -> None:
        """An epoch of the first phase has ended: note and save it."""
        assert self.phase is not None
        terms = self.ledger.means(self.images, self.runtime, self.folder.path.name)
        number = self.phase.epochs + epoch
        line = {"epoch": number, "lr": self.schedule.rate, "phase": self.phase.name, "train": terms}
        self.before.append(line)
        self.before_seconds += seconds
        log.info("%s, epoch %d of %d before the first", self.phase.name, number, self.phase.epochs)
        self.shift(epoch + 1)
        save(self, epoch)

    def _judge(self) -> None:
        """Whether it stops here; all processes alike."""
        patience, last = self.cfg.SOLVER.PATIENCE, self.cfg.SOLVER.EPOCHS
        if patience and self.history and self.history[-1]["epoch"] < last:  # at its last epoch it ends as all do
            self.stopped = self.runtime.from_main(reason_to_stop(self.history, patience))

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one; see :func:`kdbench.engine.training.saving.state.resume`."""
        resume(self)
        self._judge()
        self.tracking.start(self.cfg, self.folder.path, self.history)

    def save(self, epoch: int, step: int, timing: dict[str, Any]) -> None:
        """Save within an epoch.

        Args:
            epoch: which, counted from 1.
            step: steps of it that were taken.
            timing: ``seconds`` and ``data_seconds`` of those, in this process.
        """
        save(self, epoch - 1, step, self._whole(timing))

    def check(self, epoch: int, explain: Explain) -> None:
        """Refuse what is not finite; see :meth:`end`."""
        self.look(explain)
        check_state(
            {"student": self.outcome, "trained student": self.student, self.distiller.name: self.distiller}, epoch
        )

    def _whole(self, timing: dict[str, Any]) -> dict[str, Any]:
        """Times of an epoch, with what a process that was stopped in it had spent."""
        before = self.begun.get("timing", {})
        summed = {key: timing[key] + before.get(key, 0.0) for key in ("seconds", "data_seconds")}
        filled = {"cache": before["cache"]} if before.get("cache") == "fills" else {}
        return {**timing, **filled, **summed}
