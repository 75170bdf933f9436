"""What a run's folder says of it."""

from __future__ import annotations

import json
import shutil

import pytest
from tiny_run import settings

import kdbench
from kdbench.bench.results.shown import changed_keys, describe, shown_run, sparkline
from kdbench.cli.main import main
from kdbench.config.load import to_dict


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return kdbench.train(settings(tmp_path_factory.mktemp("runs"), 3))


def test_a_finished_run(run, capsys):
    assert main(["show", run.folder]) == 0
    told = capsys.readouterr().out
    for words in (
        run.run_id,
        "state    done",
        f"top-1 {run.top1_last:.2f}",
        "terms    ce ",
        "SOLVER.LR: 0.01",
        "result.json",
    ):
        assert words in told
    assert main(["show", run.folder, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["result"]["top1_last"] == run.top1_last
    assert [line["epoch"] for line in found["curve"]] == [1, 2, 3]
    assert found["changed"]["SOLVER.EPOCHS"] == 3
    assert "SOLVER.MOMENTUM" not in found["changed"]


def test_one_that_is_under_way(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "half")
    (folder / "result.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:2]))
    found = shown_run(folder)
    assert found["state"] == "epoch 2 of 3"
    assert found["result"] is None
    assert describe(found)
    (folder / "metrics.jsonl").unlink()
    assert describe(shown_run(folder))


@pytest.mark.parametrize("damage", ["config.yaml", "metrics.jsonl", "result.json"])
def test_a_damaged_one_is_one_line(run, tmp_path, damage, capsys):
    folder = shutil.copytree(run.folder, tmp_path / "damaged")
    (folder / damage).write_text("{[\n")
    assert main(["show", str(folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_method_from_outside_that_is_not_here(run, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "outside")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("TYPE: NONE", "TYPE: OUTSIDE") + "OUTSIDE: {WEIGHT: 3.0}\n")
    assert shown_run(folder)["changed"]["OUTSIDE.WEIGHT"] == 3.0


def test_only_what_differs_from_a_methods_own_default_is_changed():
    cfg = kdbench.load_config(overrides={"DISTILLER.TYPE": "DKD", "DKD.BETA": 3.0})
    assert {key for key in changed_keys(to_dict(cfg)) if key.startswith("DKD.")} == {"DKD.BETA"}


@pytest.mark.parametrize(("values", "text"), [([1.0], "1.0 ▁ 1.0"), ([0.0, 50.0, 100.0], "0.0 ▁▅█ 100.0")])
def test_a_curve_as_text(values, text):
    assert sparkline(values) == text
    assert len(sparkline([float(i) for i in range(500)])) < 80


@pytest.mark.parametrize("name", ["metrics.jsonl", "student.safetensors"])
def test_what_is_not_what_was_written_is_said(run, tmp_path, name):
    folder = shutil.copytree(run.folder, tmp_path / "changed")
    assert shown_run(folder)["fault"] == ""
    content = bytearray((folder / name).read_bytes())
    (folder / name).write_bytes(content[: len(content) // 2] if name.startswith("student") else b"")
    found = shown_run(folder)
    assert name in found["fault"]
    assert any("fault" in line for line in describe(found))
