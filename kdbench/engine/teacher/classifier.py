"""A teacher's linear classifier beside its cached outputs, so that a run that reads them needs no network."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from kdbench.errors import ModelError
from kdbench.models.weights.export import save_student
from kdbench.models.weights.read import read_weights, state_sha256

log = logging.getLogger(__name__)
NAME = "classifier.safetensors"
Classifier = tuple[Tensor, Tensor]


def read_classifier(folder: Path, classes: int, width: int) -> Classifier | None:
    """Weight (classes, width) and bias (classes,) as they were written to a cache's folder; None where they were not, or are
    damaged, which is said in a warning."""
    file = folder / NAME
    if not file.is_file():
        return None
    try:
        state, about = read_weights(file)
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        whole = shapes == {"weight": (classes, width), "bias": (classes,)} and about.get("sha256") == state_sha256(
            state
        )
    except ModelError:
        whole = False
    if not whole:
        log.warning("teacher cache %s is damaged; the teacher is asked anew", file)
        return None
    return state["weight"].clone(), state["bias"].clone()


def write_classifier(folder: Path, found: Classifier) -> None:
    """Keep a classifier in a cache's folder; one that cannot be written is said in a warning."""
    weight, bias = found
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    try:
        save_student(folder / NAME, linear, {"sha256": state_sha256(linear.state_dict())})
    except ModelError as error:
        log.warning("%s", error)
