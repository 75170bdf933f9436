"""Smoke mode: two steps of every cell, with its recipe and its networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.running.small_run import small_config
from kdbench.bench.running.smoke import smoke
from kdbench.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


def test_smoke_keeps_recipe_and_architectures():
    grid = load_grid(ROOT / "configs" / "grids" / "table1.yaml", ["DATASET.AUG_REPEATS=3"], seeds=1, weights=False)
    cell = next(c for c in grid.cells if c.method == "HCD")
    small = small_config(cell.cfg, batch=2, steps=2)
    assert (small.DATASET.TYPE, small.DATASET.OPTIONS.num_classes, small.DATASET.OPTIONS.train) == ("fake", 100, 4)
    assert (small.DATASET.IMAGE_SIZE, small.SOLVER.WEIGHT_DECAY, small.SOLVER.EPOCHS) == (224, 2e-3, 1)
    assert (small.DISTILLER.STUDENT, small.DATASET.AUG_REPEATS) == ("ResNet18", 0)


@pytest.mark.slow
def test_smoke_of_the_quickstart(capsys):
    words = ["grid", "quickstart", "--smoke", "--jobs", "1", "--only", "KD", "--quiet"]
    assert main(words) == 0
    assert "2 runs passed, 0 failed" in capsys.readouterr().out
    grid = ROOT / "configs" / "grids" / "digits-homogeneous.yaml"
    report = smoke(grid, jobs=1, overrides=["LDRLD.K=99"], only="LDRLD CNN")
    assert list(report.failed) == ["LDRLD CNN -> CNN"]


DIES = """
import os, signal
from pathlib import Path
try:
    (Path(__file__).parent / "died").mkdir()
except FileExistsError:
    {otherwise}
else:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("otherwise", "passed"),
    [
        pytest.param("pass", 2, id="once"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", 0, id="always", marks=pytest.mark.slow),
    ],
)
def test_smoke_runs_a_cell_again_alone_when_its_worker_died(tmp_path, otherwise, passed):
    plugin = tmp_path / "dies.py"
    plugin.write_text(DIES.format(otherwise=otherwise))
    lines = []
    file = ROOT / "configs" / "grids" / "quickstart.yaml"
    report = smoke(file, jobs=2, imports=(str(plugin),), only="KD", announce=lines.append)
    assert (len(report.seconds), len(report.failed)) == (passed, 2 - passed)
    assert sum(line.endswith("again, alone, at the end") for line in lines) == (1 if passed else 2)
    assert all("worker process died" in reason for reason in report.failed.values())
    assert [line.split()[0] for line in lines if line[0] == "["] == ["[1/2]", "[2/2]"]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 8))
def test_smoke_of_a_table(number):
    # one worker: two tests at once, each training two ViT-L, would fill 24 GB
    assert smoke(ROOT / "configs" / "grids" / f"table{number}.yaml", jobs=1).failed == {}
