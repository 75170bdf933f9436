"""What timm's ``train.py`` stores beside the weights: statistics and size of the input, as timm itself resolves them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import kdbench
from kdbench.data.build import build_data
from kdbench.engine.session.locate import locate
from kdbench.models.weights.read import read_recorded
from kdbench.models.weights.recorded import Recorded, recorded_options
from kdbench.models.zoo import create_model

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)
OFAKD = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
OPEN = {"model": "resnet10t", "mean": None, "std": None, "img_size": None, "input_size": None, "class_map": ""}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, (IMAGENET, 176)),  # resnet10t's own
        ({"img_size": 64}, (IMAGENET, 64)),
        ({"input_size": [3, 48, 48], "img_size": 64}, (IMAGENET, 48)),
        ({"input_size": [3, 48, 32]}, (IMAGENET, 0)),
        ({"mean": [0.5], "std": [0.5] * 3}, (HALF, 176)),
        ({"mean": [0.5] * 3}, ((HALF[0], IMAGENET[1]), 176)),
        ({"model": "vit_small_patch16_224"}, (HALF, 224)),
        ({"model": "vit_small_patch16_224.no_tag"}, (None, 0)),
        ({"model": "of_my_own"}, (None, 0)),
        ({"model": "of_my_own", "mean": (0.5,) * 3, "std": (0.5,) * 3, "img_size": 32}, (HALF, 32)),
        # OFAKD's script overrides everything for CIFAR-100; other forks may, too
        ({"distiller": "kd", "teacher": "", "ofa_eps": [1], "dataset": "cifar100"}, (OFAKD, 176)),
        ({"distiller": "kd", "teacher": "", "ofa_eps": [1], "dataset": "cifar100", "mean": [0.5] * 3}, (OFAKD, 176)),
        ({"distiller": "kd", "teacher": "", "ofa_eps": [1], "dataset": ""}, (IMAGENET, 176)),
        ({"teacher": "resnet50", "dataset": "cifar100"}, (None, 176)),
        ({"teacher": "resnet50", "mean": [0.5] * 3, "std": [0.5] * 3}, (HALF, 176)),
        ({"dataset": "torch/cifar100"}, (IMAGENET, 176)),
        ({"mean": "x", "std": [0, 0, 0], "img_size": "big"}, (None, 0)),
        ({"mean": [0.5, 0.5], "std": [0.5, 0.5, float("nan")], "img_size": True}, (None, 0)),
    ],
)
def test_options_are_resolved_as_timm_does(args: dict[str, Any], expected: tuple[Any, int]) -> None:
    for wrap in (argparse.Namespace, dict):
        found = recorded_options({"args": wrap(**{**OPEN, **args}), "state_dict": {}})
        assert (found.statistics, found.input_size) == expected
    for other in ({}, {"args": None}, {"args": {"lr": 0.1}}, [1]):
        assert recorded_options(other) == Recorded()


def timm_file(path: Path, classes: int = 10, **args: Any) -> str:
    torch.manual_seed(3)
    network = timm.create_model("resnet10t", num_classes=classes)
    options = argparse.Namespace(**{**OPEN, **args})
    torch.save({"arch": "resnet10t", "args": options, "state_dict": network.state_dict(), "version": 2}, path)
    return str(path)


def test_a_network_is_built_as_its_file_says(tmp_path: Path) -> None:
    file = timm_file(tmp_path / "w.pth.tar", mean=[0.5] * 3, std=[0.5] * 3, img_size=64)
    model = create_model("timm:resnet10t", num_classes=10, weights=file, data_size=32)
    assert (model.statistics, model.input_size) == (HALF, (64, 64))
    model = create_model("timm:resnet10t", num_classes=10, weights=file, data_size=32, norm="imagenet", input_size=96)
    assert (model.statistics, model.input_size) == (IMAGENET, (96, 96))
    assert read_recorded(file).model == "resnet10t"


def config(folder: Path, file: str, **extra: Any) -> Any:
    named = {
        "DATASET.TYPE": "digits",
        "DISTILLER.TYPE": "KD",
        "DISTILLER.TEACHER": "timm:resnet10t",
        "DISTILLER.STUDENT": "small_cnn",
        "TEACHER.WEIGHTS": file,
        "LOG.PREFIX": str(folder),
    }
    return kdbench.load_config(overrides={**named, **extra})


def name_of(cfg: Any) -> str:
    return locate(cfg, build_data(cfg))[0].path.name


def test_what_is_found_is_what_could_have_been_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = timm_file(tmp_path / "w.pth.tar", img_size=32)
    with caplog.at_level("INFO", "kdbench"):
        found = name_of(config(tmp_path, file))
    assert 'taking TEACHER.NORM: "imagenet", TEACHER.INPUT_SIZE: 32' in caplog.text
    assert name_of(config(tmp_path, file, **{"TEACHER.NORM": "imagenet", "TEACHER.INPUT_SIZE": 32})) == found
    assert name_of(config(tmp_path, file, **{"TEACHER.NORM": "imagenet"})) == found
    assert name_of(config(tmp_path, file, **{"TEACHER.NORM": "none"})) != found
    own = timm_file(tmp_path / "own.pth.tar", mean=[0.3] * 3, std=[0.4] * 3, img_size=8)
    listed = config(tmp_path, own, **{"TEACHER.NORM": [[0.3] * 3, [0.4] * 3]})
    assert name_of(config(tmp_path, own)) == name_of(listed)
    # a size that is the default one changes no run, and a teacher that is not asked none either
    for settings in ({"TEACHER.NORM": "none"}, {"DISTILLER.TYPE": "NONE", "TEACHER.NORM": "auto"}):
        bare = tmp_path / "bare.pth"
        torch.save(torch.load(own, weights_only=False)["state_dict"], bare)
        names = {name_of(config(tmp_path, str(path), **settings)).rsplit("-", 1)[0] for path in (own, bare)}
        assert len(names) == 1
    plain = {"DISTILLER.TYPE": "NONE"}
    assert name_of(config(tmp_path, own, **plain)) == name_of(config(tmp_path, str(bare), **plain))
