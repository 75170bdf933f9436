"""The one training loop."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from yacs.config import CfgNode

from kdbench.data.loader import LoadedBatch
from kdbench.data.source import DataSource, Split
from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.batch import check_terms
from kdbench.engine.evaluation import Score, score
from kdbench.engine.parts import TrainStep, evaluation_options, make_loader
from kdbench.engine.run_folder import RunFolder
from kdbench.engine.runtime import Runtime, peak_rss_bytes
from kdbench.engine.teacher.source import TeacherSource
from kdbench.engine.training.average import WeightAverage
from kdbench.engine.training.board import Board
from kdbench.engine.training.checkpoint import load_checkpoint, save_checkpoint
from kdbench.engine.training.finite import FiniteWatch, check_score, check_state, loss_error
from kdbench.engine.training.optim import Schedule, build_optimizer
from kdbench.files import file_size
from kdbench.models.feature_model.model import FeatureModel
from kdbench.random import derive_seed

log = logging.getLogger(__name__)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: ``fn(epoch, step, steps)`` after every step, for progress bars
Progress = Callable[[int, int, int], None]


class Trainer:
    """Trains one student with one method.

    Everything random is a function of (seed, epoch, step or sample), so a run that was killed goes on from its last epoch
    and ends in the same bits as one that was not.

    Args:
        cfg: configuration.
        data: data set.
        student: trained in place.
        distiller: the method.
        teacher: where the teacher's outputs come from; None where the method needs none.
        folder: where files go; created by the caller.
        runtime: device and processes.
        progress: called after every step.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data: DataSource,
        student: FeatureModel,
        distiller: Distiller,
        teacher: TeacherSource | None,
        folder: RunFolder,
        runtime: Runtime,
        progress: Progress | None = None,
    ) -> None:
        self.cfg, self.data, self.folder, self.runtime, self.progress = cfg, data, folder, runtime, progress
        device = runtime.device
        self.student, self.distiller = student.to(device), distiller.to(device)
        self.teacher = teacher
        #: what the method is given of the teacher
        self.taught = None if teacher is None else teacher.outputs_of(distiller, folder.path.name, self._autocast)
        if cfg.SOLVER.CHANNELS_LAST:
            self.student.to(memory_format=torch.channels_last)
        self.module = TrainStep(self.student, self.distiller)
        self.optimizer = build_optimizer(cfg, self.module)
        self.loader = teacher.loader if teacher is not None else make_loader(cfg, data, runtime)
        self.schedule = Schedule(cfg, self.optimizer, len(self.loader))
        #: moving average of the student's weights, which is evaluated and exported in its place
        self.average: WeightAverage | None = None
        if cfg.SOLVER.EMA > 0:
            self.average = WeightAverage(self.student, cfg.SOLVER.EMA, cfg.SOLVER.EPOCHS * len(self.loader))
        self.watch = FiniteWatch(device)
        fp16_gpu = cfg.SOLVER.AMP == "fp16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=fp16_gpu)
        self.step_module: nn.Module = self.module
        if runtime.world > 1:
            self.step_module = DistributedDataParallel(self.module, find_unused_parameters=True)
        if cfg.SOLVER.COMPILE:
            self.step_module.compile()
        self.trained = [p for p in self.module.parameters() if p.requires_grad]
        self.history: list[dict[str, Any]] = []
        self.first_epoch = 1

    @property
    def outcome(self) -> FeatureModel:
        """The network that the run is about: the student, or the average of its weights."""
        return self.student if self.average is None else self.average.network

    def run(self) -> list[dict[str, Any]]:
        """Train to the last epoch; returns the evaluations, oldest first."""
        self.resume()
        epochs = self.cfg.SOLVER.EPOCHS
        with Board(self.cfg, self.folder.path / "tensorboard", enabled=self.runtime.is_main) as board:
            for epoch in range(self.first_epoch, epochs + 1):
                terms, timing = self.train_epoch(epoch, board)
                if epoch % self.cfg.SOLVER.EVAL_EVERY == 0 or epoch == epochs:
                    self._record(self.evaluate(epoch, terms), timing, board)
                self.save(epoch)
        return self.history

    def train_epoch(self, epoch: int, board: Board | None = None) -> tuple[dict[str, float], dict[str, float]]:
        """One pass; returns the mean of each loss term, and timings."""
        self.module.train()
        self.watch.start()
        if self.taught is not None:
            self.taught.start(epoch)
        steps, images = len(self.loader), 0
        sums: dict[str, Tensor] = {}
        started = mark = time.perf_counter()
        waited = 0.0
        for step, loaded in enumerate(self.loader.epoch(epoch)):
            waited += time.perf_counter() - mark
            self.schedule.set(epoch, step)
            terms = self.train_step(self._batch(loaded, epoch, step), step)
            images += len(loaded.draw)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.double() * len(loaded.draw)
            if board is not None:
                board.step((epoch - 1) * steps + step, terms)
            if self.progress is not None:
                self.progress(epoch, step + 1, steps)
            mark = time.perf_counter()
        self._look(epoch)
        if self.taught is not None:
            self.taught.end()
        # Each process kept running statistics of its own share of the last batch; what is evaluated is one network.
        self.runtime.share_buffers(self.student)
        if self.average is not None:
            self.runtime.share_buffers(self.average.network)
        check_state(
            {"student": self.outcome, "trained student": self.student, self.distiller.name: self.distiller}, epoch
        )
        seconds = time.perf_counter() - started
        means = self._means(sums, images)
        rate = images * self.runtime.world / max(seconds, 1e-9)
        return means, {"epoch": epoch, "seconds": seconds, "data_seconds": waited, "images_per_second": rate}

    def train_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Forward, backward, update; returns the detached loss terms.

        Raises:
            NonFiniteLossError: a term is NaN or infinite. On a CPU nothing was updated; on a GPU, which is not waited for at every
                step, nothing that it updated is evaluated or saved.
        """
        # A student's own dropout: a function of the step, not of what ran before it.
        torch.manual_seed(derive_seed("step", self.cfg.EXPERIMENT.SEED, batch.epoch, step, self.runtime.rank))
        teacher = None if self.taught is None else self.taught(batch)
        with self._autocast():
            terms = self.step_module(teacher, batch)
        check_terms(self.distiller.name, terms)
        loss = torch.stack([term.float() if term.dtype in _DTYPES.values() else term for term in terms.values()]).sum()
        self.watch.see(step, terms, loss)
        if self.watch.due(step):
            self._look(batch.epoch)
        weight = self.loader.weight(step)
        if weight != 1.0:  # DDP takes the plain mean of the processes' gradients, whatever their shares of the batch
            loss = loss * weight
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.cfg.SOLVER.CLIP_GRAD > 0:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.trained, self.cfg.SOLVER.CLIP_GRAD)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.student, (batch.epoch - 1) * len(self.loader) + step)
        return {name: term.detach() for name, term in terms.items()}

    def evaluate(self, epoch: int, terms: dict[str, float]) -> dict[str, Any]:
        """Scores of the student after ``epoch``, as one line of ``metrics.jsonl``; no clock in it."""
        result = self._score(self.data.test)
        check_score(result, f"the student's outputs for the test images after epoch {epoch}")
        line: dict[str, Any] = {"epoch": epoch, "top1": result.top1, "top5": result.top5, "test_loss": result.loss}
        if self.data.val is not None:
            val = self._score(self.data.val)
            line |= {"val_top1": val.top1, "val_top5": val.top5}
        return line | {"lr": self.optimizer.param_groups[0]["lr"], "train": terms}

    def _score(self, split: Split) -> Score:
        return score(self.outcome, split, runtime=self.runtime, **evaluation_options(self.cfg, self.data))

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if there is one: cut what was logged after it."""
        state = load_checkpoint(self.folder.checkpoint)
        if state is None:
            for file in (self.folder.metrics, self.folder.timing):
                self.folder.truncate(file, 0)
            return
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.history, self.first_epoch = state["history"], state["epoch"] + 1
        if self.runtime.is_main:
            self.folder.truncate(self.folder.metrics, state["metrics_bytes"])
            self.folder.truncate(self.folder.timing, state["timing_bytes"])
        log.info("resuming %s after epoch %d", self.folder.path.name, state["epoch"])

    def save(self, epoch: int) -> None:
        """Write the checkpoint of a finished epoch; the teacher is never in it."""
        if self.runtime.is_main:
            state = {
                "epoch": epoch,
                **{name: part.state_dict() for name, part in self._parts().items()},
                "history": self.history,
                "metrics_bytes": file_size(self.folder.metrics),
                "timing_bytes": file_size(self.folder.timing),
            }
            save_checkpoint(self.folder.checkpoint, state)
        self.runtime.barrier()

    def _parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by name."""
        parts = {"student": self.student.backbone, "distiller": self.distiller, "optimizer": self.optimizer}
        average = {} if self.average is None else {"average": self.average.network.backbone}
        return {**parts, "scaler": self.scaler, **average}

    def _look(self, epoch: int) -> None:
        """Raise the error of the epoch's first step whose loss is not finite, if there is one."""
        found = self.watch.found()
        if found is None:
            return
        step, terms = found
        batch = self._batch(next(itertools.islice(self.loader.epoch(epoch), step, None)), epoch, step)
        output = None
        if self.teacher is not None:
            with torch.no_grad(), self._autocast():
                output = self.teacher.network(batch.images, need=self.distiller.teacher_needs)
        where = f"loss term {', '.join(terms)} of {self.distiller.name} is not finite in epoch {epoch}, step {step + 1}"
        raise loss_error(where, batch.images, output, self.cfg.DISTILLER.TEACHER)

    def _batch(self, loaded: LoadedBatch, epoch: int, step: int) -> Batch:
        progress = (epoch - 1 + step / len(self.loader)) / self.cfg.SOLVER.EPOCHS
        images = loaded.images
        if self.cfg.SOLVER.CHANNELS_LAST:
            images = images.contiguous(memory_format=torch.channels_last)
        return Batch(
            images,
            loaded.target,
            loaded.index,
            loaded.draw,
            epoch=epoch,
            progress=progress,
            seed=self.cfg.EXPERIMENT.SEED,
            smoothing=0.0 if loaded.smoothing_included else self.cfg.SOLVER.LABEL_SMOOTHING,
        )

    def _autocast(self) -> Any:
        dtype = _DTYPES.get(self.cfg.SOLVER.AMP)
        if dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.runtime.device.type, dtype=dtype)

    def _means(self, sums: dict[str, Any], images: int) -> dict[str, float]:
        names = sorted(sums)
        stacked = torch.stack(
            [sums[name] for name in names] + [torch.tensor(float(images), dtype=torch.float64).to(self.runtime.device)]
        )
        stacked = self.runtime.sum(stacked).cpu()
        return {name: float(value / stacked[-1]) for name, value in zip(names, stacked)}

    def _record(self, line: dict[str, Any], timing: dict[str, Any], board: Board) -> None:
        self.history.append(line)
        if not self.runtime.is_main:
            return
        timing |= peak_rss_bytes()
        if self.runtime.device.type == "cuda":
            timing["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(self.runtime.device)
        self.folder.append(self.folder.metrics, line)
        self.folder.append(self.folder.timing, timing)
        log.info("epoch %d: top-1 %.2f, top-5 %.2f", line["epoch"], line["top1"], line["top5"])
        board.evaluation(line)
