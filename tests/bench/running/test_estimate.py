"""What a grid will cost: probes at two batches, finished runs, disk that grows with the training set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from inline_pool import InlinePool
from small_grids import FAKE, grid_file

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.running.estimate import cache_bytes, estimate, line_through
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


def test_a_step_is_a_line_in_its_batch():
    assert line_through([(2, 1.0), (8, 2.5)], 64) == pytest.approx(0.5 + 0.25 * 64)
    assert line_through([(2, 1.0), (8, 0.9)], 64) == 0.9  # noise does not make a larger step cheaper
    assert line_through([(2, 1.0)], 2) == 1.0


def test_memory_banks_grow_with_the_training_set(tmp_path):
    big = {**FAKE, "DATASET": {**FAKE["DATASET"], "OPTIONS": {"size": 8, "train": 1032, "test": 16}}}
    file = grid_file(tmp_path, METHODS=["KD", "CRD"], SET={**big, "CRD.NCE.K": 4})
    kd, crd = (e for e in estimate(load_grid(file), str(tmp_path)) if not e.label.startswith("teacher"))
    # two banks of 1,032 rows of 128 float32; what else CRD has is two embeddings
    assert crd.size - kd.size == pytest.approx(2 * 1032 * 128 * 4, rel=0.2)
    assert kd.seconds > 0


def test_the_teacher_cache_is_counted_once_for_those_who_share_it(tmp_path):
    file = grid_file(tmp_path, METHODS=["KD", "DKD"], SEEDS=[1, 2], SET={**FAKE, "CACHE.ENABLED": True})
    grid = load_grid(file)
    found = estimate(grid, str(tmp_path))
    view = 32 * (10 + _width()) * 2 + 16
    assert cache_bytes(found, 20.0) == 2 * view  # one epoch of two seeds
    assert cache_bytes(found, 1e-6) == 1000
    assert run_grid(grid, prefix=str(tmp_path), pool=InlinePool()).ok
    again = estimate(grid, str(tmp_path))  # from what has finished, and its cache
    assert all(one.finished for one in again)
    assert cache_bytes(again, 20.0) == 2 * view
    shutil.rmtree(tmp_path / ".teacher-cache")
    assert cache_bytes(estimate(grid, str(tmp_path)), 20.0) == 0


def _width():
    from kdbench.models.zoo import create_model

    return create_model("small_mixer", num_classes=10).spec.penultimate


def test_finished_runs_are_taken_as_they_were(tmp_path, capsys):
    file, prefix = grid_file(tmp_path, SEEDS=[1, 2]), str(tmp_path / "runs")
    assert run_grid(file, prefix=prefix, jobs=1, threads=1).ok
    for timing in (tmp_path / "runs").rglob("timing.jsonl"):
        line = {"epoch": 1, "seconds": 7200.0, "data_seconds": 1.0, "images_per_second": 1.0}
        timing.write_text(json.dumps(line) + "\n")
    assert main(["grid", str(file), "--dry-run", "--prefix", prefix]) == 0
    out = capsys.readouterr().out
    assert "   2 x KD A -> small_cnn: 2.00 h (from 2 finished)" in out
    assert "total: 10.0 worker-hours" in out


def test_a_dry_run_measures_each_kind_once_and_says_so(tmp_path, capsys, caplog):
    caplog.set_level("INFO", "kdbench")
    file = grid_file(tmp_path, SEEDS=[1, 2, 3])
    assert main(["grid", str(file), "--dry-run", "--prefix", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if "measuring" in line] == [
        "[1/3] measuring teacher A",
        "[2/3] measuring Vanilla A -> small_cnn",
        "[3/3] measuring KD A -> small_cnn",
    ]
    assert "GB of disk" in out
    assert "top-1" not in caplog.text + out
    assert main(["grid", str(file), "--dry-run", "--no-probe"]) == 0
    assert "measuring" not in capsys.readouterr().out


def test_dry_run(tmp_path, capsys):
    file = ROOT / "configs" / "grids" / "quickstart.yaml"
    assert main(["grid", str(file), "--dry-run", "--no-probe"]) == 0
    assert "120 cells, 2 teachers: 110 runs (2 of teachers)" in capsys.readouterr().out
    local = tmp_path / "one.yaml"
    local.write_text("NAME: one\nTEACHERS: {}\n".replace("TEACHERS: {}\n", ""))
    assert main(["grid", str(local), "--dry-run"]) == 2
    assert "PAIRS is missing" in capsys.readouterr().err


def test_probe_scales_to_images_and_epochs(tmp_path, capsys):
    file = tmp_path / "one.yaml"
    file.write_text(
        "NAME: one\nTEACHERS: {T: {MODEL: small_mixer, WEIGHTS: pretrained}}\nPAIRS: [{TEACHER: T, STUDENT: small_cnn}]\n"
        "METHODS: [Vanilla]\nSEEDS: [1, 2]\nSET: {DATASET.TYPE: digits, SOLVER.EPOCHS: 10}\n"
    )
    assert main(["grid", str(file), "--dry-run", "--probe", "--prefix", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "   2 x Vanilla T -> small_cnn: 0.0" in out
    assert "worker-hours on this machine" in out
