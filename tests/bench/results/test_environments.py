"""A comparison of runs that were not made in one environment says so."""

from __future__ import annotations

import json

import pytest
from synthetic_runs import write_run

from kdbench.bench.comparison.report import report
from kdbench.bench.comparison.table import build_table
from kdbench.bench.paper.render import render
from kdbench.bench.paper.table import build_paper_table
from kdbench.bench.results.environments import mixed_environments

HERE = {
    "kdbench": "0.1.0",
    "torch": "2.14.1",
    "device": "cpu",
    "gpu": "",
    "world_size": 1,
    "compile": False,
    "code": "a",
}


def runs(folder, *environments, method="KD", **extra) -> None:
    """A run a seed, each in an environment of its own."""
    for seed, environment in enumerate(environments, 1):
        run = folder / write_run(folder, method=method, seed=seed, top1=90.0 + seed, **extra)
        record = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps({**record, "environment": environment}))


@pytest.mark.parametrize(
    ("fact", "value", "told"),
    [
        ("torch", "2.4.0", "torch 2.14.1 (2 runs), 2.4.0 (1 run)"),
        ("kdbench", "0.2.0", "kdbench 0.1.0 (2 runs), 0.2.0 (1 run)"),
        ("world_size", 2, "processes 1 (2 runs), 2 (1 run)"),
        ("device", "cuda", "devices cpu (2 runs), cuda (1 run)"),
        ("compile", True, "SOLVER.COMPILE False (2 runs), True (1 run)"),
        ("torch", "2.4.0 then 2.14.1", "torch 2.14.1 (2 runs), 2.4.0 then 2.14.1 (1 run)"),
    ],
)
def test_a_cell_over_two_environments_says_so(tmp_path, fact, value, told):
    runs(tmp_path, HERE, {**HERE, fact: value}, HERE)
    expected = f"Runs of different environments are compared: {told}; averaged within t -> s / KD."
    table = build_table(tmp_path)
    assert expected in table.to_markdown()
    assert expected in report(table)


def test_methods_of_two_environments_are_said_too(tmp_path):
    runs(tmp_path, HERE, HERE)
    runs(tmp_path, *[{**HERE, "device": "cuda", "gpu": "A100", "code": "b"}] * 2, method="DKD")
    text = build_table(tmp_path).to_markdown()
    assert "Runs of different environments are compared: devices cpu (2 runs), cuda (2 runs)." in text
    assert "averaged within" not in text


def test_one_environment_and_facts_of_which_nothing_is_known_are_not_worth_a_word(tmp_path):
    runs(tmp_path, HERE, {"torch": "2.14.1"}, {})
    assert "environments" not in build_table(tmp_path).to_markdown()


def test_a_methods_code_counts_within_its_cell_alone():
    same = [("A / KD", {**HERE, "code": "a"}), ("A / DKD", {**HERE, "code": "b"})]
    assert mixed_environments(same) == []
    changed = [*same, ("A / KD", {**HERE, "code": "c"})]
    assert mixed_environments(changed) == ["Runs by different versions of a method's code are averaged: A / KD."]


def test_many_cells_are_counted():
    mixed = [(f"A / {m}", {**HERE, "torch": torch}) for m in "abcde" for torch in ("1", "2")]
    (remark,) = mixed_environments(mixed)
    assert remark.endswith("averaged within A / a, A / b, A / c and 2 more.")


def test_a_paper_table_says_so(tmp_path):
    names = {"teacher": "timm:swin_tiny_patch4_window7_224", "student": "timm:resnet18", "dataset": "cifar100"}
    runs(tmp_path, HERE, {**HERE, "torch": "2.4.0"}, **names)
    for form in ("md", "latex"):
        text = render(build_paper_table(1, tmp_path, source="ours"), form)
        assert "Runs of different environments are compared: torch 2.14.1 (1 run), 2.4.0 (1 run)" in text.replace(
            "\\", ""
        )
