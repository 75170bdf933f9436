"""Grids: teachers first, equal cells shared, failures isolated, nothing run twice."""

from __future__ import annotations

import json

import pytest
import yaml

from kdbench.bench.grid import run_grid
from kdbench.bench.plan import load_grid
from kdbench.errors import ConfigError

GRID = {
    "NAME": "g",
    "SET": {
        "DATASET": {"TYPE": "fake", "OPTIONS": {"size": 8, "train": 32, "test": 16}, "NUM_WORKERS": 0},
        "SOLVER": {"EPOCHS": 1, "BATCH_SIZE": 16, "LR": 0.01},
        "AUGMENT": {"CROP": "none", "FLIP": 0},
    },
    "TEACHERS": {"A": {"CFG": "teacher.yaml"}, "B": {"CFG": "teacher.yaml", "SET": {"EXPERIMENT.SEED": 2}}},
    "PAIRS": [{"TEACHER": "A", "STUDENT": "small_cnn"}, {"TEACHER": "B", "STUDENT": "small_cnn"}],
    "METHODS": ["Vanilla", "KD"],
    "SEEDS": [1, 2],
}


def write(tmp_path, **changes):
    teacher = {
        "DATASET": GRID["SET"]["DATASET"],
        "SOLVER": GRID["SET"]["SOLVER"],
        "DISTILLER": {"TYPE": "NONE", "STUDENT": "small_mixer"},
    }
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(teacher))
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({**GRID, **changes}))
    return file


def test_grid_runs_each_cell_once_and_shares_equal_ones(tmp_path):
    lines = []
    report = run_grid(write(tmp_path), prefix=str(tmp_path / "runs"), jobs=2, threads=1, announce=lines.append)
    assert report.ok, report.failed
    assert len(lines) == 2 + 2 + 4  # two teachers, two students alone (shared by both rows), four under teachers
    record = json.loads((report.folder / "grid.json").read_text())
    assert len(record["cells"]) == 8
    assert len({cell["run"] for cell in record["cells"]}) == 6
    again = []
    run_grid(write(tmp_path), prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=again.append)
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 8


def test_failing_cell_and_failing_teacher_leave_the_rest_alone(tmp_path):
    methods = ["Vanilla", {"TYPE": "LDRLD", "SET": {"LDRLD.K": 99}}]
    teachers = {"A": {"CFG": "teacher.yaml"}, "B": {"CFG": "teacher.yaml", "SET": {"STUDENT.STAGES": [9]}}}
    lines = []
    file = write(tmp_path, METHODS=methods, TEACHERS=teachers, SEEDS=[1])
    report = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=lines.append)
    reasons = "\n".join(report.failed.values())
    assert "must lie in 2..9" in reasons
    assert "its teacher B failed" in reasons
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2  # teacher A and the student alone


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"METODS": []}, "did you mean 'METHODS'"),
        ({"METHODS": []}, "expects a list that is not empty"),
        ({"METHODS": ["KD", "KD"]}, "stands twice; give a LABEL"),
        ({"PAIRS": [{"TEACHER": "AA", "STUDENT": "x"}]}, "did you mean 'A'"),
        ({"PAIRS": [{"TEACHER": "A"}]}, "STUDENT is missing"),
        ({"TEACHERS": {"A": {"MODEL": "small_vit", "WEIGHTS": "no.pt"}}}, "there is no file 'no.pt'"),
        ({"TEACHERS": {"A": {"MODEL": "small_vit"}}}, "needs CFG, or MODEL and WEIGHTS"),
        ({"SET": {"SOLVER.LRR": 1}}, "did you mean 'LR'"),
    ],
)
def test_mistakes_in_a_grid(tmp_path, changes, part):
    with pytest.raises(ConfigError) as caught:
        load_grid(write(tmp_path, **changes))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_reach_every_cell_and_teacher(tmp_path):
    grid = load_grid(write(tmp_path), ["SOLVER.EPOCHS=3"])
    assert {cell.cfg.SOLVER.EPOCHS for cell in grid.cells} == {3}
    assert grid.teachers["A"].cfg.SOLVER.EPOCHS == 3
