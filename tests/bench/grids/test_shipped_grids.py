"""The shipped grids: they resolve, and their cells are those of the paper's tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.paper.declared import Declared
from kdbench.bench.paper.layouts import layout
from kdbench.config.load import load_config

ROOT = Path(__file__).resolve().parents[3]
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
