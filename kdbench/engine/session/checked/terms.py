"""``SOLVER.TRAINER: dot``: whether a method's loss has terms of the task and others that distil, before a folder exists."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from yacs.config import CfgNode

from kdbench.config.defaults import DOT_TRAINERS
from kdbench.data.loader import TrainLoader
from kdbench.distillers.base import Distiller
from kdbench.engine.session.checked.single import black_batch, outputs_for
from kdbench.engine.teacher.several import Teachers
from kdbench.errors import IncompatibleError
from kdbench.models.feature_model.model import FeatureModel


def check_terms_of_both(
    cfg: CfgNode, student: FeatureModel, distiller: Distiller, teacher: Teachers | None, loader: TrainLoader
) -> None:
    """Take a step of the first epoch and one of the last with copies of student and method on black images, and look at the names
    of the loss terms.

    Args:
        cfg: configuration.
        student, distiller, teacher: of the run.
        loader: of its batches.

    Raises:
        IncompatibleError: all of them are the task's, or none is.
    """
    if cfg.SOLVER.TRAINER not in DOT_TRAINERS:
        return
    names: dict[str, bool] = {}  # whether it is the task's
    with torch.random.fork_rng(), torch.no_grad():
        own, method = (copy.deepcopy(module).to(loader.device).train() for module in (student, distiller))
        batch = black_batch(loader, min(loader.smallest, max(2, distiller.min_batch)), distiller)
        given = outputs_for(teacher, distiller, batch)
        for epoch, progress in ((1, 0.0), (cfg.SOLVER.EPOCHS, 1.0)):
            terms = method(own, given, replace(batch, epoch=epoch, progress=progress))
            names |= {name: name in distiller.task_terms for name in terms}
    if len(set(names.values())) < 2:
        which = "are the task's" if all(names.values()) else "distil"
        raise IncompatibleError(
            f"SOLVER.TRAINER: {cfg.SOLVER.TRAINER} keeps the gradients of task and distillation apart, and all loss terms of "
            f"{distiller.name} {which} ({', '.join(names)}; its class declares task_terms = {distiller.task_terms}); set "
            "SOLVER.TRAINER=base"
        )
