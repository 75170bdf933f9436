"""The student of a finished run, and the same as one module from images to logits."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from kdbench.data.build import build_data
from kdbench.data.source import DataSource
from kdbench.engine.identity.name import check_export
from kdbench.engine.identity.stored_options import with_stored_options
from kdbench.engine.parts import build_network, image_size
from kdbench.engine.run_folder import RunFolder
from kdbench.errors import ConfigError
from kdbench.models.feature_model.model import FeatureModel
from kdbench.models.names import find_entry
from kdbench.models.weights.export import read_metadata


class Deployable(nn.Module):
    """Images as a run has them to logits: resize, normalisation and network in one module that an exporter can follow.

    ``forward`` takes (B, 3, side, side) images in [0, 1] and returns (B, K) logits. The resize of :class:`FeatureModel` is linear
    in rows and in columns, so that here it is a product with two fixed matrices: no exporter and no runtime has another idea of
    antialiasing.

    Args:
        model: the network.
        side: of the images.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, model: FeatureModel, side: int) -> None:
        super().__init__()
        self.model, self.side = model, side
        height, width = model.input_size
        self.resizes = (side, side) != (height, width)
        if self.resizes:
            self.register_buffer("rows", _resize_matrix(side, height), persistent=False)
            self.register_buffer("columns", _resize_matrix(side, width).T.contiguous(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, side, side) in [0, 1] -> (B, K)."""
        if self.resizes:
            images = self.rows @ images @ self.columns
        logits: Tensor = self.model(images).logits
        return logits

    def example(self, batch: int) -> Tensor:
        """(batch, 3, side, side) random images in [0, 1], the same in every call."""
        return torch.rand(batch, 3, self.side, self.side, generator=torch.Generator().manual_seed(0))


def _resize_matrix(old: int, new: int) -> Tensor:
    """(new, old): what :meth:`FeatureModel.prepare` does to each column of an image."""
    return F.interpolate(torch.eye(old)[None, None], (new, old), mode="bilinear", align_corners=False, antialias=True)[
        0, 0
    ]


@dataclass
class Student:
    """What a finished run has left.

    Attributes:
        folder: of the run.
        cfg: its configuration, with the student's weights.
        model: the network, on the CPU and in evaluation mode.
        data: the data set, whose test split a file is checked on.
        side: of the images that the run hands to its networks.
        about: name, method, data set and accuracy, as ``student.safetensors`` records them.
        timm_name: timm's name of the network; empty where timm has not built it.
    """

    folder: Path
    cfg: CfgNode
    model: FeatureModel
    data: DataSource
    side: int
    about: dict[str, Any]
    timm_name: str

    @property
    def classes(self) -> list[str]:
        """Names of the K classes, in the order of the outputs."""
        return list(self.data.classes)

    def deployable(self) -> Deployable:
        """From images to logits."""
        return Deployable(self.model, self.side).eval()


def load_student(folder: str | os.PathLike[str], cfg: CfgNode) -> Student:
    """The student of a finished run.

    Args:
        folder: of the run.
        cfg: its configuration; paths may be others.

    Raises:
        ConfigError: the run is not finished.
        KdbenchError: its weights were changed, or its network or data cannot be built again.
    """
    run = RunFolder(Path(folder))
    if not run.done:
        raise ConfigError(f"{run.path}: {run.missing() or 'no result.json there'}; finish the run first")
    check_export(str(run.student))
    cfg = cfg.clone()
    cfg.defrost()
    cfg.STUDENT.WEIGHTS = str(run.student)
    cfg.freeze()
    if cfg.RUNTIME.THREADS > 0:
        torch.set_num_threads(cfg.RUNTIME.THREADS)
    data = build_data(cfg)
    cfg = with_stored_options(cfg, data, ["STUDENT"])
    model = build_network(cfg, "STUDENT", data).eval().requires_grad_(False)
    side = image_size(cfg, data)
    tag = find_entry(cfg.DISTILLER.STUDENT, cfg.STUDENT.INPUT_SIZE or side).tag
    project, _, name = tag.partition(" ")
    return Student(run.path, cfg, model, data, side, read_metadata(run.student), name if project == "timm" else "")
