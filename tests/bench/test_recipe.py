"""A cell run under another recipe than declared is marked, and never averaged with one that keeps it."""

from __future__ import annotations

import pytest
import yaml
from synthetic_runs import write_run

from kdbench.bench.paper_table import build_paper_table
from kdbench.bench.plan import load_grid
from kdbench.bench.render import render
from kdbench.config import load_config

PLACE = {"dataset": "cifar100", "teacher": "Swin-T", "student": "ResNet18"}
RUN = {"DATASET.TYPE": "cifar100", "DISTILLER.TEACHER": "Swin-T", "DISTILLER.STUDENT": "ResNet18", "SOLVER.EPOCHS": 300}


@pytest.fixture
def grid(tmp_path):
    tree = {
        "NAME": "t1",
        "TEACHERS": {"T": {"MODEL": "Swin-T", "WEIGHTS": "pretrained"}},
        "METHODS": ["Vanilla", "KD"],
        "SEEDS": [1, 2],
    }
    tree |= {"PAIRS": [{"TEACHER": "T", "STUDENT": "ResNet18"}], "SET": {"SOLVER.EPOCHS": 300, "KD.TEMPERATURE": 1.0}}
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def run(folder, seed, top1, name="", **changes):
    cfg = load_config(
        overrides={**RUN, "DISTILLER.TYPE": "KD", "KD.TEMPERATURE": 1.0, "EXPERIMENT.SEED": seed, **changes}
    )
    write_run(folder, method="KD", seed=seed, top1=top1, cfg=cfg, name=name, **PLACE)


def kd(table):
    return next(c for c in table.cells() if c.key and c.key.method == "KD" and c.key.teacher == "Swin-T")


def test_a_faithful_run_has_no_mark(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0, **{"RUNTIME.DEVICE": "cpu", "DATASET.ROOT": "elsewhere", "TEACHER.WEIGHTS": "x.pt"})
    table = build_paper_table(1, tmp_path / "r", grid=grid)
    assert kd(table).ours.checked
    assert not kd(table).other_recipe


def test_another_recipe_is_marked_and_said(tmp_path, grid):
    run(tmp_path / "r", 1, 70.0, **{"SOLVER.EPOCHS": 2, "KD.TEMPERATURE": 4.0})
    table = build_paper_table(1, tmp_path / "r", grid=grid)
    assert kd(table).other_recipe
    text = render(table)
    assert "another recipe than declared: SOLVER.EPOCHS 2 (declared 300), KD.TEMPERATURE 4.0 (declared 1.0)" in text


def test_recipes_are_not_mixed_in_a_cell(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0)
    run(tmp_path / "r", 1, 70.0, name="short", **{"SOLVER.EPOCHS": 2})
    run(tmp_path / "r", 2, 71.0, **{"SOLVER.EPOCHS": 2})
    assert kd(build_paper_table(1, tmp_path / "r", grid=grid)).ours.values == {1: 78.0}


def test_unreadable_configuration_is_marked(tmp_path, grid):
    run(tmp_path / "r", 1, 78.0)
    next((tmp_path / "r").rglob("config.yaml")).write_text("a: [")
    assert kd(build_paper_table(1, tmp_path / "r", grid=grid)).other_recipe


def test_pairs_with_methods_of_their_own_and_fewer_seeds(tmp_path, grid):
    tree = yaml.safe_load(grid.read_text())
    tree["PAIRS"].append({"TEACHER": "T", "STUDENT": "resnet20", "METHODS": ["DKD"]})
    grid.write_text(yaml.safe_dump(tree))
    loaded = load_grid(grid, seeds=1)
    assert [(c.student, c.method) for c in loaded.cells] == [
        ("ResNet18", "Vanilla"),
        ("ResNet18", "KD"),
        ("resnet20", "DKD"),
    ]
    assert loaded.methods == ["Vanilla", "KD", "DKD"]
