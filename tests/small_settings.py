"""A run of one epoch on 64 random images."""

from __future__ import annotations

SMALL = {
    "DATASET.TYPE": "fake",
    "DATASET.OPTIONS": {"size": 8, "train": 64, "test": 32},
    "DISTILLER.STUDENT": "small_cnn",
    "AUGMENT.CROP": "none",
    "AUGMENT.FLIP": 0.0,
    "SOLVER.EPOCHS": 1,
    "SOLVER.BATCH_SIZE": 16,
    "DATASET.NUM_WORKERS": 0,
}
