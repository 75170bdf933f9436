"""Batches of one sample: whether student and method can train on them is found out before a folder exists."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from kdbench.data.loader import TrainLoader
from kdbench.distillers.base import Batch, Distiller
from kdbench.distillers.batch import joined
from kdbench.engine.teacher.outputs import STORED
from kdbench.engine.teacher.several import Teachers
from kdbench.engine.teacher.source import TeacherSource
from kdbench.errors import IncompatibleError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.spec import ModelOutput

_NO_SPREAD = "more than 1 value per channel"  # what PyTorch's batch normalisation says of a single value


def check_single(
    student: FeatureModel, distiller: Distiller, teacher: Teachers | None, loader: TrainLoader, smallest: int
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
        batch = black_batch(loader, 1, distiller)
        for name, network in ((f"student {student.spec.name}", None), (distiller.name, method)):
            try:
                if network is None:
                    own(batch.images, need=distiller.student_needs)
                else:
                    network(own, outputs_for(teacher, distiller, batch), batch)
            except ValueError as error:
                if _NO_SPREAD not in str(error):
                    raise
                given = "SOLVER.BATCH_SIZE" + (" with SOLVER.ACCUMULATE" if smallest < loader.smallest else "")
                raise IncompatibleError(
                    f"{given} gives batches of one sample, of which batch normalisation in {name} sees a single value; "
                    "expects at least 2"
                ) from None


def black_batch(loader: TrainLoader, size: int, distiller: Distiller) -> Batch:
    """The first images of the training set, all black.

    Args:
        loader: of the run's batches.
        size: of the batch; no more than there are images.
        distiller: whose looks it holds, too.
    """
    device, side = loader.device, loader.augment.size or loader.split.image_size
    index = torch.arange(size, device=device)
    images = torch.zeros(size, 3, side, side, device=device)
    looks = dict.fromkeys(distiller.looks, images)
    return Batch(images, loader.split.labels[:size].to(device), index, index, looks=looks)


def outputs_for(teacher: Teachers | None, distiller: Distiller, batch: Batch) -> Any:
    """What a method is given of its teacher for a batch that is no part of the training; zeros for one that need not be built,
    since its outputs are stored."""
    if teacher is not None and distiller.teacher_needs <= STORED and not distiller.needs_networks:
        return joined([_zeros(source, distiller, batch) for source in teacher.sources])
    networks = None if teacher is None else teacher.networks
    return distiller.taught(networks if networks is None or len(networks) > 1 else networks[0], batch)


def _zeros(source: TeacherSource, distiller: Distiller, batch: Batch) -> ModelOutput:
    spec, zeros = source.spec, batch.images.new_zeros
    made = ModelOutput(zeros(len(batch.images), spec.num_classes), zeros(len(batch.images), spec.penultimate))
    if "classifier" in distiller.teacher_needs:
        made.classifier = source.classifier()
    return replace(made, looks=dict.fromkeys(distiller.looks, made))
