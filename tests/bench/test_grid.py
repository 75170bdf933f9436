"""Grids: teachers first, equal cells shared, failures isolated, nothing run twice."""

from __future__ import annotations

import json

import pytest
import yaml

from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.running.run_grid import run_grid
from kdbench.cli.main import main
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


def test_a_run_whose_student_is_gone_is_not_done(tmp_path):
    file = write(tmp_path, METHODS=["Vanilla"], SEEDS=[1])
    first = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1)
    students = sorted((tmp_path / "runs").rglob("student.safetensors"))
    content = students[0].read_bytes()
    students[0].unlink()
    lines = []
    again = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=lines.append)
    assert students[0].read_bytes() == content
    assert sum("done before" not in line for line in lines) == 1
    assert {r.run_id for r in again.results.values()} == {r.run_id for r in first.results.values()}


def test_failing_cell_and_failing_teacher_leave_the_rest_alone(tmp_path):
    methods = ["Vanilla", {"TYPE": "LDRLD", "SET": {"LDRLD.K": 99}}]
    teachers = {"A": {"CFG": "teacher.yaml"}, "B": {"CFG": "teacher.yaml", "SET": {"STUDENT.STAGES": [9]}}}
    lines = []
    file = write(tmp_path, METHODS=methods, TEACHERS=teachers, SEEDS=[1])
    report = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=lines.append)
    reasons = "\n".join(report.failed.values())
    assert "expects 2 to 9" in reasons
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
        ({"METHODS": [3]}, "METHODS expects a mapping, got 3"),
        ({"METHODS": [None]}, "METHODS expects a mapping, got None"),
        ({"METHODS": [{"TYPE": 5}]}, "METHODS.TYPE expects a name, got 5"),
        ({"METHODS": [{"TYPE": "KD", "LABEL": ["x"]}]}, "METHODS.LABEL expects a name"),
        ({"METHODS": [{"TYPE": "KD", "SET": 5}]}, "METHODS.SET expects a mapping"),
        ({"SET": 5}, "SET expects a mapping of keys to values, got 5"),
        ({"SET": [1]}, "SET expects a mapping of keys to values, got [1]"),
        ({"TEACHERS": ["A"]}, "TEACHERS expects a mapping of keys to values, got ['A']"),
        ({"TEACHERS": None}, "TEACHERS expects a mapping"),
        ({"CFG": ["a"]}, "CFG expects a name, got ['a']"),
        ({"TEACHERS": {"A": {"CFG": ["a"]}}}, "TEACHERS.A.CFG expects a name"),
        ({"PAIRS": [{"TEACHER": ["A"], "STUDENT": "small_cnn"}]}, "PAIRS.TEACHER expects a name, got ['A']"),
        ({"PAIRS": [{"TEACHER": "A", "STUDENT": "small_cnn", "SET": 1}]}, "PAIRS.SET expects a mapping"),
        ({"PAIRS": ["A"]}, "PAIRS expects a mapping, got 'A'"),
        ({"NAME": None}, "NAME expects a name, got None"),
        ({"NAME": ""}, "NAME expects a name, got ''"),
        ({"NAME": "../x"}, "NAME expects a folder's name"),
        ({"NAME": ".."}, "NAME expects a folder's name"),
        ({"SEEDS": [True]}, "SEEDS expects whole numbers from 0, got True"),
        ({"SEEDS": ["1"]}, "SEEDS expects whole numbers from 0, got '1'"),
        ({"BASELINE": "KDD"}, "BASELINE 'KDD' is none of the methods (did you mean 'KD'?)"),
        ({"BASELINE": ["KD"]}, "BASELINE ['KD'] is none of the methods"),
        (
            {"PAIRS": [{"TEACHER": "A", "STUDENT": "small_cn"}]},
            "PAIRS.STUDENT: unknown model 'small_cn'; did you mean 'small_cnn'",
        ),
        (
            {"TEACHERS": {"A": {"MODEL": "small_vi", "WEIGHTS": "pretrained"}}},
            "TEACHERS.A.MODEL: unknown model 'small_vi'",
        ),
        ({"TEACHERS": {"A": {"CFG": "teacher.yaml", "WEIGHTS": "no.pt"}}}, "has CFG, which trains it, and WEIGHTS"),
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


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys):
    file = write(tmp_path, METHODS=[{"TYPE": 5}])
    for words in ([str(file), "--dry-run"], [str(file), "--smoke"], [str(file)]):
        assert main(["grid", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_gains_refer_to_a_method_that_is_there(tmp_path):
    assert load_grid(write(tmp_path, METHODS=["DKD", "DIST"])).baseline == "DKD"
    assert load_grid(write(tmp_path)).baseline == "KD"
