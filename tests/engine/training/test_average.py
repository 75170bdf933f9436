"""The moving average of weights: warmed up as timm's, so that a short run's average is one of its own weights."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import kdbench
from kdbench.engine.training.optimiser.average import WeightAverage

DIGITS = "configs/digits/student.yaml"
FAST = {"SOLVER.EPOCHS": 4, "SOLVER.WARMUP_EPOCHS": 1, "SOLVER.EVAL_EVERY": 4, "DATASET.NUM_WORKERS": 0}


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_decay_warms_up_to_its_value(decay):
    student = kdbench.create_model("small_cnn", num_classes=3, seed=0)
    average = WeightAverage(student, decay, 10**9)
    expected = student.backbone.fc.bias.detach().clone()
    for step in range(6):
        student.backbone.fc.bias.data.normal_()
        average.update(student, step)
        share = min(decay, 1 - (1 + step) ** (-2 / 3))
        expected = share * expected + (1 - share) * student.backbone.fc.bias.detach()
        torch.testing.assert_close(average.network.backbone.fc.bias, expected)


def test_a_short_run_is_not_averaged_with_its_initial_weights(tmp_path):
    plain = kdbench.train(kdbench.load_config(DIGITS, {**FAST, "LOG.PREFIX": str(tmp_path)}))
    averaged = kdbench.train(kdbench.load_config(DIGITS, {**FAST, "LOG.PREFIX": str(tmp_path), "SOLVER.EMA": 0.9999}))
    assert averaged.top1_last > plain.top1_last - 10
    start = kdbench.create_model("small_cnn", num_classes=10, seed=1).backbone.state_dict()
    ends = [load_file(Path(result.folder) / "student.safetensors") for result in (plain, averaged)]
    moved = [sum(float((end[key] - start[key]).abs().sum()) for key in start if "weight" in key) for end in ends]
    assert moved[1] > 0.3 * moved[0]


@pytest.mark.parametrize(("decay", "said"), [(0.9999, True), (0.9, False)])
def test_a_horizon_beyond_the_run_is_said(tmp_path, caplog, decay, said):
    caplog.set_level(logging.WARNING, "kdbench")
    kdbench.train(kdbench.load_config(DIGITS, {**FAST, "LOG.PREFIX": str(tmp_path), "SOLVER.EMA": decay}))
    warning = (
        "SOLVER.EMA 0.9999 averages over 10000 steps, more than the run's 100: its warm-up holds the decay at 0.9536"
    )
    assert (warning in caplog.text) is said
