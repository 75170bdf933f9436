"""Grid files: what they stand for, and what is said of mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_grids import grid_file, two_teachers

from kdbench.bench.grids.find import find_grid, folder_of, shipped_grid
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.grids.tasks import make_tasks
from kdbench.cli.main import main
from kdbench.data.build import build_data
from kdbench.engine.parts import make_loader
from kdbench.engine.runtime import Runtime
from kdbench.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"METODS": []}, "did you mean 'METHODS'"),
        ({"METHODS": []}, "expects a list that is not empty"),
        ({"METHODS": ["KD", "KD"]}, "stands twice; give one another LABEL"),
        ({"METHODS": ["KD", "kd"]}, "stands twice; give one another LABEL"),
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
        ({"PAIRS": [{"TEACHER": {"A": 1}, "STUDENT": "small_cnn"}]}, "PAIRS.TEACHER expects a name, got {'A': 1}"),
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
        load_grid(two_teachers(tmp_path, **changes))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_reach_every_cell_and_teacher(tmp_path):
    grid = load_grid(two_teachers(tmp_path), ["SOLVER.EPOCHS=3"])
    assert {cell.cfg.SOLVER.EPOCHS for cell in grid.cells} == {3}
    assert grid.teachers["A"].cfg.SOLVER.EPOCHS == 3


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys):
    file = two_teachers(tmp_path, METHODS=[{"TYPE": 5}])
    for words in ([str(file), "--dry-run"], [str(file), "--smoke"], [str(file)]):
        assert main(["grid", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_grid_is_found_by_its_name_and_the_known_ones_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"no grid 'tabel1' \(did you mean 'table1'\?\); name a \.yaml file, or one of .*quickst"
    ):
        find_grid("tabel1")
    own = tmp_path / "configs" / "grids" / "table1.yaml"  # those of the working directory go first
    own.parent.mkdir(parents=True)
    own.write_text("NAME: mine\n")
    assert find_grid("table1") == str(own)
    assert shipped_grid("table1") == own
    assert shipped_grid("tabel1") is None
    assert folder_of("table1", "runs") == Path("runs/mine")


def test_gains_refer_to_a_method_that_is_there(tmp_path):
    assert load_grid(two_teachers(tmp_path, METHODS=["DKD", "DIST"])).baseline == "DKD"
    assert load_grid(two_teachers(tmp_path)).baseline == "KD"


def test_images_of_a_folder_are_counted(tmp_path):
    for label, count in (("a", 3), ("b", 4)):
        (tmp_path / "images" / "train" / label).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "images" / "train" / label / f"{number}.png").write_bytes(b"")
    data = {"DATASET": {"TYPE": f"folder:{tmp_path / 'images'}", "REPEAT": 2}, "SOLVER": {"EPOCHS": 5}}
    file = grid_file(tmp_path, SET=data, METHODS=["Vanilla"])
    [task] = [task for task in make_tasks(load_grid(file), "runs") if task.cells]
    assert (task.samples, task.images) == (7, 70)
    [task] = [task for task in make_tasks(load_grid(file, ["DATASET.PER_CLASS=2"]), "runs") if task.cells]
    assert task.samples == 4


def test_an_epoch_with_copies_of_its_images_is_no_longer(tmp_path):
    data = {"DATASET": {"TYPE": "fake", "OPTIONS": {"train": 600}, "REPEAT": 2}, "SOLVER": {"EPOCHS": 5}}
    file = grid_file(tmp_path, SET=data, METHODS=["Vanilla"])
    for copies, length in ((0, 1200), (3, 1024)):  # then a multiple of 256
        grid = load_grid(file, [f"DATASET.AUG_REPEATS={copies}"])
        [task] = [task for task in make_tasks(grid, "runs") if task.cells]
        assert (task.samples, task.epoch_length, task.images) == (600, length, 5 * length)
        loader = make_loader(task.cfg, build_data(task.cfg), Runtime(torch.device("cpu")))
        assert len(loader.order(1)) == length
