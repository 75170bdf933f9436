"""Peak memory of a run with the live teacher and of one that the cache serves, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from kdbench.config.load import load_config
from kdbench.models.zoo import create_model

STUDENT = "timm:resnet18"


def run(
    teachers: tuple[str, ...] = ("timm:swin_tiny_patch4_window7_224", "timm:vit_large_patch14_dinov2"), rounds: int = 3
) -> list[dict[str, Any]]:
    """Rows ``teacher, weights MB, live MB, cached MB, saved MB`` of KD at 224: six steps of 8 images.

    Peak resident set sizes, medians of the rounds: where the allocator finds room differs from run to run by some 40 MB.
    """
    rows = []
    for name in teachers:
        with tempfile.TemporaryDirectory() as folder:
            peaks: dict[str, list[float]] = {"live": [], "cached": []}
            weights = _in_process(_save_teacher, name, folder)
            _in_process(_train, name, folder, "filling", True)
            for turn in range(rounds):
                for kind in peaks:
                    peaks[kind].append(_in_process(_train, name, folder, f"{kind}{turn}", kind == "cached"))
        live, cached = statistics.median(peaks["live"]), statistics.median(peaks["cached"])
        megabytes = {"weights MB": weights, "live MB": live, "cached MB": cached, "saved MB": live - cached}
        rows.append({"teacher": name, **{column: round(value) for column, value in megabytes.items()}})
    return rows


def _in_process(function: Any, *arguments: Any) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _save_teacher(name: str, folder: str) -> float:
    import torch

    teacher = create_model(name, num_classes=100, input_size=224, seed=0)
    torch.save(teacher.backbone.state_dict(), Path(folder) / "teacher.pth")
    return sum(p.numel() * p.element_size() for p in teacher.backbone.parameters()) / 1e6


def _train(name: str, folder: str, label: str, cached: bool) -> float:
    from kdbench.engine.run import train

    train(
        load_config(
            overrides={
                "DISTILLER.TYPE": "KD",
                "DISTILLER.TEACHER": name,
                "DISTILLER.STUDENT": STUDENT,
                "TEACHER.WEIGHTS": str(Path(folder) / "teacher.pth"),
                "TEACHER.INPUT_SIZE": 224,
                "TEACHER.NORM": "imagenet",
                "DATASET.TYPE": "fake",
                "DATASET.OPTIONS": {"num_classes": 100, "size": 224, "train": 48, "test": 8},
                "SOLVER.BATCH_SIZE": 8,
                "SOLVER.EPOCHS": 1,
                "CACHE.ENABLED": cached,
                "CACHE.DIR": str(Path(folder) / "cache"),
                "LOG.PREFIX": str(Path(folder) / label),
            }
        )
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
