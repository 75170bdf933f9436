"""The measurements run and cover what they name; how fast anything is is no test's business."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import torch
import yaml

import kdbench.bench.speed as speed
from kdbench.bench.speed import cohort, losses, step
from kdbench.config.files import flatten

MATRIX = json.loads((Path(__file__).parents[2] / "conformance" / "matrix.json").read_text(encoding="utf-8"))


def test_every_measurement_has_rounds():
    names = [m.name for m in pkgutil.iter_modules(speed.__path__) if m.name != "timing" and not m.ispkg]
    assert {"cache", "cohort", "data", "wrapper", "losses", "memory", "step"} == set(names)
    for name in names:
        assert "rounds" in importlib.import_module(f"kdbench.bench.speed.{name}").run.__annotations__


def test_steps_of_all_methods_against_kd():
    costs = step.measure_all("small_cnn", "small_vit", batch=8, size=8, rounds=1)
    assert "batch 8, 8x8" in costs["measured"]
    assert set(costs["x KD"]) == {name for name, row in MATRIX.items() if row["vit -> cnn"] == "runs"}
    assert all(value > 0 for value in costs["x KD"].values())
    rows = step.run("small_cnn", "small_vit", batch=4, size=8, rounds=1, methods=("KD",))
    assert [row["step"] for row in rows] == ["floor", "student only", "KD"]


def test_a_cohort_against_its_runs_one_by_one():
    (row,) = cohort.run(rounds=1, teachers=("small_mixer",), methods=("Vanilla", "KD"), epochs=1)
    assert row["methods"] == 2
    assert row["separate s"] >= 0
    assert row["x as fast"] > 0
    grid = yaml.safe_load((Path(__file__).parents[3] / "configs/grids/quickstart.yaml").read_text(encoding="utf-8"))
    assert list(cohort.METHODS) == grid["METHODS"]  # what docs/speed.md says of the quickstart
    given = {setting.key: setting.value for setting in flatten(grid["SET"], "")}
    assert {key: value for extra in cohort.METHODS.values() for key, value in extra.items()} == given


def test_every_loss_is_differentiated():
    for make in (losses._logit_losses, losses._region_losses):
        calls, leaves = make(4, 12)
        rows = losses._rows("small", "KL", calls, leaves, 1)
        assert [row["loss"] for row in rows] == list(calls)
        for call in calls.values():
            leaves[0].grad = None
            call().backward()
            assert torch.isfinite(leaves[0].grad).all()
            assert (leaves[0].grad != 0).any()


def test_contrast_is_measured_against_its_own_products(monkeypatch):
    monkeypatch.setattr(losses, "_CRD", (8, 12, 40, 4))
    rows = losses._contrast_rows(1)
    assert [row["loss"] for row in rows] == ["products", "crd", "gathered products"]
    assert all(row["x base"] > 0 for row in rows)
    calls, leaves = losses._contrast()
    for leaf in leaves:
        leaf.grad = None
    calls["crd"]().backward()
    for leaf in leaves:
        assert torch.isfinite(leaf.grad).all()
