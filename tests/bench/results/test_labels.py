"""Rows and columns of a comparison: data sets and recipes are never averaged, grids below a root are compared as one."""

from __future__ import annotations

import json

import pytest
from synthetic_runs import write_run

from kdbench.bench.comparison.statistics import blocks_needed, smallest_p
from kdbench.bench.comparison.table import build_table
from kdbench.cli.main import main
from kdbench.config.load import load_config
from kdbench.errors import KdbenchError


def config(**changes):
    return load_config(overrides={"DISTILLER.TYPE": "KD", **changes})


def test_data_sets_are_rows_of_their_own(tmp_path):
    write_run(tmp_path, method="KD", seed=1, top1=80.0, dataset="cifar100")
    write_run(tmp_path, method="KD", seed=2, top1=70.0, dataset="imagenet")
    write_run(tmp_path, method="Vanilla", seed=1, top1=75.0, dataset="cifar100")
    table = build_table(tmp_path)
    assert table.pairs == ["t -> s, cifar100", "t -> s, imagenet"]
    assert table.cells["t -> s, cifar100", "KD"].values == {1: 80.0}
    assert ("t -> s, imagenet", "Vanilla") not in table.cells


def test_runs_of_several_recipes_are_no_cell(tmp_path):
    write_run(tmp_path, method="KD", seed=1, top1=80.0, cfg=config(**{"SOLVER.EPOCHS": 300}))
    write_run(tmp_path, method="KD", seed=2, top1=70.0, cfg=config(**{"SOLVER.EPOCHS": 2, "EXPERIMENT.SEED": 2}))
    with pytest.raises(
        KdbenchError, match=r"t -> s / KD was run under several recipes .*SOLVER.EPOCHS 300 and 2"
    ) as caught:
        build_table(tmp_path)
    assert "\n" not in str(caught.value)


def test_seeds_paths_and_devices_are_no_recipe(tmp_path):
    for seed in (1, 2):
        cfg = config(**{"EXPERIMENT.SEED": seed, "DATASET.ROOT": f"/data{seed}", "RUNTIME.THREADS": seed})
        write_run(tmp_path, method="KD", seed=seed, top1=80.0, cfg=cfg)
    assert build_table(tmp_path).cells["t -> s", "KD"].n == 2


def test_gains_pair_runs_of_one_teacher(tmp_path):
    write_run(tmp_path, method="KD", seed=1, top1=80.0)
    write_run(tmp_path, method="KD", seed=2, top1=80.0)
    write_run(tmp_path, method="HCD", seed=1, top1=81.0)
    write_run(tmp_path, method="HCD", seed=2, top1=90.0, teacher_sha256="other")
    table = build_table(tmp_path)
    assert (table.gain("t -> s", "HCD").value, table.gain("t -> s", "HCD").n) == (1.0, 1)
    assert (
        "Runs in these cells had teachers with different weights: t -> s / HCD; gains compare only runs with the same teacher."
        in table.to_markdown()
    )


def grid(root, name, dataset, student, gains, cfg=None):
    """A grid's folder with three methods on one pair, its labels its own."""
    folder, cells = root / name, []
    for label, method in (("Scratch", "Vanilla"), ("KD", "KD"), ("HCD", "HCD")):
        for seed in (1, 2):
            teacher = "" if method == "Vanilla" else "timm:swin_tiny_patch4_window7_224"
            place = {"dataset": dataset, "student": student, "teacher": teacher}
            run = write_run(folder, method=method, seed=seed, top1=70.0 + gains[label], cfg=cfg, **place)
            cells.append({"pair": f"{name}'s pair", "method": label, "seed": seed, "run": run, "error": ""})
    record = {"name": name, "pairs": [f"{name}'s pair"], "methods": ["Scratch", "KD", "HCD"], "baseline": "KD"}
    (folder / "grid.json").write_text(json.dumps({**record, "cells": cells}))


GAINS = {"Scratch": -1.0, "KD": 0.0, "HCD": 2.0}


def test_statistics_over_all_grids_below_a_folder(tmp_path, capsys):
    grid(tmp_path, "table1", "cifar100", "ResNet18", GAINS)
    grid(tmp_path, "table2", "imagenet", "ResNet18", {**GAINS, "HCD": 1.0})
    table = build_table(tmp_path, blocks=True)
    assert table.pairs == ["CIFAR-100: Swin-T -> ResNet18", "ImageNet-1K: Swin-T -> ResNet18"]
    assert table.methods == ["Scratch", "KD", "HCD"]
    assert main(["table", str(tmp_path), "--stats", "--plots", str(tmp_path / "o")]) == 0
    text = capsys.readouterr().out
    assert "| HCD - KD     | 2/0/0" in text
    assert "over 2 of 2 pairs" in text
    assert (tmp_path / "o" / "ranks.png").is_file()


def test_methods_that_share_a_column_of_the_tables_stay_apart_in_a_grid_with_both(tmp_path):
    cells = []
    for method, top1 in (("SDD", 71.0), ("SDD_DKD", 73.0)):
        cfg = load_config(overrides={"DISTILLER.TYPE": method})
        run = write_run(tmp_path / "g", method=method, seed=1, top1=top1, cfg=cfg)
        cells.append({"pair": "p", "method": method, "seed": 1, "run": run, "error": ""})
    record = {"name": "g", "pairs": ["p"], "methods": ["SDD", "SDD_DKD"], "baseline": "KD", "cells": cells}
    (tmp_path / "g" / "grid.json").write_text(json.dumps(record))
    table = build_table(tmp_path, blocks=True)
    assert {method: entry.mean for (_, method), entry in table.cells.items()} == {"SDD": 71.0, "SDD_DKD": 73.0}
    record["cells"] = cells[1:]
    (tmp_path / "g" / "grid.json").write_text(json.dumps(record))
    assert build_table(tmp_path, blocks=True).methods == ["SDD"]  # alone, it fills the tables' column


def test_a_run_of_two_grids_is_one_observation_and_two_recipes_are_refused(tmp_path):
    grid(tmp_path, "table1", "cifar100", "ResNet18", GAINS)
    grid(tmp_path, "table7", "cifar100", "ResNet18", GAINS)
    assert build_table(tmp_path, blocks=True).cells["CIFAR-100: Swin-T -> ResNet18", "KD"].n == 2
    grid(tmp_path / "a", "x", "cifar100", "vgg8", GAINS, config(**{"SOLVER.EPOCHS": 300}))
    folder = tmp_path / "a" / "y"
    run = write_run(
        folder, method="DKD", seed=1, top1=70.0, dataset="cifar100", student="vgg8", teacher="Swin-T", cfg=config()
    )
    cell = {"pair": "p", "method": "DKD", "seed": 1, "run": run, "error": ""}
    record = {"name": "y", "pairs": ["p"], "methods": ["DKD"], "baseline": "KD", "cells": [cell]}
    (folder / "grid.json").write_text(json.dumps(record))
    with pytest.raises(
        KdbenchError, match=r"VGG8 was run under several recipes by the grids.*SOLVER.EPOCHS 300 and 240"
    ):
        build_table(tmp_path / "a", blocks=True)


def test_what_the_tests_can_reach(tmp_path, capsys):
    assert smallest_p(6) == 2 / 64
    assert (blocks_needed(1), blocks_needed(2), blocks_needed(12)) == (6, 7, 9)
    grid(tmp_path, "table1", "cifar100", "ResNet18", GAINS)
    grid(tmp_path, "table2", "imagenet", "ResNet18", GAINS)
    assert main(["table", str(tmp_path), "--stats"]) == 0
    text = capsys.readouterr().out
    assert (
        "of 2 comparisons by 2: with the 2 pairs here no corrected p below 1 can be reached, and p < 0.05 takes 7 pairs"
        in text
    )


def test_an_unknown_baseline_is_refused(tmp_path, capsys):
    write_run(tmp_path, method="KD", seed=1, top1=80.0)
    assert main(["table", str(tmp_path), "--baseline", "KDD"]) == 2
    assert "did you mean 'KD'" in capsys.readouterr().err
