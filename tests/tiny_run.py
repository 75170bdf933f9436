"""A run of three steps an epoch on random 8x8 images, for tests of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kdbench

BASE: dict[str, Any] = {
    "DATASET.TYPE": "fake",
    "DATASET.OPTIONS": {"size": 8, "train": 48, "test": 16, "num_classes": 4},
    "DATASET.NUM_WORKERS": 0,
    "DISTILLER.STUDENT": "small_cnn",
    "SOLVER.BATCH_SIZE": 16,
    "SOLVER.LR": 0.01,
    "AUGMENT.CROP": "none",
}


def overrides(folder, epochs: int, **extra) -> dict[str, Any]:
    """Settings of a run below ``folder``."""
    return {**BASE, "SOLVER.EPOCHS": epochs, "LOG.PREFIX": str(folder), **extra}


def settings(folder, epochs: int, **extra):
    """The same as a configuration."""
    return kdbench.load_config(overrides=overrides(folder, epochs, **extra))


def content(folder: str | Path) -> list[bytes]:
    """What a finished run leaves: its metrics and its student."""
    return [(Path(folder) / name).read_bytes() for name in ("metrics.jsonl", "student.safetensors")]
