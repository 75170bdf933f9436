"""Finished runs for users: two settings of one method stay apart."""

from __future__ import annotations

import json

import pytest
from inline_pool import InlinePool
from small_grids import grid_file
from tiny_run import settings

import kdbench
from kdbench.bench.running.run_grid import run_grid

METHODS = ["Vanilla", "KD", {"LABEL": "KD, cool", "TYPE": "KD", "SET": {"KD.TEMPERATURE": 1.0}}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    report = run_grid(
        grid_file(root, METHODS=METHODS), prefix=str(root / "runs"), pool=InlinePool(), overrides=["TEACHER.FLOOR=0"]
    )
    assert report.ok, report.failed
    kdbench.train(settings(root / "runs", 1))
    return root / "runs"


def test_labels_of_the_grid(runs):
    frame = kdbench.load_results(runs)
    found = {(row.grid, row.label, row.method, row.student) for row in frame.itertuples()}
    assert found == {
        ("g", "Vanilla", "Vanilla", "small_cnn"),
        ("g", "KD", "KD", "small_cnn"),
        ("g", "KD, cool", "KD", "small_cnn"),
        ("g", "", "Vanilla", "small_mixer"),
        ("", "Vanilla", "Vanilla", "small_cnn"),
    }
    assert frame.attrs == {"skipped": [], "unfinished": 0}
    assert list(kdbench.load_results(runs / "g").label) == list(frame[frame.grid == "g"].label)


def test_values_that_tell_runs_apart(runs):
    frame = kdbench.load_results(runs / "g", hyperparameters=True).set_index("label")
    assert frame.loc["KD, cool", "KD.TEMPERATURE"] == 1.0
    assert frame.loc["KD", "KD.TEMPERATURE"] == 4.0
    assert frame["KD.TEMPERATURE"].isna()["Vanilla"]
    assert "KD.LOSS.CE_WEIGHT" not in frame  # both settings have the same
    assert "DISTILLER.STUDENT" in frame
    assert "SOLVER.LR" not in frame


def test_a_damaged_grid_costs_the_labels_alone(runs, tmp_path, caplog):
    import shutil

    copy = shutil.copytree(runs, tmp_path / "runs")
    text = json.loads((copy / "g" / "grid.json").read_text())
    (copy / "g" / "grid.json").write_text(json.dumps({**text, "methods": 3}))
    frame = kdbench.load_results(copy)
    assert len(frame) == 5
    assert set(frame.grid) == {""}
    assert "is damaged" in caplog.text
