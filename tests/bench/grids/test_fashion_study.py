"""The study on Fashion-MNIST: its grid names every method, a cell of it runs from files to page at small size, and what its page
prints is what its rows say."""

from __future__ import annotations

import csv
import gzip
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from inline_pool import InlinePool

import kdbench
from kdbench.bench.comparison.study.page import fill, open_study
from kdbench.bench.grids.grid import is_tuned_label
from kdbench.bench.grids.grid_file import load_grid
from kdbench.bench.pictures.every import plot_study
from kdbench.bench.running.run_grid import run_grid
from kdbench.catalogue import methods
from kdbench.cli.main import main
from kdbench.distillers.base import DataInfo
from kdbench.distillers.create import judge_methods

ROOT = Path.cwd()
GRID = ROOT / "configs" / "grids" / "fashion.yaml"
PAGES = [ROOT / "docs" / "studies" / name for name in ("fashion.md", "fashion-cells.md")]
ROWS, COSTS = (ROOT / "docs" / "studies" / name for name in ("fashion.csv", "fashion-costs.csv"))
PICTURES = ROOT / "docs" / "images" / "fashion"
#: methods of one teacher that no pair of the study defines, as its page says
NOWHERE = {"DEIT", "FSP", "VITKD"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Four official files of an 86th part of the size: stripes whose direction and width are the class."""
    folder = tmp_path_factory.mktemp("fashion")
    rng = np.random.default_rng(0)
    for part, count in (("train", 700), ("t10k", 100)):
        labels = np.arange(count) % 10
        down, right = np.mgrid[0:28, 0:28]
        stripes = np.stack([((down if n % 2 else right) * (1 + n // 2) % 28) for n in range(10)])
        pixels = np.clip(stripes[labels] * 8 + rng.integers(0, 32, (count, 28, 28)), 0, 255).astype(np.uint8)
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels.astype(np.uint8))):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return folder


def cell_of_the_study(folder):
    """The study's own grid with one of its pairs, two of its seeds and three of its methods, tuned with two trials each."""
    tree = yaml.safe_load(GRID.read_text())
    here = GRID.parent
    kept = ["Vanilla", "KD", "HCD"]
    pair = next(pair for pair in tree["PAIRS"] if pair["LABEL"] == "ViT -> CNN")
    tree |= {
        "CFG": str(here / tree["CFG"]),
        "TEACHERS": {"ViT": {"CFG": str(here / tree["TEACHERS"]["ViT"]["CFG"])}},
        "PAIRS": [{**pair, "METHODS": kept}],
        "METHODS": kept,
        "SEEDS": tree["SEEDS"][:2],
        "SET": {"HCD": tree["SET"]["HCD"]},
    }
    space = tree["SWEEP"]["SPACE"]
    tree["SWEEP"] |= {"TRIALS": 2, "SPACE": {name: space[name] for name in ("ALL", *kept)}}
    file = folder / "fashion.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def test_one_cell_of_the_study_from_files_to_page(images, tmp_path, capsys):
    small = ["DATASET.ROOT", str(images), "DATASET.OPTIONS.allow_partial", "True", "DATASET.PER_CLASS", "10"]
    small += ["SOLVER.EPOCHS", "2", "SOLVER.WARMUP_EPOCHS", "0", "SOLVER.EVAL_EVERY", "2"]
    report = run_grid(
        cell_of_the_study(tmp_path), prefix=str(tmp_path / "runs"), overrides=small, pool=InlinePool(), threads=1
    )
    assert not report.failed
    rows = tmp_path / "rows.csv"
    assert main(["table", str(tmp_path / "runs" / "fashion"), "--rows", str(rows)]) == 0
    labels = ["Vanilla", "KD", "HCD", "Vanilla (tuned)", "KD (tuned)", "HCD (tuned)"]
    found = {(row["label"], int(row["seed"])) for row in csv.DictReader(rows.open(newline=""))}
    assert found == {(label, seed) for label in labels for seed in (1, 2)}
    capsys.readouterr()
    assert main(["study", str(rows), "--few", "1"]) == 0
    told = capsys.readouterr().out
    assert "| ViT -> CNN" in told
    assert "another winner with 1 seed " in told


def test_every_method_is_in_the_study_or_said_to_be_nowhere_defined():
    known = methods()
    single = {name for name in known if not known.get(name).several_teachers}
    grid = yaml.safe_load(GRID.read_text())
    assert set(grid["METHODS"]) == single - NOWHERE
    assert set(grid["SWEEP"]["SPACE"]) - {"ALL"} == single - NOWHERE
    design = PAGES[0].read_text()
    assert all(name in design for name in NOWHERE)


def test_a_method_is_left_out_of_a_pair_where_it_is_undefined_and_nowhere_else():
    grid = load_grid(GRID, weights=False, seeds=1)
    info = DataInfo(10, 1000, torch.arange(1000) % 10, 32)
    for pair in grid.pairs:
        cells = {cell.method: cell for cell in grid.cells if cell.pair == pair}
        networks = [cells["KD"].cfg, grid.teachers[cells["KD"].teacher].cfg]
        student, teacher = (
            kdbench.create_model(cfg.DISTILLER.STUDENT, num_classes=10, **cfg.STUDENT.OPTIONS).spec for cfg in networks
        )
        reasons = judge_methods(student, teacher, info)
        run = {name for name in cells if not is_tuned_label(name)}
        assert run == {name for name in grid.methods if not is_tuned_label(name) and not reasons[name]}, pair
        assert all(reasons[method] for method in NOWHERE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_prints_what_its_rows_say(page):
    study = open_study(ROWS, costs=COSTS)
    assert fill(page.read_text(encoding="utf-8"), study) == page.read_text(encoding="utf-8")


def test_the_pictures_of_the_page_are_those_that_its_rows_make(tmp_path):
    made = {file.name for file in plot_study(open_study(ROWS, costs=COSTS), tmp_path)}
    shown = {file.name for file in PICTURES.iterdir()}
    assert shown == made


def test_every_interval_in_the_words_of_the_page_stands_in_its_tables():
    words, *rest = re.split(r"<!-- study: \w+ -->", PAGES[0].read_text(encoding="utf-8"))
    number = r"([+-]\d+\.\d\d)"
    interval = re.compile(rf"{number} \[{number}, {number}\]")
    told = interval.findall(" ".join(words.split()))
    assert len(told) > 10
    assert set(told) <= set(interval.findall("".join(rest)))
