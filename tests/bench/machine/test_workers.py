"""How a machine is shared out among workers."""

from __future__ import annotations

import pytest
import torch

from kdbench.bench.machine.workers import Workers, plan_workers, visible_gpus


def test_visible_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 6")
    assert visible_gpus() == ["3", "6"]


@pytest.mark.parametrize(
    ("gpus", "cores", "settings", "expected"),
    [
        (0, 8, {}, Workers(8, 1, packed=False, fill=8)),
        (0, 8, {"jobs": 3}, Workers(3, 1, packed=False, fill=3)),
        (0, 8, {"processes": 2}, Workers(4, 1, packed=False, fill=4)),
        (1, 16, {}, Workers(8, 2, packed=True, fill=1)),
        (4, 32, {}, Workers(16, 2, packed=True, fill=4)),
        (8, 4, {}, Workers(8, 1, packed=True, fill=8)),
        (1, 16, {"jobs": 4}, Workers(4, 4, packed=False, fill=4)),
        (1, 16, {"threads": 3}, Workers(8, 3, packed=True, fill=1)),
        (4, 16, {"processes": 2}, Workers(2, 4, packed=False, fill=2)),
        (2, 16, {"pack": False}, Workers(2, 8, packed=False, fill=2)),
        (2, 16, {"tasks": 1}, Workers(1, 16, packed=True, fill=1)),
    ],
)
def test_cores_are_shared_out(monkeypatch, gpus, cores, settings, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("kdbench.bench.machine.workers.cores", lambda: cores)
    assert plan_workers(**{"tasks": 100, **settings}) == expected
