"""Batches of one sample: whether student and method can train on them is found out before a folder exists."""

from __future__ import annotations

import copy
from typing import Any

import torch

from kdbench.data.loader import TrainLoader
from kdbench.distillers.base import Batch, Distiller
from kdbench.engine.teacher.outputs import STORED
from kdbench.engine.teacher.source import TeacherSource
from kdbench.errors import IncompatibleError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput

_NO_SPREAD = "more than 1 value per channel"  # what PyTorch's batch normalisation says of a single value


def check_single(
    student: FeatureModel, distiller: Distiller, teacher: TeacherSource | None, loader: TrainLoader, smallest: int
) -> None:
    """Where the smallest batch is one sample: take a step with copies of student and method on a black image.

    Args:
        student, distiller, teacher: of the run.
        loader: of its batches.
        smallest: samples in the smallest batch, or part of one.

    Raises:
        IncompatibleError: batch normalisation would see a single value of a channel, as in front of a classifier or on a map of
            one place.
    """
    if smallest > 1:
        return
    device = loader.device
    with torch.random.fork_rng(), torch.no_grad():
        own, method = (copy.deepcopy(module).to(device).train() for module in (student, distiller))
        side = loader.augment.size or loader.split.image_size
        first = torch.zeros(1, dtype=torch.int64, device=device)
        target = loader.split.labels[:1].to(device)
        batch = Batch(torch.zeros(1, 3, side, side, device=device), target, first, first)
        for name, network in ((f"student {student.spec.name}", None), (distiller.name, method)):
            try:
                if network is None:
                    own(batch.images, need=distiller.student_needs)
                else:
                    network(own, _outputs(teacher, distiller, batch), batch)
            except ValueError as error:
                if _NO_SPREAD not in str(error):
                    raise
                given = "SOLVER.BATCH_SIZE" + (" with SOLVER.ACCUMULATE" if smallest < loader.smallest else "")
                raise IncompatibleError(
                    f"{given} gives batches of one sample, of which batch normalisation in {name} sees a single value; "
                    "expects at least 2"
                ) from None


def _outputs(teacher: TeacherSource | None, distiller: Distiller, batch: Batch) -> Any:
    if teacher is None or distiller.needs_networks:
        return None if teacher is None else teacher.network
    if distiller.teacher_needs <= STORED:  # a teacher whose outputs are stored need not be built
        spec = teacher.spec
        given = ModelOutput(batch.images.new_zeros(1, spec.num_classes), batch.images.new_zeros(1, spec.penultimate))
        if "classifier" in distiller.teacher_needs:
            given.classifier = teacher.classifier()
        return given
    return teacher.network(batch.images, need=distiller.teacher_needs)
