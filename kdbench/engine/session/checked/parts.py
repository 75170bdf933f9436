"""``SOLVER.ACCUMULATE``: whether a run can be trained on parts of its batches, found out before a folder exists."""

from __future__ import annotations

import logging

from torch.nn.modules.batchnorm import _BatchNorm
from yacs.config import CfgNode

from kdbench.data.loader import TrainLoader
from kdbench.distillers.base import Distiller
from kdbench.distillers.cut import why_whole
from kdbench.errors import IncompatibleError
from kdbench.models.feature_model.model import FeatureModel

log = logging.getLogger(__name__)


def check_parts(cfg: CfgNode, student: FeatureModel, distiller: Distiller, loader: TrainLoader, world: int) -> int:
    """The samples in the smallest part of a batch that a process computes at once. Says in one line what batch normalisation in the
    student then sees.

    Args:
        cfg: configuration.
        student, distiller: of the run.
        loader: of its batches.
        world: processes.

    Raises:
        IncompatibleError: the loss of the whole batch is not the mean over its parts, or several processes could not add up their
            gradients.
    """
    count = cfg.SOLVER.ACCUMULATE
    if count == 1:
        return loader.smallest
    reason = why_whole(distiller)
    if (
        not reason
        and world > 1
        and (distiller.unused_parameters or getattr(student.backbone, "unused_parameters", False))
    ):
        # DDP would leave such a gradient as it is in each process where the last part has none
        reason = "in some steps a parameter gets no gradient, of which several processes would take different ones"
    if reason:
        raise IncompatibleError(
            f"SOLVER.ACCUMULATE: {distiller.name} cannot be trained on parts of a batch: {reason}; set SOLVER.ACCUMULATE=1"
        )
    part = max(1, loader.smallest // count)
    if any(isinstance(module, _BatchNorm) and module.training for module in student.train().modules()):
        log.info(
            "SOLVER.ACCUMULATE: batch normalisation in %s sees the %d parts of a batch one by one, and takes their statistics",
            *(student.spec.name, count),
        )
    return part
