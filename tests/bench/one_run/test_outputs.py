"""A network's answers, image by image."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_run import settings

import kdbench
from kdbench.bench.one_run.outputs import Outputs
from kdbench.cli.main import main
from kdbench.engine.evaluation import Score


def outputs(probabilities, labels, classes=("a", "b", "c")) -> Outputs:
    logits = np.log(np.asarray(probabilities, dtype=np.float32))
    return Outputs(Score(0.0, 0.0, 0.0, len(labels)), logits, np.asarray(labels), list(classes))


def test_calibration_by_hand():
    """Two images in the bin up to 0.8, one of them right; one in the bin up to 0.6, right."""
    found = outputs([[0.78, 0.12, 0.1], [0.1, 0.78, 0.12], [0.21, 0.2, 0.59]], [0, 0, 2])
    assert found.calibration_error() == pytest.approx((2 * abs(0.5 - 0.78) + abs(1 - 0.59)) / 3)
    sure = outputs([[1 - 2e-7, 1e-7, 1e-7]] * 4, [0, 0, 0, 0])
    assert sure.calibration_error() == pytest.approx(0, abs=1e-6)
    assert sure.calibration_error(1) == pytest.approx(0, abs=1e-6)


def test_classes_and_confusions():
    found = outputs([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]], [0, 0, 1], classes=["a", "b", "c"])
    assert found.per_class() == [("a", 2, 50.0), ("b", 1, 100.0), ("c", 0, None)]
    assert found.confusion().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert found.agreement(outputs([[0.8, 0.1, 0.1]] * 3, [0, 0, 1])) == pytest.approx(100 / 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    teacher = kdbench.train(settings(folder, 1))
    taught = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_cnn", "TEACHER.FLOOR": 0.0}
    weights = {"TEACHER.WEIGHTS": f"{teacher.folder}/student.safetensors"}
    return kdbench.train(settings(folder, 1, **taught, **weights))


def test_the_command(run, tmp_path, capsys):
    assert (
        main(["eval", run.folder, "--json", "--per-class", "--confusion", "--predictions", str(tmp_path / "p.csv")])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["top1"] == run.top1_last
    assert found["images"] == 16
    assert found["teacher_top1"] == run.teacher_top1
    assert sum(entry["images"] for entry in found["per_class"]) == 16
    matrix = np.array(found["confusion"])
    assert 100 * np.trace(matrix) / 16 == pytest.approx(found["top1"])
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert 100 * np.mean([row["right"] == "True" for row in rows]) == pytest.approx(found["top1"])
    assert 100 * np.mean([row["predicted"] == row["teacher"] for row in rows]) == pytest.approx(found["agreement"])
    logits = torch.tensor([float(row["confidence"]) for row in rows])
    assert bool(((logits >= 0.25) & (logits <= 1)).all())
    assert main(["eval", "--run", run.folder, "--per-class", "--confusion"]) == 0
    told = capsys.readouterr().out
    assert f"top-1 {run.top1_last:.2f}" in told
    assert "agrees with its teacher" in told


def test_a_teacher_is_found_beside_its_run_from_any_folder(tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.chdir(tmp_path)
    teacher = kdbench.train(settings("runs", 1))
    named = f"{teacher.folder}/student.safetensors"
    taught = {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_cnn", "TEACHER.FLOOR": 0.0, "TEACHER.WEIGHTS": named}
    run = tmp_path / kdbench.train(settings("runs", 1, **taught)).folder
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["eval", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["teacher_top1"] == teacher.top1_last
    other = load_file(tmp_path / named)
    save_file({name: value + 1 for name, value in other.items()}, tmp_path / named)
    assert main(["eval", str(run), "--json"]) == 0  # it is another network now
    assert "agreement" not in json.loads(capsys.readouterr().out)
    assert f"the teacher's weights {named} are not there" in caplog.text
    assert main(["eval", str(run), "--json", f"TEACHER.WEIGHTS={named}"]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_without_a_teacher(run, tmp_path, capsys):
    alone = kdbench.train(settings(tmp_path, 1))
    assert main(["eval", alone.folder, "--json"]) == 0
    assert "agreement" not in json.loads(capsys.readouterr().out)


def test_what_is_wrong_is_said_before_anything_is_evaluated(run, tmp_path, capsys):
    assert main(["eval", run.folder, "--predictions", str(tmp_path / "p.txt")]) == 2
    assert "expects a name that ends in .csv" in capsys.readouterr().err
    assert main(["eval", run.folder, "--predictions", str(tmp_path / "nowhere" / "p.csv")]) == 2
    assert "cannot be written" in capsys.readouterr().err
