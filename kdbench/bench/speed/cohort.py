"""Several methods trained together on one pass of their teacher, against the same runs one after the other."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from yacs.config import CfgNode

from kdbench.config.load import load_config
from kdbench.engine.run import train
from kdbench.engine.session.cohort import train_cohort
from kdbench.logs import at_level

#: the quickstart's methods, with its hyperparameters
METHODS: dict[str, dict[str, Any]] = {
    "Vanilla": {},
    "KD": {"KD.TEMPERATURE": 4, "KD.LOSS.CE_WEIGHT": 1, "KD.LOSS.KD_WEIGHT": 1},
    "DIST": {},
    "OFA": {},
    "HCD": {"HCD.PROJ_DIM": 32},
}
TEACHERS = ("small_vit", "small_mixer")


def run(
    rounds: int = 3, *, teachers: Sequence[str] = TEACHERS, methods: Sequence[str] = tuple(METHODS), epochs: int = 12
) -> list[dict[str, Any]]:
    """Rows ``teacher, methods, separate s, together s, x as fast``: processor time of training small_cnn on random 8x8 images, the
    quickstart's number and order of steps, medians of the rounds; the ratio is the median of each round's."""
    rows = []
    for teacher in teachers:
        _seconds(teacher, methods, 1, together=True)  # what libraries set up at first
        readings = []
        for number in range(rounds):
            turns = {"separate": False, "together": True}
            order = list(turns) if number % 2 == 0 else list(turns)[::-1]
            readings.append({name: _seconds(teacher, methods, epochs, together=turns[name]) for name in order})
        separate, together = (statistics.median(r[name] for r in readings) for name in ("separate", "together"))
        gain = statistics.median(r["separate"] / r["together"] for r in readings)
        rows.append(
            {
                "teacher": teacher,
                "methods": len(methods),
                "threads": torch.get_num_threads(),
                "separate s": round(separate, 1),
                "together s": round(together, 1),
                "x as fast": round(gain, 2),
            }
        )
    return rows


def _seconds(teacher: str, methods: Sequence[str], epochs: int, *, together: bool) -> float:
    with tempfile.TemporaryDirectory() as folder, at_level("kdbench", logging.WARNING):
        cfgs = _configurations(teacher, methods, epochs, folder)
        started = time.process_time()
        if together:
            for outcome in train_cohort(cfgs):
                if isinstance(outcome, Exception):
                    raise outcome
        else:
            for cfg in cfgs:
                train(cfg)
        return time.process_time() - started


def _configurations(teacher: str, methods: Sequence[str], epochs: int, folder: str) -> list[CfgNode]:
    common = {
        "LOG.PREFIX": folder,
        "DATASET.TYPE": "fake",
        "DATASET.OPTIONS": {"size": 8, "train": 100, "test": 500, "num_classes": 10},
        "DATASET.REPEAT": 16,
        "DATASET.TEST.BATCH_SIZE": 500,
        "DATASET.NUM_WORKERS": 0,
        "DISTILLER.STUDENT": "small_cnn",
        "AUGMENT.CROP": "pad",
        "AUGMENT.PAD": 1,
        "SOLVER.TYPE": "ADAMW",
        "SOLVER.LR": 1e-3,
        "SOLVER.EPOCHS": epochs,
        "SOLVER.EVAL_EVERY": 3,
        "SOLVER.CLIP_GRAD": 5.0,
    }
    made = []
    for name in methods:
        taught = {} if name == "Vanilla" else {"DISTILLER.TEACHER": teacher}
        made.append(load_config(overrides={**common, "DISTILLER.TYPE": name, **taught, **METHODS[name]}))
    return made
