"""A folder that ``timm.create_model("local-dir:...", pretrained=True)`` reads: weights, and a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdbench.bench.deployment.program import about
from kdbench.bench.deployment.student import Deployable, Student
from kdbench.errors import KdbenchError, ModelError
from kdbench.models.names import find_entry
from kdbench.models.weights.export import save_student

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def check_network(student: Student) -> None:
    """Raises:
    ModelError: timm has not built the network, or has no class of it as it is.
    """
    if not student.timm_name:
        raise ModelError(
            f"--to timm: {student.cfg.DISTILLER.STUDENT!r} is no network of timm's; use --to onnx or --to torch.export"
        )
    if not type(student.model.backbone).__module__.startswith("timm."):
        raise ModelError(
            f"--to timm: kdbench has put a classifier on timm's {student.timm_name!r}, which timm cannot build; use --to onnx or "
            "--to torch.export"
        )


def write(student: Student, module: Deployable, folder: Path) -> None:
    """Write ``model.safetensors`` and ``config.json``. timm normalises and resizes by the configuration, outside of the network:
    ``timm.data.create_transform(**timm.data.resolve_model_data_config(model))``."""
    folder.mkdir()
    model = student.model
    save_student(folder / WEIGHTS, model.backbone, about(student))
    (folder / CONFIG).write_text(json.dumps(_config(student), indent=2, allow_nan=False), encoding="utf-8")


def opened(folder: Path, student: Student) -> Callable[[Tensor], Tensor]:
    """The function of timm's own network, from images to logits; resize and normalisation are the student's.

    Raises:
        KdbenchError: timm does not read the folder.
    """
    import timm

    try:
        network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    except Exception as error:  # a builder fails in any way
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise KdbenchError(
            f"timm {timm.__version__} does not read it (local-dir: needs timm>=1.0.16): {reason}"
        ) from error

    @torch.no_grad()
    def logits(images: Tensor) -> Tensor:
        found: Tensor = network(student.model.prepare(images))
        return found

    return logits


def _config(student: Student) -> dict[str, Any]:
    model, cfg = student.model, student.cfg
    architecture = student.timm_name.partition(".")[0]
    mean, std = (list(values) for values in model.statistics)
    published: dict[str, Any] = dict(getattr(model.backbone, "pretrained_cfg", None) or {})
    kept = {key: published[key] for key in ("first_conv", "classifier", "fixed_input_size") if key in published}
    return {
        "architecture": architecture,
        "num_classes": model.spec.num_classes,
        "num_features": model.spec.penultimate,
        "model_args": {**_builder_options(student), **dict(cfg.STUDENT.OPTIONS)},
        "pretrained_cfg": {
            **kept,
            "tag": "kdbench",
            "input_size": [model.in_channels, *model.input_size],
            "num_classes": model.spec.num_classes,
            "mean": mean,
            "std": std,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "label_names": student.classes,
        },
    }


def _builder_options(student: Student) -> dict[str, Any]:
    """What kdbench asks of timm's builder besides: the size of the images, where a network is built for one."""
    entry = find_entry(student.cfg.DISTILLER.STUDENT, student.cfg.STUDENT.INPUT_SIZE or student.side)
    return {entry.size_option: student.model.input_size[0]} if entry.size_option else {}
