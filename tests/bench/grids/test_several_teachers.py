"""Pairs with several teachers in a grid: trained before the student, in its record, its table and its cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from small_grids import FAKE, grid_file

import kdbench
from kdbench.bench.comparison.table import build_table
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.tasks import make_tasks, write_configs
from kdbench.bench.results.labels import load_blocks
from kdbench.bench.running.run_grid import run_grid
from kdbench.bench.running.smoke import smoke
from kdbench.cli.main import main
from kdbench.errors import ConfigError

TEACHERS = {"A": {"CFG": "teacher.yaml"}, "B": {"CFG": "teacher.yaml", "SET": {"EXPERIMENT.SEED": 7}}}
PAIRS = [
    {"TEACHER": ["A", "B"], "STUDENT": "small_cnn", "METHODS": ["Vanilla", "AVER", "CA_MKD"]},
    {"TEACHER": "A", "STUDENT": "small_cnn", "METHODS": ["Vanilla", "AVER"]},
]


def written(folder, **changes):
    return grid_file(folder, **{"TEACHERS": TEACHERS, "PAIRS": PAIRS, "METHODS": ["AVER"], **changes})


def test_a_pair_learns_from_both_and_the_table_says_so(tmp_path):
    file = written(tmp_path, SET={**FAKE, "CACHE.ENABLED": True, "CA_MKD.LOSS.FEAT_WEIGHT": 0.0})
    report = run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1)
    assert report.ok, report.failed
    a, b = (report.results[f"teacher {name}"] for name in "AB")
    runs = kdbench.load_results(report.folder)
    both = runs[runs.teacher == "small_mixer + small_mixer"]
    assert sorted(both.method) == ["AVER", "CA_MKD"]
    assert set(both.teacher_sha256) == {f"{a.student_sha256} + {b.student_sha256}"}
    table = build_table(report.folder)
    assert table.pairs == ["A + B -> small_cnn", "A -> small_cnn"]
    assert all(table.cells[pair, "AVER"].n == 1 for pair in table.pairs)
    assert table.cells[table.pairs[0], "Vanilla"].n == 1
    frame, _ = load_blocks(report.folder)
    assert any(pair.endswith("small_mixer + small_mixer -> small_cnn") for pair in frame.pair)
    said: list[str] = []
    assert run_grid(file, prefix=str(tmp_path / "runs"), jobs=1, threads=1, announce=said.append).ok
    assert len(said) == 6
    assert all("done before" in line for line in said)
    views = list((tmp_path / "runs").rglob("meta.json"))
    assert len(views) == 2
    assert main(["clean", str(tmp_path / "runs"), "--quiet"]) == 0
    assert all(file.exists() for file in views)


def test_each_teacher_is_part_of_the_key(tmp_path):
    def key(**changes) -> str:
        tasks = make_tasks(load_grid(written(tmp_path, **changes)), "r")
        return next(task.key for task in tasks if task.label.startswith("CA_MKD"))

    other = {**TEACHERS, "B": {"CFG": "teacher.yaml", "SET": {"EXPERIMENT.SEED": 8}}}
    swapped = [{**PAIRS[0], "TEACHER": ["B", "A"]}]
    assert len({key(), key(TEACHERS=other), key(PAIRS=swapped)}) == 3


def test_smoke_dry_run_and_written_configurations(tmp_path, capsys):
    report = smoke(written(tmp_path), jobs=1)
    assert report.ok, report.failed
    assert "CA_MKD A + B -> small_cnn" in report.seconds
    files = write_configs(make_tasks(load_grid(written(tmp_path)), "runs"), tmp_path / "written")
    [text] = [file.read_text() for file in files if file.name.startswith("CA_MKD")]
    assert "the run of teacher A will make; TEACHER.WEIGHTS: the student.safetensors that the run of teacher B" in text
    tree = yaml.safe_load(text)
    assert [entry["MODEL"] for entry in tree["DISTILLER"]["TEACHERS"]] == ["small_mixer"] * 2
    assert main(["grid", str(written(tmp_path)), "--dry-run", "--no-probe", "--prefix", str(tmp_path / "r")]) == 0
    assert "5 cells, 2 teachers: 6 runs (2 of teachers)" in capsys.readouterr().out


def test_given_weights_keep_their_own_keys(tmp_path):
    weights = tmp_path / "w.safetensors"
    run = run_grid(written(tmp_path, PAIRS=PAIRS[1:]), prefix=str(tmp_path / "runs"), jobs=1, threads=1)
    weights.write_bytes(Path(run.results["teacher A"].folder, "student.safetensors").read_bytes())
    given = {"MODEL": "small_mixer", "WEIGHTS": str(weights), "SET": {"TEACHER.NORM": "none"}}
    grid = load_grid(written(tmp_path, TEACHERS={**TEACHERS, "B": given}))
    [task] = [task for task in make_tasks(grid, "r") if task.label.startswith("CA_MKD")]
    first, second = task.config(["a.pth", str(weights)]).DISTILLER.TEACHERS
    assert (first["WEIGHTS"], "NORM" in first) == ("a.pth", False)
    assert (second["WEIGHTS"], second["NORM"]) == (str(weights), "none")
    assert task.asked["teacher"] == "small_mixer + small_mixer"


def test_a_failing_teacher_fails_the_pair(tmp_path):
    wrong = {"DATASET.OPTIONS": {"size": -1, "train": 8, "test": 8, "num_classes": 4}}
    teachers = {**TEACHERS, "B": {"CFG": "teacher.yaml", "SET": wrong}}
    report = run_grid(written(tmp_path, TEACHERS=teachers), prefix=str(tmp_path / "runs"), jobs=1, threads=1)
    assert sum("its teacher B failed" in reason for reason in report.failed.values()) == 2
    record = json.loads(Path(report.folder, "grid.json").read_text())
    assert {cell["network"] for cell in record["cells"]} == {"", "small_mixer", "small_mixer + small_mixer"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"PAIRS": [{"TEACHER": ["A", "C"], "STUDENT": "small_cnn"}]},
            "names the teacher 'C', which is not in TEACHERS",
        ),
        ({"PAIRS": [{"TEACHER": ["A", "A"], "STUDENT": "small_cnn"}]}, "names one of A \\+ A twice"),
        ({"PAIRS": [{"TEACHER": [], "STUDENT": "small_cnn"}]}, "PAIRS.TEACHER"),
        ({"PAIRS": [{"TEACHER": ["A", "B"], "STUDENT": "small_cnn", "METHODS": ["KD"]}]}, "KD learns from one teacher"),
    ],
)
def test_mistakes(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        load_grid(written(tmp_path, **changes))
