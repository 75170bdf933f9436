"""A few steps of any method on tiny networks, and all that they changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from yacs.config import CfgNode

from kdbench.bench.speed.gpu.settings import Settings
from kdbench.catalogue import methods
from kdbench.config.load import load_config
from kdbench.distillers.base import Batch
from kdbench.distillers.create import list_distillers, uses_teacher
from kdbench.engine.session.prepare import Common, Prepared, prepare
from kdbench.engine.training.captured import MakeGraph, StepRunner
from kdbench.engine.training.graphs import CudaGraph, Rerun
from kdbench.engine.training.loop import Loop
from kdbench.engine.training.trainer import Trainer
from kdbench.models.zoo import create_model

_BATCH, _CLASSES, _SIZE = 16, 10, 16
#: of an epoch: six whole batches and half a one
IMAGES = 6 * _BATCH + _BATCH // 2
_WIDTHS = [12, 16, 24]
#: batches in training mode after which a fresh teacher's running statistics are those of its features
_SETTLING = 20
#: mean and standard deviation of the data set "fake"
_STATISTICS = ((0.5,) * 3, (0.29,) * 3)


def methods_of(settings: Settings) -> tuple[str, ...]:
    """The methods to check."""
    return settings.methods or tuple(list_distillers())


def teacher_file(
    folder: Path, device: str, name: str = "small_cnn", size: int = _SIZE, classes: int = _CLASSES, **options: Any
) -> str:
    """Weights of a fresh teacher that has seen some batches: on untouched running statistics its features are of a size at which CC
    and PAT diverge. Returns the path of the file.

    Args:
        folder: where it is written.
        device: that computes it.
        name: of the network.
        size: side of the images.
        classes: K.
        **options: of the network.
    """
    options = options or ({"widths": _WIDTHS} if name == "small_cnn" else {})
    teacher = create_model(name, num_classes=classes, data_size=size, norm=_STATISTICS, seed=0, **options).to(device)
    settles = any(key.endswith("running_mean") for key in teacher.backbone.state_dict())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _ in range(_SETTLING if settles else 0):
            teacher.train()(torch.rand(_BATCH, 3, size, size, generator=generator).to(device))
    file = folder / "teacher.pt"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({key: value.cpu() for key, value in teacher.backbone.state_dict().items()}, file)
    return str(file)


def tiny(
    method: str, device: str, prefix: Path, teacher: str, images: int = IMAGES, epochs: int = 2, **extra: Any
) -> CfgNode:
    """The configuration of a short run.

    Args:
        method: registered name.
        device: ``RUNTIME.DEVICE``.
        prefix: ``LOG.PREFIX``.
        teacher: file of its weights.
        images: of an epoch.
        epochs: number of them.
        **extra: further keys; ``__`` stands for a dot.
    """
    overrides: dict[str, Any] = {
        "DATASET.TYPE": "fake",
        "DATASET.OPTIONS": {"size": _SIZE, "train": images, "test": 2 * _BATCH, "num_classes": _CLASSES},
        "DATASET.NUM_WORKERS": 0,
        "DISTILLER.TYPE": method,
        "DISTILLER.STUDENT": "small_cnn",
        "AUGMENT.CROP": "pad",
        "AUGMENT.PAD": 2,
        "SOLVER.EPOCHS": epochs,
        "SOLVER.BATCH_SIZE": _BATCH,
        "SOLVER.LR": 0.001,
        "SOLVER.SCHEDULE": "cosine",
        "SOLVER.SCHEDULE_PER": "step",
        "RUNTIME.DEVICE": device,
        "LOG.PREFIX": str(prefix),
        **{key.replace("__", "."): value for key, value in extra.items()},
    }
    if uses_teacher(method):
        overrides |= {"DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS": {"widths": _WIDTHS}}
        overrides |= {"TEACHER.WEIGHTS": teacher, "TEACHER.NORM": "dataset"}
    if "INIT_EPOCHS" in (methods().get(method).defaults or {}):
        overrides[f"{method}.INIT_EPOCHS"] = 1
    return load_config(overrides=overrides)


@dataclass(frozen=True)
class Outcome:
    """What some steps left behind.

    Attributes:
        state: parameters and buffers of student and method, by name, in the host's memory.
        gradients: SGD's averages of them, which after one step are the gradients themselves.
        terms: means of the loss terms in the last epoch.
        steps: that were taken.
        replayed: steps that were replays of a recording.
    """

    state: dict[str, Tensor]
    gradients: dict[str, Tensor]
    terms: dict[str, float]
    steps: int
    replayed: int


class _Counted(StepRunner):
    """Counts steps and replays."""

    taken = replayed = 0

    def __call__(self, given: Any, batch: Batch, number: int, *, fixed: bool) -> bool:
        done = super().__call__(given, batch, number, fixed=fixed)
        self.taken, self.replayed = self.taken + 1, self.replayed + done
        return done


def steps_of(cfg: CfgNode, common: Common, *, captured: bool) -> Outcome:
    """Train as a run does and see what became of it.

    Args:
        cfg: of :func:`tiny`.
        common: data, loader and teacher.
        captured: replay steps where that can be done; on a CPU they are run again in the place of a replay.

    Raises:
        KdbenchError: the method refuses the pair, or training failed.
    """
    run = prepare(cfg, common)
    assert isinstance(run, Prepared)
    graph = CudaGraph if common.runtime.device.type == "cuda" else Rerun
    make: MakeGraph | None = graph if captured else None
    trainer = Trainer(run, common.runtime, make_graph=make)
    counted = trainer.main.captured = _Counted(trainer.main.step, make)
    loop = Loop([trainer], run.loader, common.teacher, common.runtime, make)
    loop.run()
    if loop.failed:
        raise loop.failed[trainer]
    module = trainer.step.module
    state = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    averages = {
        name: trainer.optimizer.state.get(value, {}).get("momentum_buffer") for name, value in module.named_parameters()
    }
    gradients = {name: value.cpu().clone() for name, value in averages.items() if value is not None}
    return Outcome(state, gradients, dict(trainer.history[-1]["train"]), counted.taken, counted.replayed)
