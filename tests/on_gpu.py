"""Code in an interpreter of its own that sees the machine's GPUs, which the tests' own process does not."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

_PRELUDE = """
import contextlib, hashlib, json, os, pathlib, sys, tempfile
import torch, kdbench
from kdbench.errors import IncompatibleError

BASE = {
    "DATASET.TYPE": "fake", "DATASET.OPTIONS": {"size": 16, "train": 96, "test": 32, "num_classes": 10},
    "DISTILLER.STUDENT": "small_cnn", "STUDENT.OPTIONS": {"drop_rate": 0.3}, "AUGMENT.CROP": "pad", "AUGMENT.PAD": 2,
    "SOLVER.EPOCHS": 2, "SOLVER.BATCH_SIZE": 16, "SOLVER.LR": 0.001, "DATASET.NUM_WORKERS": 0,
}

def run(method, folder, stop=0, **extra):
    teacher = {} if method == "Vanilla" else {"DISTILLER.TEACHER": "small_cnn", "TEACHER.OPTIONS": {"widths": [12, 16, 24]}}
    cfg = kdbench.load_config(overrides={**BASE, "DISTILLER.TYPE": method, "LOG.PREFIX": str(folder), **teacher, **extra})
    def progress(epoch, step, steps):
        if stop and (epoch - 1) * steps + step == stop:
            raise KeyboardInterrupt
    try:
        return kdbench.train(cfg, progress=progress)
    except KeyboardInterrupt:
        return None

def digest(result):
    files = ("student.safetensors", "metrics.jsonl")
    return [hashlib.sha256(pathlib.Path(result.folder, name).read_bytes()).hexdigest() for name in files]

def say(value):
    print(json.dumps(value))
"""


def python_on_gpu(code: str, *words: str) -> Any:
    """What ``code`` gives to ``say`` last, with ``words`` as its arguments; it must not fail.

    It may use ``run(method, folder, stop=0, **settings)``, a short run (interrupted at a step), and ``digest(result)``.
    """
    command = [sys.executable, "-c", _PRELUDE + code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@functools.cache
def gpu_count() -> int:
    """Number of GPUs that :func:`python_on_gpu` sees."""
    code = "import torch; print(torch.cuda.device_count())"
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=_environment()).stdout)


def _environment() -> dict[str, str]:
    named = os.environ["KDBENCH_TEST_GPUS"]
    plain = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    return plain if named == "all" else {**plain, "CUDA_VISIBLE_DEVICES": named}
