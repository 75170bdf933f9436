"""Learning rates as the recipes say, epoch by epoch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import kdbench
from kdbench.engine.training.optimiser.optim import Schedule, build_optimizer, load_optimizer_state, optimizer_state

CPU = torch.device("cpu")


def rates(steps=5, **settings):
    cfg = kdbench.load_config(overrides={f"SOLVER.{k}": v for k, v in settings.items()})
    optimizer = build_optimizer(cfg, nn.Linear(2, 2), CPU)
    schedule = Schedule(cfg, optimizer, steps)
    return [[schedule.set(epoch, step) for step in range(steps)] for epoch in range(1, cfg.SOLVER.EPOCHS + 1)]


def test_mdistiller_steps_after_the_milestone_has_passed():
    table = rates(EPOCHS=240, LR=0.05)
    by_epoch = [row[0] for row in table]
    assert all(min(row) == max(row) for row in table)
    assert by_epoch[149] == 0.05  # epoch 150
    assert by_epoch[150] == pytest.approx(0.005)  # epoch 151: mdistiller compares `epoch > milestone`
    assert by_epoch[180] == pytest.approx(0.0005)
    assert by_epoch[-1] == pytest.approx(0.00005)


def test_cosine_with_warmup_by_epoch():
    by_epoch = [
        row[0] for row in rates(EPOCHS=300, LR=0.05, SCHEDULE="cosine", MIN_LR=1e-3, WARMUP_EPOCHS=3, WARMUP_LR=1e-4)
    ]
    assert by_epoch[0] == pytest.approx(1e-4)
    assert by_epoch[1] == pytest.approx(1e-4 + (0.05 - 1e-4) / 3)
    assert by_epoch[150] == pytest.approx(1e-3 + 0.5 * (0.05 - 1e-3) * (1 + math.cos(math.pi * 150 / 300)))


def test_cosine_by_step():
    table = rates(EPOCHS=4, LR=1.0, SCHEDULE="cosine", SCHEDULE_PER="step")
    flat = [rate for row in table for rate in row]
    expected = [0.5 * (1 + math.cos(math.pi * t / 20)) for t in range(20)]
    assert flat == pytest.approx(expected)


def test_constant():
    assert {rate for row in rates(EPOCHS=3, SCHEDULE="constant", LR=0.2) for rate in row} == {0.2}


def test_sgd_forms():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    plain = build_optimizer(kdbench.load_config(overrides={"SOLVER.WEIGHT_DECAY": 0.1}), module, CPU)
    assert [group["weight_decay"] for group in plain.param_groups] == [0.1]
    assert not plain.param_groups[0]["nesterov"]
    timm_form = build_optimizer(
        kdbench.load_config(overrides={"SOLVER.WEIGHT_DECAY": 0.1, "SOLVER.NESTEROV": True, "SOLVER.DECAY_ALL": False}),
        module,
        CPU,
    )
    assert sorted(group["weight_decay"] for group in timm_form.param_groups) == [0.0, 0.1]
    assert timm_form.param_groups[0]["nesterov"]
    assert isinstance(plain, torch.optim.SGD)


@pytest.mark.parametrize("kind", ["SGD", "ADAM", "ADAMW", "LAMB"])
def test_parameters_may_be_left_out_of_some_steps(kind):
    """One kernel for all parameters does what a loop over them does, whichever have a gradient."""
    cfg = kdbench.load_config(overrides={"SOLVER.TYPE": kind, "SOLVER.LR": 0.1, "SOLVER.WEIGHT_DECAY": 0.01})
    torch.manual_seed(0)
    found = []
    for fused in (True, False):
        torch.manual_seed(1)
        module = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        optimizer = build_optimizer(cfg, module, CPU)
        if not fused:
            for group in optimizer.param_groups:
                group["fused"] = False
            optimizer.state.clear()
        for step in range(4):
            optimizer.zero_grad()
            layers = module if step % 2 else module[:1]
            sum(layer(torch.ones(2, 3)).square().sum() for layer in layers).backward()
            optimizer.step()
        found.append([p.detach().clone() for p in module.parameters()])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["SGD", "ADAMW"])
def test_a_state_of_another_device_is_taken_over(kind):
    """Its rates are numbers, and what it says of its device gives way to what this one takes."""
    cfg = kdbench.load_config(overrides={"SOLVER.TYPE": kind})
    module = nn.Linear(2, 2)
    optimizer = build_optimizer(cfg, module, CPU)
    schedule = Schedule(cfg, optimizer, 1)
    schedule.set(1, 0)
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer_state(optimizer)
    assert all(isinstance(group["lr"], float) for group in state["param_groups"])
    elsewhere = {**state, "param_groups": [{**g, "fused": None, "foreach": True} for g in state["param_groups"]]}
    elsewhere["state"] = {k: {n: v for n, v in s.items() if n != "momentum_buffer"} for k, s in state["state"].items()}
    load_optimizer_state(optimizer, elsewhere)
    assert all(group["fused"] and not group["foreach"] for group in optimizer.param_groups)
    optimizer.step()
