"""The shipped grids: they resolve, their cells are those of the paper's tables, and two steps of them run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.paper.declared import Declared
from kdbench.bench.paper.layouts import layout
from kdbench.bench.running.small_run import small_config
from kdbench.bench.running.smoke import smoke
from kdbench.cli.main import main
from kdbench.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
GRIDS = sorted((ROOT / "configs" / "grids").glob("*.yaml"))
NO_METHOD = {"Teacher", "RKKD"}  # RKKD is named in the paper without definition


@pytest.mark.parametrize("file", GRIDS, ids=lambda f: f.stem)
def test_grid_resolves_and_says_what_it_is(file):
    grid = load_grid(file, seeds=1)
    assert grid.name == file.stem
    assert grid.baseline in grid.methods
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert head[0].startswith(f"# kdbench grid configs/grids/{file.name}")
    assert "runs" in " ".join(head)


@pytest.mark.parametrize("number", range(1, 8))
def test_every_cell_of_a_table_is_declared(number):
    declared = Declared(ROOT / "configs" / "grids" / f"table{number}.yaml")
    keys = [k for k in layout(number).figures() if k.table == number and k.method not in NO_METHOD]
    assert keys
    assert [k for k in keys if declared.find(k) is None] == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("configs/*/*.yaml")), ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_first_comment(file):
    if file.parent.name not in ("grids", "base"):
        load_config(file)
    assert file.read_text().startswith("# ")


def test_smoke_keeps_recipe_and_architectures():
    grid = load_grid(ROOT / "configs" / "grids" / "table1.yaml", seeds=1, weights=False)
    cell = next(c for c in grid.cells if c.method == "HCD")
    small = small_config(cell.cfg, batch=2, steps=2)
    assert (small.DATASET.TYPE, small.DATASET.OPTIONS.num_classes, small.DATASET.OPTIONS.train) == ("fake", 100, 4)
    assert (small.DATASET.IMAGE_SIZE, small.SOLVER.WEIGHT_DECAY, small.SOLVER.EPOCHS) == (224, 2e-3, 1)
    assert small.DISTILLER.STUDENT == "ResNet18"


def test_smoke_of_the_quickstart(capsys):
    words = ["grid", "quickstart", "--smoke", "--jobs", "1", "--only", "KD", "--quiet"]
    assert main(words) == 0
    assert "4 runs passed, 0 failed" in capsys.readouterr().out
    report = smoke(ROOT / "configs" / "grids" / "quickstart.yaml", jobs=1, overrides=["LDRLD.K=99"], only="LDRLD ViT")
    assert list(report.failed) == ["LDRLD ViT -> CNN"]


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
    ("otherwise", "passed"), [("pass", 2), ("os.kill(os.getpid(), signal.SIGKILL)", 0)], ids=["once", "always"]
)
def test_smoke_runs_a_cell_again_alone_when_its_worker_died(tmp_path, otherwise, passed):
    plugin = tmp_path / "dies.py"
    plugin.write_text(DIES.format(otherwise=otherwise))
    lines = []
    file = ROOT / "configs" / "grids" / "quickstart.yaml"
    report = smoke(file, jobs=2, imports=(str(plugin),), only="KD ViT", announce=lines.append)
    assert (len(report.seconds), len(report.failed)) == (passed, 2 - passed)
    assert sum(line.endswith("again, alone, at the end") for line in lines) == (1 if passed else 2)
    assert all("worker process died" in reason for reason in report.failed.values())
    assert [line.split()[0] for line in lines if line[0] == "["] == ["[1/2]", "[2/2]"]


def test_dry_run(tmp_path, capsys):
    file = ROOT / "configs" / "grids" / "quickstart.yaml"
    assert main(["grid", str(file), "--dry-run", "--no-probe"]) == 0
    assert "42 cells, 2 teachers: 41 runs (2 of teachers)" in capsys.readouterr().out
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
    assert "hours of one worker" in out


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 8))
def test_smoke_of_a_table(number):
    # one worker: two tests at once, each training two ViT-L, would fill 24 GB
    assert smoke(ROOT / "configs" / "grids" / f"table{number}.yaml", jobs=1).failed == {}
