"""``SOLVER.TASK_LOSS: bce``: whether a method's loss follows it, before a folder exists."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from yacs.config import CfgNode

from kdbench.data.loader import TrainLoader
from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.compose import Composed
from kdbench.engine.session.checked.single import black_batch, outputs_for
from kdbench.engine.teacher.several import Teachers
from kdbench.errors import ConfigError, IncompatibleError
from kdbench.models.feature_model.model import FeatureModel


def check_task_loss(
    cfg: CfgNode, student: FeatureModel, distiller: Distiller, teacher: Teachers | None, loader: TrainLoader
) -> None:
    """Where another task loss than the usual one is asked for: take a step of the first epoch and one of the last with copies of
    student and method on black images, and see whether each method asks for the run's criterion.

    Args:
        cfg: configuration.
        student, distiller, teacher: of the run.
        loader: of its batches.

    Raises:
        IncompatibleError: one never does, so that the key would say nothing of it.
        ConfigError: with ``SOLVER.BCE_TARGET_THRESH`` the targets of all classes would be the same.
    """
    if cfg.SOLVER.TASK_LOSS == "ce":
        return
    _check_threshold(cfg, student.spec.num_classes)
    with torch.random.fork_rng(), torch.no_grad():
        own, method = (copy.deepcopy(module).to(loader.device).train() for module in (student, distiller))
        parts = list(method.parts.values()) if isinstance(method, Composed) else [method]
        asked = [_Asked(part) for part in parts if isinstance(part, Distiller)]
        batch = black_batch(loader, min(loader.smallest, max(2, distiller.min_batch)), distiller)
        given = outputs_for(teacher, distiller, batch)
        for epoch, progress in ((1, 0.0), (cfg.SOLVER.EPOCHS, 1.0)):
            method(own, given, replace(batch, epoch=epoch, progress=progress))
    for one in asked:
        if not one.asked:
            raise IncompatibleError(
                f"SOLVER.TASK_LOSS: {cfg.SOLVER.TASK_LOSS} would change nothing for {one.method.name}, whose loss has no term by "
                "self.cross_entropy(logits, batch); set SOLVER.TASK_LOSS=ce"
            )


def _check_threshold(cfg: CfgNode, classes: int) -> None:
    threshold, smoothing = cfg.SOLVER.BCE_TARGET_THRESH, cfg.SOLVER.LABEL_SMOOTHING
    off = smoothing / classes
    label = 1.0 - smoothing + off
    if threshold >= 0 and not off <= threshold < label:
        value = 0 if threshold >= label else 1
        raise ConfigError(
            f"SOLVER.BCE_TARGET_THRESH: {threshold:g} makes every target {value}; with SOLVER.LABEL_SMOOTHING={smoothing:g} and "
            f"{classes} classes expects at least {off:g} and less than {label:g}, or -1"
        )


class _Asked:
    """Notes whether a method asks for the run's criterion."""

    def __init__(self, method: Distiller) -> None:
        self.method, self.asked = method, False
        self._criterion = method.cross_entropy
        method.cross_entropy = self  # type: ignore[assignment, method-assign]

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        self.asked = True
        return self._criterion(logits, batch)
