"""A given key that acts on nothing is named, with what it takes to act; what is called otherwise is suggested."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import kdbench
from kdbench.bench.grids.grid_file import load_grid
from kdbench.cli.main import main
from kdbench.config.defaults import defaults
from kdbench.config.effects import EFFECTIVE
from kdbench.config.names import SYNONYMS
from kdbench.distillers.base import distillers
from kdbench.errors import ConfigError, ModelError
from kdbench.models.zoo import create_model

CIFAR, FILES = {"DATASET.TYPE": "cifar100"}, {"DATASET.TYPE": "imagenet"}
#: of each key: settings beside which it has no effect, a value, and settings beside which it has one
IDLE: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "DATASET.SUBSET_SEED": ({}, 3, {"DATASET.PER_CLASS": 2}),
    "DATASET.ROOT": ({"DATASET.TYPE": "digits"}, "here", CIFAR),
    "AUGMENT.PAD": ({"AUGMENT.CROP": "rrc"}, 3, {"AUGMENT.CROP": "auto"}),
    "AUGMENT.RRC_SCALE": (CIFAR, [0.5, 1], FILES),
    "AUGMENT.RRC_RATIO": ({"AUGMENT.CROP": "pad"}, [1, 2], {"AUGMENT.CROP": "rrc"}),
    "AUGMENT.INTERPOLATION": (CIFAR, "random", {**CIFAR, "AUGMENT.AUTO": "rand-m9-mstd0.5-inc1"}),
    "AUGMENT.COLOR_JITTER": ({"AUGMENT.AUTO": "rand-m9-mstd0.5-inc1"}, 0.4, {}),
    "AUGMENT.MIXUP_SWITCH": ({"AUGMENT.MIXUP": 0.2}, 0.7, {"AUGMENT.MIXUP": 0.2, "AUGMENT.CUTMIX": 1}),
    "TEACHER.WEIGHTS_EMA": ({"DISTILLER.TYPE": "KD"}, True, {"DISTILLER.TYPE": "KD", "TEACHER.WEIGHTS": "a.pth"}),
    "TEACHER.HEAD": ({"DISTILLER.TYPE": "KD"}, "reset", {"DISTILLER.TYPE": "KD", "TEACHER.WEIGHTS": "a.pth"}),
    "STUDENT.WEIGHTS_EMA": ({}, True, {"STUDENT.WEIGHTS": "a.pth"}),
    "STUDENT.HEAD": ({}, "reset", {"STUDENT.WEIGHTS": "pretrained"}),
    "SOLVER.MOMENTUM": ({"SOLVER.TYPE": "ADAMW"}, 0.8, {"SOLVER.TYPE": "SGD"}),
    "SOLVER.NESTEROV": ({"SOLVER.TYPE": "LAMB"}, True, {}),
    "SOLVER.LR_DECAY_STAGES": ({"SOLVER.SCHEDULE": "cosine"}, [3], {}),
    "SOLVER.LR_DECAY_RATE": ({"SOLVER.SCHEDULE": "constant"}, 0.2, {}),
    "SOLVER.MIN_LR": ({}, 0.001, {"SOLVER.SCHEDULE": "cosine"}),
    "SOLVER.WARMUP_LR": ({}, 0.001, {"SOLVER.WARMUP_EPOCHS": 2}),
    "SOLVER.SCHEDULE_PER": ({"SOLVER.SCHEDULE": "constant"}, "step", {"SOLVER.SCHEDULE": "constant", "SOLVER.WARMUP_EPOCHS": 1}),
    "SOLVER.DOT.DELTA": ({}, 0.05, {"DISTILLER.TYPE": "KD", "SOLVER.TRAINER": "dot"}),
    "SOLVER.BCE_TARGET_THRESH": ({}, 0.2, {"SOLVER.TASK_LOSS": "bce"}),
    "SOLVER.MAX_SKIPPED": ({}, 3, {"SOLVER.NON_FINITE": "skip"}),
    "CACHE.DTYPE": ({}, "fp32", {"CACHE.ENABLED": True, "DISTILLER.TYPE": "KD"}),
    "CACHE.MAX_GB": ({}, 3.0, {"CACHE.ENABLED": True, "DISTILLER.TYPE": "KD"}),
    "CACHE.ENABLED": ({"DISTILLER.TYPE": "NONE"}, True, {"DISTILLER.TYPE": "KD"}),
    "DISTILLER.TEACHER": ({"DISTILLER.TYPE": "Vanilla"}, "resnet56", {"DISTILLER.TYPE": "KD"}),
    "TEACHER.WEIGHTS": ({"DISTILLER.TYPE": "NONE"}, "a.pth", {"DISTILLER.TYPE": "KD"}),
    "DISTILLER.PART_WEIGHTS": ({"DISTILLER.TYPE": "KD"}, [0.5], {"DISTILLER.TYPE": "KD+CRD"}),
    "DISTILLER.PART_CE_WEIGHTS": ({"DISTILLER.TYPE": "KD"}, [0.5], {"DISTILLER.TYPE": "KD+CRD"}),
    "KD.TEMPERATURE": ({"DISTILLER.TYPE": "KD", "KD.LOSS.KD_WEIGHT": 0}, 2.0, {"DISTILLER.TYPE": "KD"}),
    "FITNET.HINT_LAYER": ({"DISTILLER.TYPE": "FITNET", "FITNET.ALL_STAGES": True}, 1, {"DISTILLER.TYPE": "FITNET"}),
    "HCD.PROJ_DIM": ({"DISTILLER.TYPE": "HCD", "DISTILLER.PRESET": "release"}, 64, {"DISTILLER.TYPE": "HCD"}),
    "TEKAP_F.TEMPERATURE": ({"DISTILLER.TYPE": "TEKAP_F"}, 2.0, {"DISTILLER.TYPE": "TEKAP_F", "DISTILLER.PRESET": "both_levels"}),
}  # fmt: skip


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    return [r.getMessage() for r in caplog.records if "has no effect" in r.getMessage() and r.levelno >= level]


@pytest.mark.parametrize("key", IDLE)
def test_a_key_that_acts_on_nothing_is_named(key, caplog):
    beside, value, helping = IDLE[key]
    kdbench.load_config(overrides={**beside, key: value})
    (line,) = told(caplog)
    assert line.startswith(f"override: {key} has no effect: ")
    caplog.clear()
    kdbench.load_config(overrides={**helping, key: value})
    assert told(caplog) == []


def test_every_condition_of_the_tree_is_tried():
    assert set(EFFECTIVE) <= set(IDLE)


def test_conditions_are_about_keys_that_exist():
    known = set(_leaves(defaults()))
    for key, alternatives in EFFECTIVE.items():
        assert {key, *(other for condition in alternatives for other in condition)} <= known
    for name in distillers.names():
        cls = distillers.get(name)
        own = set(_leaves(cls.defaults))
        for key, condition in cls.effective.items():
            assert {key, *(condition if isinstance(condition, dict) else ())} <= own, name


def _leaves(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_a_key_of_another_method_names_the_one_that_was_meant(caplog):
    kdbench.load_config(
        overrides=["DISTILLER.TYPE=DKD", "KD.TEMPERATURE=2", "LSKD.LOSS.CE_WEIGHT=2", "FITNET.HINT_LAYER=1"]
    )
    assert told(caplog) == [
        "override: KD.TEMPERATURE has no effect: DISTILLER.TYPE is DKD, which has keys of its own (did you mean 'DKD.T'?)",
        "override: LSKD.LOSS.CE_WEIGHT has no effect: DISTILLER.TYPE is DKD, which has keys of its own (did you mean "
        "'DKD.CE_WEIGHT'?)",
        "override: FITNET.HINT_LAYER has no effect: DISTILLER.TYPE is DKD, which has keys of its own",
    ]


def test_such_a_run_keeps_its_name(caplog):
    with_key = kdbench.load_config(overrides=["DISTILLER.TYPE=DKD", "KD.TEMPERATURE=2", "SOLVER.MIN_LR=0.0"])
    assert with_key == kdbench.load_config(overrides=["DISTILLER.TYPE=DKD"])


def test_a_word_of_the_command_line_is_named_at_its_default_too(caplog):
    kdbench.load_config(overrides=["CACHE.DTYPE=fp16"])
    kdbench.load_config(overrides={"CACHE.DTYPE": "fp16"})
    assert len(told(caplog)) == 1


def test_of_a_file_its_own_keys_are_named_and_not_its_bases(tmp_path, caplog):
    (tmp_path / "base.yaml").write_text("SOLVER: {MIN_LR: 0.01, LR_DECAY_STAGES: [300]}\nAUGMENT: {PAD: 2}\n")
    (tmp_path / "top.yaml").write_text("_BASE_: base.yaml\nSOLVER: {WARMUP_LR: 0.1}\nKD: {TEMPERATURE: 2}\n")
    with caplog.at_level(logging.INFO, logger="kdbench"):
        kdbench.load_config(tmp_path / "top.yaml", {"DISTILLER.TYPE": "DKD"})
    assert [line.partition(" has")[0] for line in told(caplog)] == [f"{tmp_path}/top.yaml: SOLVER.WARMUP_LR"]
    assert len(told(caplog, logging.INFO)) == 2  # the node of another method is no more than a note


def test_a_teacher_is_frozen_in_any_case(caplog):
    settings = {"DISTILLER.TYPE": "KD", "TEACHER.FREEZE": "backbone"}
    kdbench.load_config(overrides=settings)  # may be for `train_teacher`
    assert told(caplog) == []
    kdbench.load_config(overrides=settings, purpose="train")
    assert "TEACHER.FREEZE has no effect: a teacher is frozen in any case" in told(caplog)[0]


@pytest.mark.parametrize("purpose", ["", "train", "read"])
def test_what_is_read_for_something_else_says_nothing(caplog, purpose):
    kdbench.load_config(overrides=["CACHE.DTYPE=fp32"], purpose=purpose)
    assert bool(told(caplog)) == (purpose != "read")


def test_decay_after_the_end_never_happens(caplog):
    kdbench.load_config(overrides={"SOLVER.EPOCHS": 100, "SOLVER.LR_DECAY_STAGES": [100, 200]})
    assert "none of them comes before the last of SOLVER.EPOCHS=100" in told(caplog)[0]


def test_training_without_a_method_names_the_teacher_that_is_not_used(tmp_path, caplog):
    words = [
        "--cfg",
        "configs/digits/student.yaml",
        f"LOG.PREFIX={tmp_path}",
        "SOLVER.EPOCHS=1",
        "SOLVER.WARMUP_EPOCHS=0",
    ]
    assert main(["train", *words, "--teacher", "small_mixer", "TEACHER.WEIGHTS=a.pth", "--quiet"]) == 0
    error = caplog.text
    assert "DISTILLER.TEACHER has no effect: DISTILLER.TYPE is Vanilla, which learns from no teacher" in error
    assert "TEACHER.WEIGHTS has no effect" in error


@pytest.mark.parametrize("file", sorted(Path("configs").glob("*/*.yaml")), ids=str)
def test_shipped_files_say_nothing_in_vain(file, caplog):
    if "NAME" in yaml.safe_load(file.read_text()):
        load_grid(file, weights=False, networks=False)
    else:
        kdbench.load_config(file)
    assert told(caplog) == []


GRID = """
NAME: g
TEACHERS: {T: {MODEL: small_cnn, WEIGHTS: pretrained}}
PAIRS: [{TEACHER: T, STUDENT: small_cnn}]
METHODS: [Vanilla, KD, {LABEL: D, TYPE: DKD, SET: {RLD.T: 3}}]
SEEDS: [1]
SET: {KD.TEMPERATURE: 2, TEACHER.FLOOR: 0, SOLVER.MIN_LR: 0.1}
"""


def test_a_grid_names_what_acts_on_none_of_its_runs(tmp_path, caplog):
    (tmp_path / "g.yaml").write_text(GRID)
    load_grid(tmp_path / "g.yaml", ["CACHE.DTYPE=fp32", "DKD.BETA=2"])
    assert sorted(line.partition(" has no effect on any run of the grid")[0] for line in told(caplog)) == [
        f"{tmp_path}/g.yaml: RLD.T",
        f"{tmp_path}/g.yaml: SOLVER.MIN_LR",
        "override: CACHE.DTYPE",
    ]


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("DKD.TEMPERATURE", "'T'"),
        ("KD.T", "'TEMPERATURE'"),
        ("KD.CE_WEIGHT", "'LOSS.CE_WEIGHT'"),
        ("DKD.LOSS.CE_WEIGHT", "'CE_WEIGHT'"),
        ("REVIEWKD.WARMUP", "'WARMUP_EPOCHS'"),
        ("RLD.STANDARDIZE", "'LOGIT_STAND'"),
        ("SOLVER.LEARNING_RATE", "'LR'"),
        ("SOLVER.OPTIMIZER", "'TYPE'"),
        ("SOLVER.MILESTONES", "'LR_DECAY_STAGES'"),
        ("TEMPERATURE", "'DKD.T'"),
        ("DISTILLR.TYPE", "'DISTILLER'"),
        ("DKD.BTEA", "'BETA'"),
    ],
)
def test_what_is_called_otherwise_is_suggested(key, near):
    with pytest.raises(ConfigError, match=f"did you mean {near}"):
        kdbench.load_config(overrides={"DISTILLER.TYPE": "DKD", key: 2})


def test_a_word_has_one_meaning():
    words = [word for group in SYNONYMS for word in group]
    assert len(words) == len(set(words))


def test_a_trainer_that_nobody_has_is_refused(caplog):
    with pytest.raises(ConfigError, match=r"SOLVER\.TRAINER: 'nonsense' is none of base, crd, ours, dot, crd_dot"):
        kdbench.load_config(overrides={"SOLVER.TRAINER": "nonsense"})
    assert "ignored" not in caplog.text
    assert kdbench.load_config(overrides={"SOLVER.TRAINER": "crd"}).SOLVER.TRAINER == "crd"


def test_weights_and_statistics_are_asked_for_together(tmp_path):
    settings = {
        "DATASET.TYPE": "digits",
        "DISTILLER.TYPE": "KD",
        "DISTILLER.TEACHER": "small_cnn",
        "LOG.PREFIX": str(tmp_path),
    }
    settings |= {"DISTILLER.STUDENT": "small_cnn"}
    with pytest.raises(
        ConfigError, match=r"add TEACHER\.WEIGHTS=<file> .* TEACHER\.NORM=dataset \(the statistics of digits\)"
    ):
        kdbench.train(kdbench.load_config(overrides=settings))
    with pytest.raises(ConfigError) as caught:
        kdbench.train(kdbench.load_config(overrides={**settings, "TEACHER.NORM": "dataset"}))
    assert "TEACHER.NORM" not in str(caught.value)
    assert not any(tmp_path.iterdir())


def test_statistics_that_a_file_does_not_tell_are_asked_for_by_their_key(tmp_path):
    torch.save(create_model("small_cnn", num_classes=10, seed=0).backbone.state_dict(), tmp_path / "a.pth")
    for role in ("STUDENT", "TEACHER"):
        settings = {
            "DATASET.TYPE": "digits",
            "DISTILLER.STUDENT": "small_cnn",
            f"{role}.WEIGHTS": str(tmp_path / "a.pth"),
        }
        if role == "TEACHER":
            settings |= {"DISTILLER.TYPE": "KD", "DISTILLER.TEACHER": "small_cnn"}
        with pytest.raises(
            ModelError, match=rf"{role}\.NORM is missing: .*a\.pth does not say .* add {role}\.NORM=dataset"
        ):
            kdbench.train(kdbench.load_config(overrides={**settings, "LOG.PREFIX": str(tmp_path / "runs")}))


def test_resume_is_what_happens_anyway(tmp_path, caplog):
    words = [
        "--cfg",
        "configs/digits/student.yaml",
        f"LOG.PREFIX={tmp_path}",
        "SOLVER.EPOCHS=1",
        "SOLVER.WARMUP_EPOCHS=0",
    ]

    def run() -> str:
        caplog.clear()
        assert main(["train", *words, "--resume"]) == 0
        return caplog.text

    first = run()
    assert "--resume: " in first
    assert "has no checkpoint; it starts at epoch 1" in first
    again = run()
    assert "no checkpoint" not in again
    assert "is done already" in again
    (folder,) = tmp_path.glob("Vanilla-*")
    (folder / "result.json").unlink()
    assert "resuming" in run()


def test_the_script_knows_the_word_too():
    done = subprocess.run([sys.executable, "tools/train.py", "--resume"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "kdbench: nothing to do: give --cfg FILE, or overrides KEY=VALUE\n")
