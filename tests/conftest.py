"""Common to all tests: one thread a process, so that forked workers and pytest-xdist do not fight over two cores; no GPU."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests fork, and compare bytes with those of a CPU, so that they must not see a GPU; children of those in tests/gpu do.
os.environ.setdefault("KDBENCH_TEST_GPUS", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_finish():
    """What was imported and collected is not looked through again at every collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits_teacher(tmp_path_factory):
    """Weights of a quickly trained small Mixer (about 90% top-1)."""
    import kdbench

    folder = tmp_path_factory.mktemp("teacher")
    cfg = kdbench.load_config(
        "configs/digits/teacher_mixer.yaml",
        {"LOG.PREFIX": str(folder), "SOLVER.EPOCHS": 8, "SOLVER.WARMUP_EPOCHS": 2, "SOLVER.EVAL_EVERY": 8},
    )
    return os.path.join(kdbench.train(cfg).folder, "student.safetensors")
