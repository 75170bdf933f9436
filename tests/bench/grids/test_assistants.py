"""Teachers that learn from teachers: in order, with keys of their own, and every mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from small_grids import FAKE, grid_file

import kdbench
from kdbench.bench.comparison.table import build_table
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.tasks import make_tasks, used_teachers, write_configs
from kdbench.bench.running.run_grid import run_grid
from kdbench.bench.running.smoke import smoke
from kdbench.errors import ConfigError

KD = {"DISTILLER": {"TYPE": "KD", "STUDENT": "small_cnn"}, "STUDENT.OPTIONS": {"widths": [8, 16]}}
TEACHERS = {
    "TA": {"CFG": "teacher.yaml", "TEACHER": "Big", "SET": KD},
    "Big": {"CFG": "teacher.yaml"},
    "Idle": {"CFG": "teacher.yaml", "SET": {"EXPERIMENT.SEED": 9}},
}


def chained(folder, **changes):
    pairs = [{"TEACHER": "TA", "STUDENT": "small_cnn"}]
    return grid_file(folder, **{"TEACHERS": TEACHERS, "PAIRS": pairs, "METHODS": ["KD"], **changes})


def test_an_assistant_is_trained_behind_its_teacher_and_before_the_students(tmp_path):
    file = chained(tmp_path)
    assert [teacher.name for teacher in used_teachers(load_grid(file))] == ["Big", "TA"]
    said: list[str] = []
    report = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=said.append)
    assert report.ok, report.failed
    assert [line.split("] ")[1].split("  ")[0].strip() for line in said] == ["teacher Big", "teacher TA", "KD"]
    big, ta, student = (report.results[label] for label in ("teacher Big", "teacher TA", *[list(report.results)[-1]]))
    assert ta.teacher_sha256 == big.student_sha256
    assert student.teacher_sha256 == ta.student_sha256
    assert (ta.method, ta.teacher, student.teacher) == ("KD", "small_mixer", "small_cnn")
    cfg = yaml.safe_load(Path(student.folder, "config.yaml").read_text())
    assert cfg["TEACHER"]["OPTIONS"] == {"widths": [8, 16]}
    table = build_table(report.folder)
    assert (table.pairs, table.methods, table.cells[table.pairs[0], "KD"].n) == (["TA -> small_cnn"], ["KD"], 1)
    again: list[str] = []
    assert run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=again.append).ok
    assert all("done before" in line for line in again)
    runs = kdbench.load_results(report.folder)
    assert runs[runs.label == "KD"].folder.tolist() == [student.folder]


def test_another_teacher_above_is_another_run_of_everything_below(tmp_path):
    keys = []
    for seed in (1, 2):
        teachers = {**TEACHERS, "Big": {"CFG": "teacher.yaml", "SET": {"EXPERIMENT.SEED": seed}}}
        keys.append({task.label: task.key for task in make_tasks(load_grid(chained(tmp_path, TEACHERS=teachers)), "r")})
    assert all(keys[0][label] != keys[1][label] for label in keys[0])
    plain = {**TEACHERS, "TA": {"CFG": "teacher.yaml"}}
    alone = {task.label: task.key for task in make_tasks(load_grid(chained(tmp_path, TEACHERS=plain)), "r")}
    assert set(alone) == {"teacher TA", next(label for label in alone if label.startswith("KD"))}


def test_a_failing_teacher_fails_all_that_learn_from_it(tmp_path):
    wrong = {"DATASET.OPTIONS": {**FAKE["DATASET"]["OPTIONS"], "size": -1}}
    report = run_grid(
        chained(tmp_path, TEACHERS={**TEACHERS, "Big": {"CFG": "teacher.yaml", "SET": wrong}}),
        prefix=str(tmp_path / "runs"),
        jobs=1,
        threads=1,
    )
    assert "its teacher Big failed" in report.failed["teacher TA"]
    assert any("its teacher TA failed" in reason for reason in report.failed.values())


def test_smoke_and_written_configurations_know_the_chain(tmp_path):
    assert set(smoke(chained(tmp_path), jobs=1).seconds) == {"teacher Big", "teacher TA", "KD TA -> small_cnn"}
    files = write_configs(make_tasks(load_grid(chained(tmp_path)), "runs"), tmp_path / "written")
    [ta] = [file for file in files if "teacher_TA" in file.name]
    assert "TEACHER.WEIGHTS: the student.safetensors that the run of teacher Big will make" in ta.read_text()
    assert yaml.safe_load(ta.read_text())["DISTILLER"]["TEACHER"] == "small_mixer"


@pytest.mark.parametrize(
    ("teachers", "words"),
    [
        (
            {"TA": {"CFG": "teacher.yaml", "TEACHER": "Bog", "SET": KD}},
            r"'Bog' is not in TEACHERS \(did you mean 'Big'",
        ),
        (
            {"TA": {"CFG": "teacher.yaml", "TEACHER": "Big"}},
            "learns from Big, and its configuration has DISTILLER.TYPE Vanilla",
        ),
        ({"TA": {"CFG": "teacher.yaml", "SET": KD}}, "DISTILLER.TYPE KD, not NONE; TEACHER names the one"),
        ({"TA": {"CFG": "teacher.yaml", "TEACHER": "TA", "SET": KD}}, "learn from each other: TA <- TA"),
        (
            {"TA": {"MODEL": "small_cnn", "WEIGHTS": "pretrained", "TEACHER": "Big"}},
            "TEACHERS.TA.TEACHER has no effect",
        ),
    ],
)
def test_mistakes(tmp_path, teachers, words):
    file = chained(tmp_path, TEACHERS={**TEACHERS, **teachers})
    with pytest.raises(ConfigError, match=words):
        load_grid(file)


def test_a_runs_folder_stands_for_its_student(tmp_path):
    report = run_grid(chained(tmp_path), prefix=str(tmp_path / "runs"), jobs=1, threads=1)
    folder = report.results["teacher Big"].folder
    cfg = kdbench.load_config({**FAKE, "TEACHER.WEIGHTS": folder})
    assert f"{folder}/student.safetensors" == cfg.TEACHER.WEIGHTS
    given = {"Big": {"MODEL": "small_mixer", "WEIGHTS": folder}}
    grid = load_grid(grid_file(tmp_path, TEACHERS=given, PAIRS=[{"TEACHER": "Big", "STUDENT": "small_cnn"}]))
    assert grid.teachers["Big"].weights == f"{folder}/student.safetensors"
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") == kdbench.load_config({"TEACHER.WEIGHTS": str(tmp_path / "empty")}).TEACHER.WEIGHTS
    assert json.loads(Path(folder, "result.json").read_text())["run_id"] in folder
