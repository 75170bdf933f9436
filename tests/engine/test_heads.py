"""HEAD: reset, and what an exported student says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import kdbench
from kdbench.errors import ConfigError, ModelError

FAST = {"SOLVER.EPOCHS": 1, "SOLVER.WARMUP_EPOCHS": 0, "DATASET.REPEAT": 1, "DATASET.NUM_WORKERS": 0}


def rewritten(weights: str, folder: Path, **changes) -> str:
    """The file with other metadata."""
    with safe_open(weights, "np") as file:
        header = dict(file.metadata())
    values = {**json.loads(header["kdbench"]), **changes} if "whole" not in changes else changes["whole"]
    target = folder / "changed.safetensors"
    save_file(load_file(weights), target, metadata={**header, "kdbench": json.dumps(values)})
    return str(target)


def config(folder, weights: str, **extra):
    settings = {"LOG.PREFIX": str(folder), "DISTILLER.STUDENT": "small_mixer", "STUDENT.WEIGHTS": weights, **extra}
    return kdbench.load_config("configs/digits/student.yaml", {**FAST, **settings})


def test_a_classifier_for_other_classes_is_dropped_though_it_has_their_number(tmp_path, digits_teacher, caplog):
    other = rewritten(digits_teacher, tmp_path, classes=list("abcdefghij"))
    frozen = {"STUDENT.FREEZE": "backbone", "SOLVER.LR": 0.0, "SOLVER.MIN_LR": 0.0}
    kept = kdbench.train(config(tmp_path / "kept", digits_teacher, **frozen))
    caplog.set_level("INFO", "kdbench")
    fresh = kdbench.train(config(tmp_path / "fresh", other, **frozen, **{"STUDENT.HEAD": "reset"}))
    assert kept.top1_last > 80
    assert fresh.top1_last < 40
    assert "its classifier is for other classes, and is dropped" in caplog.text
    with pytest.raises(ModelError, match="trained on other classes"):
        kdbench.train(config(tmp_path, other))


@pytest.mark.parametrize("change", [{"DATASET.TYPE": "fake", "DATASET.OPTIONS": {"num_classes": 7, "size": 8}}, {}])
def test_an_accuracy_of_a_fresh_classifier_is_not_printed(tmp_path, digits_teacher, change):
    other = digits_teacher if change else rewritten(digits_teacher, tmp_path, classes=list("abcdefghij"))
    cfg = config(tmp_path, other, **{"STUDENT.HEAD": "reset", "DATASET.PER_CLASS": 0, "AUGMENT.PAD": 1, **change})
    with pytest.raises(ConfigError, match=r"STUDENT\.HEAD: reset drops the classifier"):
        kdbench.evaluate(cfg)


def test_nothing_is_learned_from_one_either(tmp_path, digits_teacher):
    other = rewritten(digits_teacher, tmp_path, classes=list("abcdefghij"))
    taught = {
        "DISTILLER.TYPE": "KD",
        "DISTILLER.TEACHER": "small_mixer",
        "TEACHER.WEIGHTS": other,
        "TEACHER.HEAD": "reset",
    }
    cfg = kdbench.load_config("configs/digits/student.yaml", {**FAST, "LOG.PREFIX": str(tmp_path / "runs"), **taught})
    with pytest.raises(ConfigError, match="hold no classifier for 10 classes"):
        kdbench.train(cfg)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"statistics": [[0.3] * 3, [-0.3] * 3]}, "positive std"),
        ({"statistics": [[0.3] * 3, [0.0] * 3]}, "positive std"),
        ({"statistics": [[0.3], [0.3]]}, "positive std"),
        ({"statistics": "x"}, "positive std"),
        ({"statistics": [[float("nan")] * 3, [0.3] * 3]}, "positive std"),
        ({"classes": "0123456789"}, "no list of names"),
        ({"whole": [1]}, "no mapping"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(tmp_path, digits_teacher, changes, told):
    with pytest.raises(ModelError, match=told):
        kdbench.evaluate(config(tmp_path, rewritten(digits_teacher, tmp_path, **changes)))
