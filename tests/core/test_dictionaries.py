"""Configurations and grids as dictionaries: what a file would hold."""

from __future__ import annotations

import copy

import pytest
import yaml
from inline_pool import InlinePool
from small_grids import FAKE, grid_file

import kdbench
from kdbench.bench.grids.grid_file import load_grid
from kdbench.config.load import to_dict
from kdbench.errors import ConfigError


def test_a_configuration_is_the_one_of_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tree = {**FAKE, "_BASE_": "base.yaml", "DISTILLER": {"STUDENT": "small_cnn"}}
    (tmp_path / "base.yaml").write_text("SOLVER: {MOMENTUM: 0.5}\n")
    (tmp_path / "top.yaml").write_text(yaml.safe_dump(tree))
    before = copy.deepcopy(tree)
    cfg = kdbench.load_config(tree, ["SOLVER.LR=0.5"])
    assert to_dict(cfg) == to_dict(kdbench.load_config("top.yaml", ["SOLVER.LR=0.5"]))
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.LR, cfg.SOLVER.BATCH_SIZE) == (0.5, 0.5, 16)
    assert tree == before  # the caller's own is left as it is
    assert to_dict(kdbench.load_config({"SOLVER.LR": 0.25}).SOLVER)["LR"] == 0.25


@pytest.mark.parametrize(
    ("tree", "part"),
    [
        ({"SOLVER": {"LRR": 1}}, "did you mean 'LR'"),
        ({"SOLVER": 3}, "SOLVER"),
        ({"_BASE_": "nowhere.yaml"}, "no configuration file"),
    ],
)
def test_mistakes_name_the_dictionary(tree, part):
    with pytest.raises(ConfigError) as caught:
        kdbench.load_config(tree)
    assert part in str(caught.value)


def test_a_grid(tmp_path, monkeypatch):
    file = grid_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    tree = yaml.safe_load(file.read_text())
    assert [cell.label for cell in load_grid(tree).cells] == [cell.label for cell in load_grid(file).cells]
    report = kdbench.run_grid(tree, prefix=str(tmp_path / "runs"), pool=InlinePool(), overrides=["TEACHER.FLOOR=0"])
    assert report.ok
    assert len(kdbench.load_results(tmp_path / "runs" / "g")) == 3
    with pytest.raises(ConfigError, match=r"\(dictionary\): PAIRS names the teacher 'B'"):
        load_grid({**tree, "PAIRS": [{"TEACHER": "B", "STUDENT": "small_cnn"}]})
