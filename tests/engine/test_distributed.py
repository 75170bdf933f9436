"""One run over two processes (gloo on the CPU)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

WORDS = ["--cfg", "configs/digits/student.yaml", "SOLVER.EPOCHS=2", "SOLVER.WARMUP_EPOCHS=0", "SOLVER.EVAL_EVERY=1"]


def launch(prefix, teacher, *extra, world=2):
    words = [*WORDS, f"LOG.PREFIX={prefix}", "--teacher", "small_mixer", f"TEACHER.WEIGHTS={teacher}", *extra]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        f"--nproc_per_node={world}",
        "--master_port=0",
        "--standalone",
    ]
    done = subprocess.run(
        [*command, "-m", "kdbench", "train", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = [file.parent for file in Path(prefix).rglob("result.json")]
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("method", ["KD", "HCD", "CRD"])
def test_two_processes_train_one_student(tmp_path, digits_teacher, method):
    folder = launch(tmp_path / "two", digits_teacher, "--distiller", method)
    result = json.loads((folder / "result.json").read_text())
    assert result["environment"]["world_size"] == 2
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]  # one process writes
    # accuracies are multiples of 1/500: every test image was counted once
    assert all(abs(line["top1"] * 5 - round(line["top1"] * 5)) < 1e-6 for line in lines)
    again = launch(tmp_path / "again", digits_teacher, "--distiller", method)
    states = [torch.load(f / "checkpoint.pt", weights_only=True)["student"] for f in (folder, again)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_two_processes_fill_and_read_the_cache(tmp_path, digits_teacher):
    cached = ["CACHE.ENABLED=True", f"CACHE.DIR={tmp_path / 'cache'}", "--distiller"]
    first = launch(tmp_path / "a", digits_teacher, *cached, "KD")
    assert len(list((tmp_path / "cache").rglob("view*.bin"))) == 2
    second = launch(tmp_path / "b", digits_teacher, *cached, "KD")
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()
