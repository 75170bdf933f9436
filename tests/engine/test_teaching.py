"""``kdbench teacher``: fine-tuning and linear probes, and what their file is good for."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

import kdbench
from kdbench.cli.main import main
from kdbench.engine.train_teacher import teacher_config, weights_of
from kdbench.errors import ConfigError, ModelError

SHORT = {"DATASET.TYPE": "digits", "SOLVER.EPOCHS": 2, "SOLVER.EVAL_EVERY": 2, "SOLVER.SCHEDULE": "constant"}


def config(tmp_path, **changes) -> object:
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return kdbench.load_config(overrides={**SHORT, "LOG.PREFIX": str(tmp_path), **keys})


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    """Weights of a network for other classes."""
    path = tmp_path_factory.mktemp("weights") / "three.pth"
    torch.save(kdbench.create_model("small_cnn", num_classes=3, seed=5).backbone.state_dict(), path)
    return str(path)


def test_the_teacher_of_a_distillation_becomes_the_student() -> None:
    cfg = kdbench.load_config(
        overrides={
            **SHORT,
            "DISTILLER.TYPE": "DKD",
            "DISTILLER.TEACHER": "small_mixer",
            "DISTILLER.STUDENT": "small_cnn",
            "TEACHER.WEIGHTS": "pretrained",
            "TEACHER.INPUT_SIZE": 16,
            "TEACHER.NORM": "none",
            "STUDENT.INPUT_SIZE": 8,
        }
    )
    made = teacher_config(cfg, linear_probe=True)
    assert (made.DISTILLER.TYPE, made.DISTILLER.TEACHER, made.DISTILLER.STUDENT) == ("Vanilla", "", "small_mixer")
    assert (made.STUDENT.WEIGHTS, made.STUDENT.INPUT_SIZE, made.STUDENT.NORM) == ("pretrained", 16, "none")
    assert (made.STUDENT.HEAD, made.STUDENT.FREEZE, made.TEACHER.WEIGHTS) == ("reset", "backbone", "")
    assert "DKD" not in made
    assert cfg.DISTILLER.STUDENT == "small_cnn"


def test_what_cannot_be_trained_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"DISTILLER\.TEACHER is empty"):
        kdbench.train_teacher(config(tmp_path))
    with pytest.raises(ConfigError, match=r"TEACHER\.WEIGHTS is empty"):
        kdbench.train_teacher(config(tmp_path, DISTILLER__TEACHER="small_cnn"), linear_probe=True)
    assert not list(tmp_path.iterdir())


def test_a_probe_trains_the_classifier_and_nothing_else(tmp_path, backbone: str) -> None:
    changes = {"DISTILLER__TEACHER": "small_cnn", "TEACHER__WEIGHTS": backbone, "TEACHER__NORM": "dataset"}
    result = kdbench.train_teacher(config(tmp_path, **changes), linear_probe=True)
    trained, given = load_file(weights_of(result)), torch.load(backbone, weights_only=True)
    assert trained["fc.weight"].shape == (10, 32)
    for key, value in given.items():
        if not key.startswith("fc."):
            assert torch.equal(trained[key], value), key
    tuned = kdbench.train_teacher(config(tmp_path, **changes))
    assert tuned.run_id != result.run_id
    assert not torch.equal(load_file(weights_of(tuned))["stages.0.0.weight"], given["stages.0.0.weight"])


def test_the_command_and_a_run_that_learns_from_it(tmp_path, backbone: str, capsys) -> None:
    words = [f"{key}={value}" for key, value in {**SHORT, "LOG.PREFIX": str(tmp_path / "t")}.items()]
    given = ["--teacher", "small_cnn", f"TEACHER.WEIGHTS={backbone}", "TEACHER.NORM=dataset"]
    assert main(["teacher", "--quiet", "--linear-probe", *given, *words]) == 0
    key = capsys.readouterr().out.splitlines()[-1]
    assert key.startswith("TEACHER.WEIGHTS=")
    cfg = kdbench.load_config(
        overrides={
            **SHORT,
            "DISTILLER.TYPE": "KD",
            "DISTILLER.TEACHER": "small_cnn",
            "DISTILLER.STUDENT": "small_mixer",
            "TEACHER.WEIGHTS": key.partition("=")[2],
            "TEACHER.FLOOR": 0.0,
            "LOG.PREFIX": str(tmp_path / "s"),
        }
    )
    assert kdbench.train(cfg).teacher_top1 is not None


def test_frozen_backbones_stay_in_evaluation_mode() -> None:
    model = kdbench.create_model("wrn_16_2", num_classes=4, seed=0, drop_rate=0.5).train()
    model.freeze_backbone()
    assert model.training
    assert not model.backbone.training
    assert model.backbone.fc.training
    model.eval().train()
    assert {n for n, m in model.backbone.named_modules() if m.training} == {"fc"}
    assert [n for n, p in model.backbone.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    images = torch.rand(2, 3, 32, 32)
    output = model(images)
    assert torch.equal(output.logits, model(images).logits)
    assert not output.penultimate.requires_grad
    output.logits.sum().backward()


def test_a_network_without_classifier_cannot_be_probed() -> None:
    model = kdbench.create_model("timm:resnet10t", num_classes=0, input_size=32)
    with pytest.raises(ModelError, match="no classifier"):
        model.freeze_backbone()
