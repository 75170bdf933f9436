"""What a method trains on its teacher alone, before the first step: found in the teacher cache's folder, or trained here.

It is a function of teacher, data, augmentation, seed and the method's own keys, so that all students of a teacher share it. A run
without a cache keeps it in its own folder until it is done. Whatever is interrupted goes on from the last whole epoch.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdbench import stopping
from kdbench.config.load import to_dict
from kdbench.data.loader import LoadedBatch
from kdbench.data.teacher_cache.cache import cache_key
from kdbench.distillers.base import Batch
from kdbench.distillers.batch import check_terms
from kdbench.distillers.phase import Phase
from kdbench.engine.precision import products
from kdbench.engine.runtime import Runtime
from kdbench.engine.teacher.several import Teachers
from kdbench.engine.teacher.source import TeacherSource
from kdbench.engine.teacher.trained import FOLDER, read_trained, write_trained
from kdbench.engine.training.ledger import Ledger
from kdbench.engine.training.phases import drawn_as
from kdbench.engine.training.saving.checkpoint import load_checkpoint, save_checkpoint
from kdbench.engine.training.trainer import Parts
from kdbench.errors import NonFiniteLossError
from kdbench.random import derive_seed

log = logging.getLogger(__name__)
_MOMENTUM, _DECAY = 0.9, 5e-4  # of both releases


def pretrain(parts: Parts, teachers: Teachers | None, runtime: Runtime, code: Any) -> None:
    """Train, or find, the modules of a method's phases on the teacher alone; their lines are added to ``parts.before``.

    Args:
        parts: of the run, whose folder there is.
        teachers: of the run; a method that has a phase on the teacher alone learns from one.
        runtime: device, one process.
        code: digests of what the user brought.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite.
        RunStoppedError: the process was asked to stop; what was finished is kept.
    """
    for phase in parts.distiller.phases():
        if teachers is None or not phase.on_teacher or phase.epochs == 0:
            continue
        [teacher] = teachers.sources
        started = time.perf_counter()
        name = _file_name(parts, phase, teacher, code)
        cache = parts.cfg.CACHE.ENABLED and teacher.cache.writable
        file = (teacher.root / FOLDER if cache else parts.folder.path) / f"{name}.safetensors"
        modules = nn.ModuleList(phase.modules)
        lines = read_trained(file, modules, phase.epochs)
        if lines is None:
            lines = _Pretraining(parts, phase, modules, teacher, runtime, parts.folder.path / f"{name}.pt").run()
            write_trained(file, modules, lines)
        else:
            log.info("%s of %s is that of %s", phase.name, parts.distiller.name, file)
        parts.before += lines
        parts.before_seconds += time.perf_counter() - started


def _file_name(parts: Parts, phase: Phase, teacher: TeacherSource, code: Any) -> str:
    """Without suffix, after all that decides over the outcome."""
    key = {name: value for name, value in teacher.key_parts.items() if name != "dtype"}
    key |= {"method": parts.distiller.name, "phase": phase.name, "keys": dict(phase.keys), "code": code}
    key |= {"epochs": phase.epochs, "rate": phase.rate, "milestones": phase.milestones, "looks": phase.looks}
    key |= {"seed": parts.distiller.seed, "order": parts.loader.seed, "stages": to_dict(parts.cfg.TEACHER.STAGES)}
    key |= {"repeat": parts.loader.repeat}
    return f"phase-{phase.name}-{cache_key(key)}"


class _Pretraining:
    """The epochs of a phase on the teacher alone.

    Args:
        parts: of the run.
        phase: what is trained.
        modules: of it.
        teacher: whose outputs are asked for.
        runtime: device.
        progress: file of the state behind the last whole epoch.
    """

    def __init__(
        self,
        parts: Parts,
        phase: Phase,
        modules: nn.Module,
        teacher: TeacherSource,
        runtime: Runtime,
        progress: Path,
    ) -> None:
        self.parts, self.phase, self.runtime, self.progress = parts, phase, runtime, progress
        self.modules = modules.to(runtime.device)
        self.outputs = teacher.live([phase.teacher_needs], [phase.looks])
        phase.train(True)
        self.optimizer = torch.optim.SGD(
            modules.parameters(), lr=phase.rate, momentum=_MOMENTUM, weight_decay=_DECAY, foreach=False
        )
        self.ledger = Ledger(runtime.device)

    def run(self) -> list[dict[str, Any]]:
        """Train to the last epoch; a line for each."""
        lines = self._found()
        with products("fp32", self.runtime.device):
            for epoch in range(len(lines) + 1, self.phase.epochs + 1):
                lines.append(self._epoch(epoch))
                self._save(lines)
                what = self.phase.name, epoch, self.phase.epochs
                log.info("%s, epoch %d of %d on the teacher alone", *what)
        self.optimizer.zero_grad(set_to_none=True)
        self.phase.train(False)
        return lines

    def _epoch(self, epoch: int) -> dict[str, Any]:
        phase, parts = self.phase, self.parts
        rate = phase.rate * 0.1 ** sum(epoch > milestone for milestone in phase.milestones)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.ledger.start()
        images, drawn = 0, drawn_as(1 - epoch)
        for step, loaded in enumerate(parts.loader.epoch(drawn)):
            torch.manual_seed(derive_seed("phase", parts.cfg.EXPERIMENT.SEED, epoch, step))
            batch = self._batch(loaded, drawn)
            terms = phase.terms(None, self.outputs(batch).map(_whole), batch)
            check_terms(parts.distiller.name, terms)
            loss = torch.stack(list(terms.values())).sum()
            self.ledger.enter(step, terms, loss, len(batch.draw))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            images += len(batch.draw)
            stopping.check(f"in epoch {epoch} of the {phase.name}, whose epochs before are saved")
        found = self.ledger.found()
        if found is not None:
            raise NonFiniteLossError(
                f"loss term {', '.join(found[1])} of {parts.distiller.name} is not finite in epoch {epoch} of the {phase.name}, "
                f"step {found[0] + 1}"
            )
        means = self.ledger.means(images, self.runtime, parts.folder.path.name)
        return {
            "epoch": epoch,
            "lr": rate,
            "phase": phase.name,
            "train": means,
        }  # in the order in which a file has them

    def _batch(self, loaded: LoadedBatch, epoch: int) -> Batch:
        images, target, index, draw, *further = loaded.on_device()
        looks = dict(zip(loaded.looks, further))
        seed = self.parts.cfg.EXPERIMENT.SEED
        return Batch(images, target, index, draw, epoch, seed=seed, host_draw=loaded.host_draw, looks=looks)

    def _found(self) -> list[dict[str, Any]]:
        """The lines of epochs that were finished before, whose state is put back."""
        state = load_checkpoint(self.progress)
        if state is None:
            return []
        self.modules.load_state_dict(state["modules"])
        self.optimizer.load_state_dict(state["optimizer"])
        return list(state["history"])

    def _save(self, lines: list[dict[str, Any]]) -> None:
        state = {"modules": self.modules.state_dict(), "optimizer": self.optimizer.state_dict(), "history": lines}
        save_checkpoint(self.progress, {"epoch": len(lines), "metrics_bytes": 0, "timing_bytes": 0, **state})


def _whole(value: Tensor) -> Tensor:
    """float32 where it was computed in less."""
    return value.float() if value.is_floating_point() else value
