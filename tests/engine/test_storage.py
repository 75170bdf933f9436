"""Disks that are full, quotas, folders that are taken away: one line, nothing half-written, and the same command goes on."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import content, overrides, settings

import kdbench
from kdbench.bench.running.run_grid import run_grid
from kdbench.errors import StorageError

EPOCHS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return content(Path(kdbench.train(settings(tmp_path_factory.mktemp("whole"), EPOCHS)).folder))


def files(folder: Path) -> list[str]:
    return sorted(
        file.name for file in folder.rglob("*") if file.is_file() and file.name.startswith(".") and file.name != ".lock"
    )


@pytest.mark.parametrize(
    "limit", [0, pytest.param(200, marks=pytest.mark.slow), 3_000, pytest.param(20_000, marks=pytest.mark.slow), 60_000]
)
def test_a_limit_on_the_size_of_files(tmp_path, whole, limit):
    """As a quota or a full disk: whichever file does not fit, one line names it."""
    words = [f"{key}={value}" for key, value in overrides(tmp_path / "runs", EPOCHS).items()]
    command = [sys.executable, "-m", "kdbench", "train", *words]

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    said = [line for line in done.stderr.splitlines() if line.startswith("kdbench: ")]
    assert done.returncode == 2, done.stderr
    assert len(said) == 1
    assert "File too large" in said[0]
    assert "the same command goes on" in said[0]
    assert "Traceback" not in done.stderr
    assert files(tmp_path) == []
    assert content(Path(kdbench.train(settings(tmp_path / "runs", EPOCHS)).folder)) == whole


def test_a_folder_that_is_taken_away(tmp_path, whole):
    def progress(epoch, step, steps):
        if (epoch, step) == (2, 1):
            shutil.rmtree(tmp_path / "runs")

    with pytest.raises(StorageError, match=r"cannot be written: No such file or directory; .*the same command goes on"):
        kdbench.train(settings(tmp_path / "runs", EPOCHS), progress=progress)
    assert content(Path(kdbench.train(settings(tmp_path / "runs", EPOCHS)).folder)) == whole


def test_one_of_several_students_whose_folder_is_taken_away(tmp_path):
    cfgs = [settings(tmp_path / "runs", EPOCHS, **{"SOLVER.LR": rate}) for rate in (0.01, 0.02)]
    folders: list[Path] = []

    def progress(member, epoch, step, steps):
        if (member, epoch, step) == (0, 2, 1):
            folders.extend(sorted((tmp_path / "runs").rglob("config.yaml")))
            (first,) = [file.parent for file in folders if "LR: 0.01\n" in file.read_text()]
            shutil.rmtree(first)

    outcomes = kdbench.train_cohort(cfgs, progress=progress)
    assert isinstance(outcomes[0], StorageError)
    assert outcomes[1].epochs == 3


def test_a_grid_goes_on_with_other_cells(tmp_path, monkeypatch):
    from inline_pool import InlinePool
    from small_grids import grid_file

    from kdbench.engine.training.saving import state as state_module

    original = state_module.save_checkpoint

    def full(path, state):
        if "KD-" in str(path):
            raise StorageError(f"{path} cannot be written: No space left on device")
        original(path, state)

    monkeypatch.setattr(state_module, "save_checkpoint", full)
    report = run_grid(grid_file(tmp_path), prefix=str(tmp_path / "runs"), pool=InlinePool())
    assert len(report.failed) == 1
    assert "No space left on device" in next(iter(report.failed.values()))
    assert len(report.results) == 2
    # the machine's fault and not the run's: it is not recorded, and the same command goes on
    monkeypatch.undo()
    again = run_grid(grid_file(tmp_path), prefix=str(tmp_path / "runs"), pool=InlinePool())
    assert again.ok
    assert len(again.results) == 3
