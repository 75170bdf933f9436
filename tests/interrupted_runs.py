"""Runs of three epochs of six steps that are ended in the middle, and the comparison of what they leave."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import torch
from each_method import short

import kdbench
from kdbench.config.load import to_dict

SETTINGS = {
    "DATASET.TYPE": "fake",
    "DATASET.OPTIONS": {"size": 8, "train": 96, "test": 32},
    "DISTILLER.STUDENT": "small_cnn",
    "STUDENT.OPTIONS.drop_rate": 0.3,
    "AUGMENT.CROP": "pad",
    "AUGMENT.PAD": 1,
    "SOLVER.EPOCHS": 3,
    "SOLVER.BATCH_SIZE": 16,
    "SOLVER.SCHEDULE": "cosine",
    "SOLVER.LR": 0.01,
    "SOLVER.MOMENTUM": 0.9,
    "DATASET.NUM_WORKERS": 0,
}
STEPS = 18


def configure(folder: Path, method: str, **extra):
    teacher = {} if method == "Vanilla" else {"DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS.widths": [12, 16, 24]}
    settings = {**SETTINGS, "LOG.PREFIX": str(folder), "DISTILLER.TYPE": method, **teacher, **short(method), **extra}
    cfg = kdbench.load_config(overrides=settings)
    assert to_dict(cfg.STUDENT.OPTIONS) == {"drop_rate": 0.3}
    assert "drop_rate" not in cfg.TEACHER.OPTIONS
    return cfg


def run_killed(folder: Path, method: str, at: int, extra: dict) -> None:
    """Train in a child that kills itself, without warning, at global step ``at``."""

    def child() -> None:
        def progress(epoch: int, step: int, steps: int) -> None:
            if (epoch - 1) * steps + step == at:
                os.kill(os.getpid(), signal.SIGKILL)

        kdbench.train(configure(folder, method, **extra), progress=progress)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def assert_same(one: Path, two: Path) -> None:
    for name in ("metrics.jsonl", "student.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (one, two)]
    for part in ("student", "distiller", "optimizer", "scaler", "average"):
        compare(states[0].get(part), states[1].get(part), part)


def compare(a, b, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        assert a.numpy().tobytes() == b.numpy().tobytes(), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            compare(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            compare(x, y, f"{where}[{i}]")
    else:
        assert a == b, where
